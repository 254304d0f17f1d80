"""Fit frames to the input size of a network, and map its boxes back to the frame."""

from typing import Literal

import cv2
import numpy as np

# The grey around the training images of the YOLO family.
_BORDER = 114

# Each family of detectors was trained with one of these.
Fit = Literal['stretch', 'corner', 'centre']


def fit_frame(frame: np.ndarray, size: tuple[int, int], fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Place a frame on a canvas of (height, width) pixels.

    Args:
      frame: (h, w, 3) uint8.
      size: height and width of the canvas.
      fit: 'stretch' fills the canvas; 'corner' and 'centre' keep the aspect ratio and pad with
        grey, below and to the right of the frame or all around it.

    Returns:
      The canvas (*size, 3) uint8, and x y width height of the frame on it in pixels, (4,).
    """
    if fit == 'stretch':
        return resize(frame, size), np.array([0, 0, size[1], size[0]])
    scale = min(size[0] / frame.shape[0], size[1] / frame.shape[1])
    # A frame can be narrower than a pixel of the canvas; OpenCV refuses empty pictures.
    height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
    y, x = ((size[0] - height) // 2, (size[1] - width) // 2) if fit == 'centre' else (0, 0)
    canvas = np.full((*size, 3), _BORDER, np.uint8)
    # Bilinear even for shrinking: the networks were trained and evaluated that way.
    canvas[y : y + height, x : x + width] = cv2.resize(frame, (width, height))
    return canvas, np.array([x, y, width, height])


def resize(frame: np.ndarray, size: tuple[int, int], *, is_sharp: bool = False) -> np.ndarray:
    """Stretch a frame to (height, width); shrinking averages, so that no detail aliases.

    Args:
      frame: (h, w, 3) uint8.
      size: height and width.
      is_sharp: takes the nearest pixel instead, for networks that were trained so.
    """
    # INTER_AREA equals nearest neighbour when it enlarges.
    shrinks = size[0] * size[1] < frame.shape[0] * frame.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # The pixel at the center, as Pillow takes; OpenCV's INTER_NEAREST takes the one at the corner.
    method = cv2.INTER_NEAREST_EXACT if is_sharp else method
    return cv2.resize(frame, (size[1], size[0]), interpolation=method)


def to_frame(box: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Convert boxes from pixels of the canvas to fractions of the frame on it.

    Args:
      box: (K, 4) x1 y1 x2 y2.
      place: of the frame, (4,), see `fit_frame`.
    """
    return (box - np.tile(place[:2], 2)) / np.tile(place[2:], 2)
