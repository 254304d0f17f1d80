"""Frames as JPEG, in which a long film's fit into memory and into a page."""

import math

import cv2
import numpy as np

_KEPT, _SHOWN = 90, 80  # quality; what is kept may be scaled and encoded once more


def to_jpeg(frame: np.ndarray) -> bytes:
    """Return a picture (h, w, 3) uint8 RGB as a JPEG file."""
    return _encode(frame, _KEPT)


def from_jpeg(jpeg: bytes) -> np.ndarray:
    """Return the picture (h, w, 3) uint8 RGB of a JPEG file."""
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1)[..., ::-1])


def scaled(jpeg: bytes, num_pixels: float, sides: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
    """Return a JPEG file of at most some pixels, and its width and height.

    Args:
      jpeg: the file, never enlarged.
      num_pixels: wanted of all of the picture.
      sides: the least and the most pixels of its longer side, whatever `num_pixels` says.
    """
    frame = from_jpeg(jpeg)
    height, width = frame.shape[:2]
    longer = max(height, width)
    scale = math.sqrt(num_pixels / (height * width))
    scale = min(max(scale, sides[0] / longer), sides[1] / longer, 1)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return _encode(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), _SHOWN), size


def _encode(frame: np.ndarray, quality: int) -> bytes:
    settings = (cv2.IMWRITE_JPEG_QUALITY, quality)
    _, jpeg = cv2.imencode('.jpg', np.ascontiguousarray(frame[..., ::-1]), settings)
    return jpeg.tobytes()
