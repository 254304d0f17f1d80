"""Decode the raw outputs of each family of detectors to boxes, scores and classes."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_STRIDES = (8, 16, 32), (8, 16, 32, 64), (16, 32)


class RawBoxes(NamedTuple):
    """All candidates of one picture.

    Attributes:
      box: (K, 4) x1 y1 x2 y2 in pixels of the network's input.
      score: (K,) confidences.
      label: (K,) classes.
    """

    box: np.ndarray
    score: np.ndarray
    label: np.ndarray


def yolox_boxes(table: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Decode (A, 5 + C) offsets from the cells of a grid (YOLOX, arXiv:2107.08430)."""
    corner, stride = grid_cells(size, len(table))
    centre = (table[:, :2] + corner) * stride
    with np.errstate(over='ignore'):  # an infinite box is dropped later
        extent = np.exp(table[:, 2:4]) * stride
    return _with_objectness(centre, extent, table)


def yolov5_boxes(table: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Decode (A, 5 + C) x y w h in pixels, objectness and classes (YOLOv5, v6, v7)."""
    return _with_objectness(table[:, :2], table[:, 2:4], table)


def yolov8_boxes(table: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Decode (4 + C, A) x y w h in pixels and classes (YOLOv8, v9, v11, v12)."""
    return RawBoxes(_corners(table[:2].T, table[2:4].T), *_best_class(table[4:].T))


def yolov10_boxes(table: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Decode (n, 6) x1 y1 x2 y2 in pixels, score and class: an end-to-end export."""
    return RawBoxes(table[:, :4], table[:, 4], table[:, 5])


def sigmoid_boxes(logits: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Decode (Q, C) logits of independent classes and (Q, 4) x y w h in 0-1 (RT-DETR, D-FINE)."""
    with np.errstate(over='ignore'):
        return RawBoxes(_unscaled(box, size), *_best_class(1 / (1 + np.exp(-logits))))


def softmax_boxes(logits: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Decode (Q, C + 1) logits, the last for 'no object', and (Q, 4) x y w h in 0-1 (DETR)."""
    # The maximum is subtracted so that no exponential overflows.
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    share = odds / odds.sum(axis=-1, keepdims=True)
    return RawBoxes(_unscaled(box, size), *_best_class(share[:, :-1]))


def scored_boxes(outputs: Mapping[str, np.ndarray], size: tuple[int, int]) -> RawBoxes:
    """Decode x1 y1 x2 y2 in 0-1, scores and labels (RT-DETR, D-FINE with their last step)."""
    return RawBoxes(outputs['boxes'] * np.tile(size[::-1], 2), outputs['scores'], outputs['labels'])


def grid_cells(size: tuple[int, int], number: int) -> tuple[np.ndarray, np.ndarray]:
    """List the cells of the grids that a YOLO network puts on a picture, finest grid first.

    Returns:
      corner (number, 2) x y in cells, and stride (number, 1) in pixels per cell; both are empty if
      no usual strides give that number of cells.
    """
    # Exports do not state their strides; the number of boxes gives them away.
    for strides in _STRIDES:
        sides = [(size[0] // stride, size[1] // stride) for stride in strides]
        if sum(height * width for height, width in sides) == number:
            corner = [np.indices(side)[::-1].reshape(2, -1).T for side in sides]
            counts = [len(part) for part in corner]
            return np.concatenate(corner), np.repeat(strides, counts)[:, None]
    return np.zeros((0, 2)), np.zeros((0, 1))


def _with_objectness(centre: np.ndarray, extent: np.ndarray, table: np.ndarray) -> RawBoxes:
    score, label = _best_class(table[:, 5:])
    return RawBoxes(_corners(centre, extent), table[:, 4] * score, label)


def _best_class(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return score.max(axis=-1), score.argmax(axis=-1)


def _corners(centre: np.ndarray, extent: np.ndarray) -> np.ndarray:
    return np.concatenate([centre - extent / 2, centre + extent / 2], axis=-1)


def _unscaled(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Convert (Q, 4) x y w h in 0-1 to corners in pixels of a picture of (height, width)."""
    return _corners(box[:, :2], box[:, 2:]) * np.tile(size[::-1], 2)
