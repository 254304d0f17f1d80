"""The families of detectors in ONNX files: how each wants its pictures, and which one a file is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from stg_jax.extract.letterbox import Fit
from stg_jax.extract.nms import MAX_OVERLAP
from stg_jax.extract.onnx.normalization import BYTES, FRACTIONS, IMAGENET, PixelScale

_STRIDES = (8, 16, 32), (8, 16, 32, 64), (16, 32)


class RawBoxes(NamedTuple):
    """All that a detector says of one picture.

    Attributes:
      box: (K, 4) x1 y1 x2 y2 in pixels of the picture it was given.
      score: (K,) confidences.
      label: (K,) classes.
    """

    box: np.ndarray
    score: np.ndarray
    label: np.ndarray


def yolox_boxes(table: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Read (A, 5 + C) offsets from the cells of a grid (YOLOX, arXiv:2107.08430)."""
    corner, stride = grid_cells(size, len(table))
    centre = (table[:, :2] + corner) * stride
    with np.errstate(over='ignore'):  # an infinite box is dropped later
        extent = np.exp(table[:, 2:4]) * stride
    return _with_objectness(centre, extent, table)


def yolov5_boxes(table: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Read (A, 5 + C) x y w h in pixels, objectness and classes (YOLOv5, v6, v7)."""
    return _with_objectness(table[:, :2], table[:, 2:4], table)


def yolov8_boxes(table: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Read (4 + C, A) x y w h in pixels and classes (YOLOv8, v9, v11, v12)."""
    return RawBoxes(_corners(table[:2].T, table[2:4].T), *_best_class(table[4:].T))


def yolov10_boxes(table: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Read (n, 6) x1 y1 x2 y2 in pixels, score and class: an end-to-end export."""
    return RawBoxes(table[:, :4], table[:, 4], table[:, 5])


def sigmoid_boxes(logits: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Read (Q, C) logits of independent classes and (Q, 4) fractions x y w h (RT-DETR, D-FINE)."""
    with np.errstate(over='ignore'):
        return RawBoxes(_unscaled(box, size), *_best_class(1 / (1 + np.exp(-logits))))


def softmax_boxes(logits: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> RawBoxes:
    """Read (Q, C + 1) logits, the last of 'no object', and (Q, 4) fractions x y w h (DETR)."""
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    share = odds / odds.sum(axis=-1, keepdims=True)
    return RawBoxes(_unscaled(box, size), *_best_class(share[:, :-1]))


def scored_boxes(outputs: Mapping[str, np.ndarray], size: tuple[int, int]) -> RawBoxes:
    """Read boxes x1 y1 x2 y2 as fractions, scores and labels (RT-DETR, D-FINE deployed)."""
    return RawBoxes(outputs['boxes'] * np.tile(size[::-1], 2), outputs['scores'], outputs['labels'])


def grid_cells(size: tuple[int, int], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells of the grids that a YOLO network puts on a picture, finest grid first.

    Returns:
      corner (number, 2) x y in cells, and stride (number, 1) in pixels a cell; both empty where no
      known set of grids has that number of cells.
    """
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
    """Return (Q, 4) fractions x y w h as corners in pixels of a picture of (height, width)."""
    return _corners(box[:, :2], box[:, 2:]) * np.tile(size[::-1], 2)


Outputs = Mapping[str, np.ndarray]  # of one picture, by name


@dataclasses.dataclass(frozen=True)
class Layout:
    """A family of detectors.

    Attributes:
      read: turns the outputs for a picture of (height, width) into boxes.
      fit: how a frame is brought to the picture's size.
      scale: of the pixels, unless the file has its own.
      order: 'rgb' or 'bgr'.
      count_classes: from the outputs for a picture; None where they do not tell.
      max_overlap: see `detections.best_detections`.
    """

    read: Callable[[Outputs, tuple[int, int]], RawBoxes]
    fit: Fit
    scale: PixelScale
    count_classes: Callable[[Outputs], int | None]
    order: str = 'rgb'
    max_overlap: float | None = None


def _from_table(read: Callable[[np.ndarray, tuple[int, int]], RawBoxes]) -> Callable:
    """Return a reader of the only output that is a table."""
    return lambda outputs, size: read(_tables(outputs)[0], size)


def _read_sigmoid(outputs: Outputs, size: tuple[int, int]) -> RawBoxes:
    if 'scores' in outputs:
        return scored_boxes(outputs, size)
    return sigmoid_boxes(*_logits_and_boxes(outputs), size)


def _read_softmax(outputs: Outputs, size: tuple[int, int]) -> RawBoxes:
    return softmax_boxes(*_logits_and_boxes(outputs), size)


def _logits_and_boxes(outputs: Outputs) -> tuple[np.ndarray, np.ndarray]:
    logits, box = next(pair for pair in _PAIRS if pair[0] in outputs)
    return outputs[logits], outputs[box]


def _columns_after(number: int) -> Callable[[Outputs], int]:
    return lambda outputs: _tables(outputs)[0].shape[1] - number


def _logits(outputs: Outputs) -> int | None:
    return None if 'scores' in outputs else _logits_and_boxes(outputs)[0].shape[1]


# The names that exports of Hugging Face and of RF-DETR give to logits and boxes.
_PAIRS = ('logits', 'pred_boxes'), ('labels', 'dets')
LAYOUTS = {
    'yolox': Layout(
        _from_table(yolox_boxes), 'corner', BYTES, _columns_after(5), 'bgr', MAX_OVERLAP
    ),
    'yolox-decoded': Layout(
        _from_table(yolov5_boxes), 'corner', BYTES, _columns_after(5), 'bgr', MAX_OVERLAP
    ),
    'yolov5': Layout(
        _from_table(yolov5_boxes),
        'centre',
        FRACTIONS,
        _columns_after(5),
        max_overlap=MAX_OVERLAP,
    ),
    'yolov8': Layout(
        _from_table(yolov8_boxes),
        'centre',
        FRACTIONS,
        lambda outputs: _tables(outputs)[0].shape[0] - 4,
        max_overlap=MAX_OVERLAP,
    ),
    'yolov10': Layout(_from_table(yolov10_boxes), 'centre', FRACTIONS, lambda outputs: None),
    'rtdetr': Layout(_read_sigmoid, 'stretch', FRACTIONS, _logits),
    'rfdetr': Layout(_read_sigmoid, 'stretch', IMAGENET, _logits),
    'detr': Layout(
        _read_softmax,
        'stretch',
        IMAGENET,
        lambda outputs: _logits(outputs) - 1,  # 'no object'
    ),
}


def possible_layouts(outputs: Outputs, size: tuple[int, int]) -> tuple[str, ...]:
    """Return the names of the layouts that outputs of these names and shapes can have.

    Args:
      outputs: by name, without the batch axis.
      size: height and width of the picture they are for.
    """
    shapes = {name: value.shape for name, value in outputs.items()}
    if {'boxes', 'scores', 'labels'} <= shapes.keys():
        number = shapes['scores']
        fits = shapes['labels'] == number and shapes['boxes'] == (*number, 4)
        return ('rtdetr', 'rfdetr') if fits else ()
    if any(set(pair) <= shapes.keys() for pair in _PAIRS):
        logits, box = (value.shape for value in _logits_and_boxes(outputs))
        fits = len(logits) == 2 and box == (logits[0], 4)
        return ('rtdetr', 'rfdetr', 'detr') if fits else ()
    tables = _tables(outputs)
    return _possible_yolo(*tables[0].shape, size) if len(tables) == 1 else ()


def _possible_yolo(rows: int, columns: int, size: tuple[int, int]) -> tuple[str, ...]:
    anchors = _num_anchors(rows, size) if columns > 5 else 0
    if anchors:
        return ('yolox', 'yolox-decoded', 'yolov5') if anchors == 1 else ('yolov5',)
    if rows > 4 and _num_anchors(columns, size) == 1:
        return ('yolov8',)
    return ('yolov10',) if columns == 6 else ()


def guess_layout(outputs: Outputs, size: tuple[int, int]) -> str | None:
    """Return the layout of outputs for a plain grey picture, None where that is uncertain."""
    possible = possible_layouts(outputs, size)
    if 'yolox' in possible:
        return _guess_grid(_tables(outputs)[0], size)
    if 'logits' in outputs and 'detr' in possible:
        # With COCO the number of classes tells who was exported: DETR counts the unused ids of
        # COCO and 'no object', RT-DETR and D-FINE do not. Of other data sets only the user knows.
        return {92: 'detr', 80: 'rtdetr'}.get(outputs['logits'].shape[-1])
    if 'dets' in outputs and 'rfdetr' in possible:
        return 'rfdetr'
    return possible[0] if possible else None


def _guess_grid(table: np.ndarray, size: tuple[int, int]) -> str:
    """Tell networks with one box a cell apart: their tables have the same shape."""
    # Centres in pixels are spread over the picture; offsets in cells are small everywhere.
    if np.median(table[:, 0]) < size[1] / 4:
        return 'yolox'
    # YOLOv6 has no objectness: its exporter fills the column with ones.
    return 'yolov5' if (table[:, 4] == 1).all() else 'yolox-decoded'


def _num_anchors(number: int, size: tuple[int, int]) -> int:
    """Return how many boxes a cell make that number, 0 where no grid does."""
    for anchors in (1, 3):
        if number % anchors == 0 and len(grid_cells(size, number // anchors)[0]):
            return anchors
    return 0


def _tables(outputs: Outputs) -> list[np.ndarray]:
    return [value for value in outputs.values() if value.ndim == 2]
