"""Find objects with any exported detector."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stg_jax.errors import UserError
from stg_jax.extract.base import Detections
from stg_jax.extract.class_names import beside, by_count, in_metadata
from stg_jax.extract.letterbox import fit_frame, to_frame
from stg_jax.extract.nms import best_detections
from stg_jax.extract.onnx.layouts import LAYOUTS, Layout, Outputs, guess_layout, possible_layouts
from stg_jax.extract.onnx.normalization import find_pixel_scale
from stg_jax.extract.onnx.session import OnnxModel

_SIDE = 640  # pixels, where the file takes any size; what most detectors are trained on


class OnnxDetector:
    """A detector in an ONNX file, read by what its outputs look like.

    | layout        | outputs of a picture                                  | pictures             |
    | ------------- | ----------------------------------------------------- | -------------------- |
    | yolox         | (A, 5 + C): offsets in a grid, objectness, classes    | BGR 0-255, corner    |
    | yolox-decoded | (A, 5 + C): x y w h in pixels, objectness, classes    | BGR 0-255, corner    |
    | yolov5        | the same, of YOLOv5, v6 and v7                        | RGB 0-1, centre      |
    | yolov8        | (4 + C, A): x y w h in pixels, classes; also v9, v11  | RGB 0-1, centre      |
    | yolov10       | (n, 6): x1 y1 x2 y2 in pixels, score, class           | RGB 0-1, centre      |
    | rtdetr        | `logits` (Q, C) and `pred_boxes` (Q, 4), sigmoid; or  | RGB 0-1, stretched   |
    |               | `labels`, `boxes`, `scores`; also D-FINE              |                      |
    | rfdetr        | the same, or `labels` (logits) and `dets`, sigmoid    | ImageNet, stretched  |
    | detr          | `logits` (Q, C + 1) and `pred_boxes` (Q, 4), softmax  | ImageNet, stretched  |

    A is the number of cells of strides 8, 16, 32 (and 64), threefold in YOLOv5 and v7, which is how
    the layouts are told apart. Frames keep their aspect in a corner or in the centre of a grey
    canvas, or are stretched. The pixel scale of the file itself goes first, see
    `onnx_pixels.find_pixel_scale`. Classes are called as the file's metadata say (`names`), else as
    the lines of MODEL.names beside MODEL.onnx do, else as in COCO where there are as many.

    Args:
      path: ONNX file; PATH#LAYOUT names a layout of the table, for what cannot be told.
      min_score: lowest confidence of an object.
      batch_size: frames a batch, unless the file fixes their number.

    Raises:
      UserError: the file cannot be run, or its layout cannot be told.
    """

    def __init__(self, path: str | os.PathLike[str], *, min_score: float, batch_size: int):
        path, name = split_layout(os.fspath(path))
        self._model = OnnxModel(path, batch_size=batch_size, side=_SIDE)
        outputs = self._model.try_out()
        self._layout = LAYOUTS[_choose_layout(self._model, outputs, name)]
        self.class_names = (
            in_metadata(self._model.metadata.get('names', ''))
            or beside(self._model.path)
            or by_count(self._layout.count_classes(outputs))
        )
        self._scale = find_pixel_scale(self._model.path, self._model.metadata, self._layout.scale)
        self._min_score = min_score

    def detect(self, frames: Sequence[np.ndarray], max_objects: int) -> list[Detections]:
        """Return the at most `max_objects` best objects of each frame, see `parts.Detector`."""
        size, layout = self._model.size, self._layout
        fitted = [fit_frame(frame, size, layout.fit) for frame in frames]
        pictures = (canvas for canvas, _ in fitted)
        rows = self._model.run(pictures, scale=self._scale, order=layout.order)
        detections = []
        for (_, place), outputs in zip(fitted, rows, strict=True):
            raw = layout.read(outputs, size)
            detections.append(
                best_detections(
                    to_frame(raw.box, place),
                    raw.score,
                    raw.label,
                    min_score=self._min_score,
                    max_objects=max_objects,
                    max_overlap=layout.max_overlap,
                )
            )
        return detections


def split_layout(path: str) -> tuple[str, str | None]:
    """Split PATH#LAYOUT; a file whose name holds a '#' is a path."""
    before, mark, name = path.rpartition('#')
    return (before, name) if mark and not Path(path).exists() else (path, None)


def _choose_layout(model: OnnxModel, outputs: Outputs, name: str | None) -> str:
    """Return the layout that is named, or else the one that the outputs show."""
    if name is not None and name not in LAYOUTS:
        raise UserError(
            f"{model.path}#{name}: '{name}' is no layout of a detector; there are "
            + ', '.join(LAYOUTS)
        )
    task = model.metadata.get('task', 'detect')
    if task != 'detect':
        raise UserError(f"{model.path} is a model for '{task}': name a detector")
    possible = possible_layouts(outputs, model.size)
    chosen = name or guess_layout(outputs, model.size)
    if chosen in possible:
        _check_confidences(model, LAYOUTS[chosen], outputs)
        return chosen
    found = ', '.join(f'{key} {value.shape}' for key, value in outputs.items()) or 'no batch'
    advice = (
        f'name the layout, PATH#LAYOUT with one of {", ".join(possible)}'
        if possible
        else 'name a detector of a layout that the class OnnxDetector lists'
    )
    raise UserError(
        f'{model.path} gives {found} for a picture, which '
        + (f"is not of layout '{name}': " if name else 'is of no layout that can be told: ')
        + advice
    )


def _check_confidences(model: OnnxModel, layout: Layout, outputs: Outputs) -> None:
    """Refuse tables that only look like boxes: poses, masks, exports without the last step."""
    score = layout.read(outputs, model.size).score
    low, high = score.min(initial=0), score.max(initial=0)
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise UserError(
            f'{model.path} gives scores from {low:.2g} to {high:.2g} for a grey picture, which are '
            'no confidences: name a detector, exported with its last step'
        )
