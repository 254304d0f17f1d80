"""Find objects with an exported detector of any usual family."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stg_jax.errors import UserError
from stg_jax.extract.base import Detections
from stg_jax.extract.class_names import beside, by_count, in_metadata
from stg_jax.extract.letterbox import fit_frame, to_frame
from stg_jax.extract.nms import best_detections
from stg_jax.extract.onnx.boxes import RawBoxes
from stg_jax.extract.onnx.layouts import LAYOUTS, Layout, Outputs, guess_layout, possible_layouts
from stg_jax.extract.onnx.normalization import find_pixel_format
from stg_jax.extract.onnx.session import OnnxModel

# Pixels, if the file takes any size: what most detectors are trained with.
_SIDE = 640
# Pixels. Boxes that all end within the first one or two are fractions of the picture.
_LEAST_SPREAD = 1.5


class OnnxDetector:
    """A detector in an ONNX file, recognised by its outputs.

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
    the layouts are recognised. Of segmentation networks only the boxes are read. Frames keep their
    aspect ratio in a corner or in the centre of a grey canvas, or are stretched. The pixel format
    of the file itself takes precedence, see `normalization.find_pixel_format`. Class names come
    from the file's metadata (`names`), else from the lines of MODEL.names beside MODEL.onnx, else
    they are COCO's if the number of classes fits.

    Attributes:
      model_path: the file.
      pixels: format of the network's input.

    Args:
      path: ONNX file; PATH#LAYOUT names a layout of the table, if the file leaves it open.
      min_score: lowest confidence of an object.
      batch_size: frames per call, unless the file fixes it.

    Raises:
      UserError: the file cannot be run, or its layout is uncertain.
    """

    def __init__(self, path: str | os.PathLike[str], *, min_score: float, batch_size: int):
        path, name = split_layout(os.fspath(path))
        self._model = OnnxModel(path, batch_size=batch_size, free_size=lambda: (_SIDE, _SIDE))
        self._min_score = min_score
        # Exports hardly ever name their layout: the shapes for one picture show it.
        outputs = self._model.try_out()
        names = in_metadata(self._model.metadata.get('names', '')) or beside(self._model.path)
        self._layout = LAYOUTS[_choose_layout(self._model, outputs, name, len(names))]
        self._check(outputs, self._layout.read(outputs, self._model.size))
        self.class_names = names or by_count(self._layout.num_classes(outputs, self._model.size))
        self.model_path = self._model.path
        self.pixels = find_pixel_format(self.model_path, self._model.metadata, self._layout.pixels)

    def detect(self, frames: Sequence[np.ndarray], max_objects: int) -> list[Detections]:
        """See `base.Detector`."""
        size, layout = self._model.size, self._layout
        # Kept for all frames of the call: boxes must be mapped back to the frames.
        fitted = [fit_frame(frame, size, layout.fit) for frame in frames]
        rows = self._model.run((canvas for canvas, _ in fitted), pixels=self.pixels)
        detections = []
        for (_, place), outputs in zip(fitted, rows, strict=True):
            raw = layout.read(outputs, size)
            self._check(outputs, raw)
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

    def _check(self, outputs: Outputs, raw: RawBoxes) -> None:
        """Refuse outputs that only look like the layout: poses, other heads, other units.

        Checked for every picture: an export with its own suppression finds nothing in a grey one.
        """
        path, layout = self._model.path, self._layout
        confidences = layout.confidences(outputs, self._model.size)
        low, high = confidences.min(initial=0), confidences.max(initial=0)
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise UserError(
                f'{path} gives scores from {low:.2g} to {high:.2g}, which are no confidences: name '
                'a detector, exported with its last step'
            )
        box = raw.box[np.isfinite(raw.box).all(-1)] / np.tile(self._model.size[::-1], 2)
        # Sigmoids keep the centre of a box and its sides in 0-1, so corners are in -0.5 to 1.5.
        if not layout.in_pixels and len(box) and not (box.min() > -0.6 and box.max() < 1.6):
            raise UserError(
                f'{path} gives boxes in pixels, of a picture whose size it does not say: export it '
                'with boxes as fractions, or with the input orig_target_sizes'
            )
        found = raw.box[raw.score >= self._min_score]
        if layout.in_pixels and len(found) and 0 < np.abs(raw.box).max() <= _LEAST_SPREAD:
            raise UserError(
                f'{path} gives boxes as fractions of the picture, not in pixels: export it without '
                'normalised boxes'
            )


def split_layout(path: str) -> tuple[str, str | None]:
    """Split PATH#LAYOUT; an existing file whose name contains a '#' is a path."""
    before, mark, name = path.rpartition('#')
    return (before, name) if mark and not Path(path).exists() else (path, None)


def _choose_layout(model: OnnxModel, outputs: Outputs, name: str | None, num_names: int) -> str:
    """Choose the layout that is named, or else the one that the outputs show."""
    if name is not None and name not in LAYOUTS:
        raise UserError(
            f"{model.path}#{name}: '{name}' is not a layout of a detector; there are "
            + ', '.join(LAYOUTS)
        )
    # Ultralytics states the task. Poses and rotated boxes have tables of the same kind.
    task = model.metadata.get('task', 'detect')
    if task not in ('detect', 'segment'):
        raise UserError(f"{model.path} is a model for '{task}': name a detector")
    possible = possible_layouts(outputs, model.size)
    chosen = name or guess_layout(outputs, model.size, num_names)
    if chosen in possible:
        _check_names(model, LAYOUTS[chosen], outputs, num_names)
        return chosen
    found = ', '.join(f'{key} {value.shape}' for key, value in outputs.items()) or 'no batch'
    advice = (
        f'name the layout, PATH#LAYOUT with one of {", ".join(possible)}'
        if possible
        else 'name a detector of a layout that the class OnnxDetector lists'
    )
    raise UserError(
        f'{model.path} gives {found} for a picture, which '
        + (f"is not of layout '{name}': " if name else 'is of no layout that can be recognised: ')
        + advice
    )


def _check_names(model: OnnxModel, layout: Layout, outputs: Outputs, num_names: int) -> None:
    """Refuse a table with more or fewer classes than names: some columns are something else."""
    count = layout.num_classes(outputs, model.size)
    if layout.in_pixels and num_names and count not in (None, num_names):
        raise UserError(
            f'{model.path} has {num_names} class names and scores for {count} classes: name a '
            'detector without further outputs, or mend the names'
        )
