"""Find objects with a detector of Keras Hub."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.errors import UserError
from stg_jax.extract.base import Detections
from stg_jax.extract.class_names import by_count
from stg_jax.extract.keras.preset import (
    KerasProgram,
    compute_in,
    import_keras_hub,
    load_preset,
    picture_format,
)
from stg_jax.extract.letterbox import fit_frame, to_frame
from stg_jax.extract.nms import MAX_OVERLAP, best_detections

# Boxes of a frame before duplicates are dropped: the queries of D-FINE.
_CANDIDATES = 300

Decoder = Callable[[dict[str, jax.Array]], tuple[jax.Array, jax.Array]]


class KerasDetector:
    """A D-FINE or RetinaNet preset of Keras Hub, see `base.Detector`.

    Duplicates are suppressed by `nms.best_detections`: Keras Hub's own suppression ignores classes
    and has a fixed lowest score.

    Args:
      preset: name or folder of an object detector.
      min_score: lowest confidence of an object.
      batch_size: frames per call.
      dtype: 'float32', or 'bfloat16' for the backbone only: boxes need more digits than that.

    Raises:
      UserError: Keras Hub is missing, or the preset cannot be loaded or is another detector.
    """

    def __init__(self, preset: str, *, min_score: float, batch_size: int, dtype: str):
        task: Any = load_preset('ObjectDetector', preset)
        # Boxes are regressed by the head, which stays in float32.
        compute_in(dtype, getattr(task.backbone, 'backbone', task.backbone))
        self._format = picture_format(preset, task.backbone.image_shape)
        decode, self._max_overlap = _find_decoder(task, self._format.size, preset)
        self._min_score = min_score
        self.class_names = by_count(task.num_classes)

        def finish(outputs: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
            return _best_candidates(*decode(outputs))

        self._program = KerasProgram(task, self._format, finish, batch_size=batch_size)

    def detect(self, frames: Sequence[np.ndarray], max_objects: int) -> list[Detections]:
        """See `base.Detector`."""
        places = []

        def fit(frame: np.ndarray) -> np.ndarray:
            picture, place = fit_frame(frame, self._format.size, self._format.fit)
            places.append(place)
            return picture

        candidates = self._program.run(map(fit, frames))
        return [
            best_detections(
                to_frame(box, place),
                score,
                label,
                min_score=self._min_score,
                max_objects=max_objects,
                max_overlap=self._max_overlap,
            )
            for box, score, label, place in zip(*candidates, places, strict=True)
        ]


def _find_decoder(task: Any, size: tuple[int, int], preset: str) -> tuple[Decoder, float | None]:
    """Choose the function from a model's outputs to boxes and class logits, and its max_overlap."""
    models = import_keras_hub().models
    # D-FINE predicts a set and does not repeat itself; RetinaNet needs suppression.
    if isinstance(task, models.DFineObjectDetector):
        return lambda outputs: _decode_d_fine(outputs, size), None
    if isinstance(task, models.RetinaNetObjectDetector):
        return lambda outputs: _decode_retinanet(task, outputs, size), MAX_OVERLAP
    raise UserError(
        f"'{preset}' is a {type(task).__name__}, whose boxes cannot be read here: name a preset of "
        'D-FINE or RetinaNet'
    )


def _decode_d_fine(
    outputs: dict[str, jax.Array], size: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
    """Decode boxes (B, K, 4) x1 y1 x2 y2 in pixels of the picture, and logits (B, K, classes)."""
    centre, extent = jnp.split(outputs['pred_boxes'], 2, axis=-1)
    corners = jnp.concatenate([centre - extent / 2, centre + extent / 2], axis=-1)
    return corners * jnp.tile(jnp.array(size[::-1]), 2), outputs['logits']


def _decode_retinanet(
    task: Any, outputs: dict[str, jax.Array], size: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
    """Decode boxes (B, K, 4) x1 y1 x2 y2 in pixels of the picture, and logits (B, K, classes)."""
    from keras.utils import bounding_boxes

    levels = task.anchor_generator(jnp.zeros((1, *size, 3)))
    box: Any = bounding_boxes.decode_deltas_to_boxes(
        anchors=jnp.concatenate(list(levels.values())),
        boxes_delta=outputs['bbox_regression'],
        anchor_format=task.anchor_generator.bounding_box_format,
        box_format='xyxy',
        encoded_format='center_xywh',
        image_shape=(*size, 3),
    )
    return box, outputs['cls_logits']


def _best_candidates(box: jax.Array, logits: jax.Array) -> tuple[jax.Array, ...]:
    """Select box (B, K, 4), score (B, K) and class (B, K) of each frame's best candidates."""
    # The sigmoid is monotonic, so the best logit is the best score; one sigmoid per box suffices.
    score = jax.nn.sigmoid(logits.astype(jnp.float32).max(axis=-1))
    score, index = jax.lax.top_k(score, min(_CANDIDATES, score.shape[1]))
    label = jnp.take_along_axis(logits.argmax(axis=-1), index, axis=1)
    box = jnp.take_along_axis(box.astype(jnp.float32), index[..., None], axis=1)
    return box, score, label
