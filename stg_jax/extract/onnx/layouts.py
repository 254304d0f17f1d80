"""The families of detectors in ONNX files: how to recognise and read each of them."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from stg_jax.extract.letterbox import Fit
from stg_jax.extract.nms import MAX_OVERLAP
from stg_jax.extract.onnx.boxes import (
    RawBoxes,
    grid_cells,
    scored_boxes,
    sigmoid_boxes,
    softmax_boxes,
    yolov5_boxes,
    yolov8_boxes,
    yolov10_boxes,
    yolox_boxes,
)
from stg_jax.extract.onnx.normalization import BYTES, FRACTIONS, IMAGENET, PixelFormat

Outputs = Mapping[str, np.ndarray]  # of one picture, by name
Size = tuple[int, int]  # height and width of the network's input

# The names that exports of Hugging Face and of RF-DETR give to logits and boxes.
_PAIRS = ('logits', 'pred_boxes'), ('labels', 'dets')


@dataclasses.dataclass(frozen=True)
class Layout:
    """A family of detectors.

    Attributes:
      read: decodes the outputs for one picture.
      confidences: the outputs that must be in 0-1, whatever the picture.
      num_classes: counts the classes; None if the outputs do not tell.
      fit: how a frame is brought to the network's input.
      pixels: format of the pixels, unless the file has its own.
      in_pixels: whether the network's boxes are in pixels, or in 0-1.
      max_overlap: see `nms.best_detections`.
    """

    read: Callable[[Outputs, Size], RawBoxes]
    confidences: Callable[[Outputs, Size], np.ndarray]
    num_classes: Callable[[Outputs, Size], int | None]
    fit: Fit
    pixels: PixelFormat
    in_pixels: bool = True
    max_overlap: float | None = None


def possible_layouts(outputs: Outputs, size: Size) -> tuple[str, ...]:
    """Name the layouts that outputs of these names and shapes can have.

    Args:
      outputs: by name, without the batch axis.
      size: height and width of the picture they are for.
    """
    shapes = {name: value.shape for name, value in outputs.items()}
    if {'boxes', 'scores', 'labels'} <= shapes.keys():
        number = shapes['scores']
        fits = len(number) == 1 and shapes['labels'] == number and shapes['boxes'] == (*number, 4)
        return ('rtdetr', 'rfdetr') if fits else ()
    if any(set(pair) <= shapes.keys() for pair in _PAIRS):
        logits, box = (value.shape for value in _logits_and_boxes(outputs))
        fits = len(logits) == 2 and box == (logits[0], 4)
        return ('rtdetr', 'rfdetr', 'detr') if fits else ()
    if sum(value.ndim == 2 for value in outputs.values()) != 1:
        return ()
    rows, columns = _table(outputs, size).shape
    anchors = _num_anchors(rows, size) if columns > 4 else 0
    if anchors == 1:
        grid = ('yolox', 'yolox-decoded', 'yolov5') if columns > 5 else ()
        return (*grid, 'yolov8')
    if anchors:
        return ('yolov5',) if columns > 5 else ()
    if rows > 4 and _num_anchors(columns, size) == 1:
        return ('yolov8',)
    return ('yolov10',) if columns == 6 else ()


def guess_layout(outputs: Outputs, size: Size, num_names: int) -> str | None:
    """Recognise the layout from the outputs for a plain grey picture; None if it is uncertain.

    Args:
      outputs: see `possible_layouts`.
      size: see `possible_layouts`.
      num_names: of class names that came with the file, 0 without.
    """
    possible = possible_layouts(outputs, size)
    # These four share a shape, so values have to decide.
    if 'yolox' in possible:
        return _guess_grid(_table(outputs, size), size, num_names)
    if 'logits' in outputs and 'detr' in possible:
        # For COCO the number of classes reveals the family: DETR counts the unused category ids and
        # 'no object', RT-DETR and D-FINE do not. For other data sets only the user knows.
        return {92: 'detr', 80: 'rtdetr'}.get(outputs['logits'].shape[-1])
    if 'dets' in outputs and 'rfdetr' in possible:
        return 'rfdetr'
    return possible[0] if possible else None


def _guess_grid(table: np.ndarray, size: Size, num_names: int) -> str | None:
    """Tell networks with one box per cell apart: their tables have the same shape."""
    # Centres in pixels are spread over the picture; offsets in cells are small everywhere.
    if np.median(table[:, 0]) < size[1] / 4:
        return 'yolox'
    # YOLOv6 has no objectness: its exporter fills the column with ones.
    if (table[:, 4] == 1).all():
        return 'yolov5'
    # A transposed YOLOv8 has no objectness either, so its columns are 4 + C instead of 5 + C.
    columns = table.shape[1]
    if num_names:
        return {num_names + 5: 'yolox-decoded', num_names + 4: 'yolov8'}.get(columns)
    # One class with objectness or two without: undecidable. 84 columns are the 80 of COCO.
    return {6: None, 84: 'yolov8'}.get(columns, 'yolox-decoded')


def _num_anchors(number: int, size: Size) -> int:
    """Count the boxes per cell that make `number` boxes, 0 if no grid does."""
    for anchors in (1, 3):
        if number % anchors == 0 and len(grid_cells(size, number // anchors)[0]):
            return anchors
    return 0


def _table(outputs: Outputs, size: Size) -> np.ndarray:
    """Take the only table, without the mask coefficients of a segmentation network.

    These follow the classes, one for each of the prototype masks (m, h, w) of another output.
    Read as classes, they would be the most confident of all.
    """
    (table,) = (value for value in outputs.values() if value.ndim == 2)
    masks = [value for value in outputs.values() if value.ndim == 3]
    if len(masks) != 1:
        return table
    count = len(masks[0])
    return table[:-count] if _is_transposed(table, size) else table[:, :-count]


def _is_transposed(table: np.ndarray, size: Size) -> bool:
    """Check whether the boxes are the columns of a table, as YOLOv8 exports it."""
    return not _num_anchors(table.shape[0], size) and _num_anchors(table.shape[1], size) == 1


def _read_table(decode: Callable[[np.ndarray, Size], RawBoxes]) -> Callable:
    return lambda outputs, size: decode(_table(outputs, size), size)


def _yolov8_table(outputs: Outputs, size: Size) -> np.ndarray:
    table = _table(outputs, size)
    return table if _is_transposed(table, size) else table.T


def _logits_and_boxes(outputs: Outputs) -> tuple[np.ndarray, np.ndarray]:
    logits, box = next(pair for pair in _PAIRS if pair[0] in outputs)
    return outputs[logits], outputs[box]


def _read_sigmoid(outputs: Outputs, size: Size) -> RawBoxes:
    if 'scores' in outputs:
        return scored_boxes(outputs, size)
    return sigmoid_boxes(*_logits_and_boxes(outputs), size)


def _num_logits(outputs: Outputs, size: Size) -> int | None:
    return None if 'scores' in outputs else _logits_and_boxes(outputs)[0].shape[1]


def _scores(outputs: Outputs, size: Size) -> np.ndarray:
    # Logits become confidences whatever they are.
    return outputs.get('scores', np.zeros(0))


def _grid_layout(decode: Callable, fit: Fit, pixels: PixelFormat) -> Layout:
    """Build a layout whose rows are x y w h, objectness and classes."""
    return Layout(
        read=_read_table(decode),
        confidences=lambda outputs, size: _table(outputs, size)[:, 4:],
        num_classes=lambda outputs, size: _table(outputs, size).shape[1] - 5,
        fit=fit,
        pixels=pixels,
        max_overlap=MAX_OVERLAP,
    )


def _set_layout(read: Callable, num_classes: Callable, pixels: PixelFormat) -> Layout:
    """Build a layout of the DETR family, which predicts a set of boxes in 0-1."""
    return Layout(read, _scores, num_classes, 'stretch', pixels, in_pixels=False)


# Fit and pixel format are those of the training code of each family; exports rarely state them.
LAYOUTS = {
    'yolox': _grid_layout(yolox_boxes, 'corner', BYTES._replace(order='bgr')),
    'yolox-decoded': _grid_layout(yolov5_boxes, 'corner', BYTES._replace(order='bgr')),
    'yolov5': _grid_layout(yolov5_boxes, 'centre', FRACTIONS),
    'yolov8': Layout(
        read=lambda outputs, size: yolov8_boxes(_yolov8_table(outputs, size), size),
        confidences=lambda outputs, size: _yolov8_table(outputs, size)[4:],
        num_classes=lambda outputs, size: _yolov8_table(outputs, size).shape[0] - 4,
        fit='centre',
        pixels=FRACTIONS,
        max_overlap=MAX_OVERLAP,
    ),
    'yolov10': Layout(
        read=_read_table(yolov10_boxes),
        confidences=lambda outputs, size: _table(outputs, size)[:, 4],
        num_classes=lambda outputs, size: None,
        fit='centre',
        pixels=FRACTIONS,
    ),
    'rtdetr': _set_layout(_read_sigmoid, _num_logits, FRACTIONS),
    'rfdetr': _set_layout(_read_sigmoid, _num_logits, IMAGENET),
    'detr': _set_layout(
        lambda outputs, size: softmax_boxes(*_logits_and_boxes(outputs), size),
        lambda outputs, size: (_num_logits(outputs, size) or 1) - 1,  # 'no object'
        IMAGENET,
    ),
}
