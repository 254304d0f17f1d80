"""Frames as JPEG files: small enough to keep those of a long film, and to embed in a page."""

import math

import cv2
import numpy as np

# JPEG quality. Kept frames may be scaled and encoded a second time, so they lose less at first.
_KEPT, _SHOWN = 90, 80


def to_jpeg(frame: np.ndarray) -> bytes:
    """Encode a picture (h, w, 3) uint8 RGB."""
    return _encode(frame, _KEPT)


def from_jpeg(jpeg: bytes) -> np.ndarray:
    """Decode to (h, w, 3) uint8 RGB.

    Raises:
      ValueError: the bytes are not a picture.
    """
    frame = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if frame is None:
        raise ValueError('the bytes are not a JPEG picture')
    return np.ascontiguousarray(frame[..., ::-1])  # OpenCV orders channels BGR


def scaled(jpeg: bytes, num_pixels: float, sides: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
    """Scale a JPEG file down to about `num_pixels`; also return its new width and height.

    Args:
      jpeg: the file; it is never enlarged.
      num_pixels: wanted area.
      sides: fewest and most pixels of the longer side, whatever the area.
    """
    frame = from_jpeg(jpeg)
    height, width = frame.shape[:2]
    longer = max(height, width)
    scale = math.sqrt(num_pixels / (height * width))
    # The bounds on the side win over the area: a frame of 20 pixels shows nothing.
    scale = min(max(scale, sides[0] / longer), sides[1] / longer, 1)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return _encode(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), _SHOWN), size


def _encode(frame: np.ndarray, quality: int) -> bytes:
    settings = (cv2.IMWRITE_JPEG_QUALITY, quality)
    _, jpeg = cv2.imencode('.jpg', np.ascontiguousarray(frame[..., ::-1]), settings)
    return jpeg.tobytes()
