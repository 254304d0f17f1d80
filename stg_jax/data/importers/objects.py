"""Build `Objects` from the arrays of any file, with the same checks for all."""

from collections.abc import Sequence

import numpy as np

from stg_jax.data.importers.checks import as_numbers
from stg_jax.data.importers.sources import Objects
from stg_jax.errors import UserError

# Warnings about files of objects.
TIMELESS = 'one step of objects a clip: every frame of a clip gets the same ones'
BOXLESS = 'no boxes: every object gets the whole frame, so that spatial links are uniform'

SLACK = 0.02  # of the frame's side, by which boxes may stick out through rounding
_PIXELS = 2  # where boxes reach farther, they are in pixels


def build_objects(
    where: str,
    feature: np.ndarray,
    box: np.ndarray | None = None,
    *,
    score: np.ndarray | None = None,
    label: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    height: int = 0,
    width: int = 0,
) -> Objects:
    """Return the objects of a clip.

    Args:
      where: file and key, for sentences.
      feature: (S, n, D), or (n, D) where the file has no time; the others lead with the same axes.
      box: (S, n, 4) x1 y1 x2 y2, in pixels or in [0, 1]; the whole frame if None.
      score: (S, n); 1 if None.
      label: (S, n); -1 if None.
      mask: (S, n); objects whose features are all zero are padding if None.
      height: of the frame in pixels, 0 where unknown.
      width: of the frame in pixels, 0 where unknown.

    Raises:
      UserError: shapes disagree, features are not finite, or boxes cannot be brought to [0, 1].
    """
    feature = as_numbers(feature, where)
    if feature.ndim == 2:
        feature = feature[None]
        box, score, label, mask = (
            None if a is None else np.asarray(a)[None] for a in (box, score, label, mask)
        )
    _check_shapes(where, feature, boxes=box, scores=score, labels=label)
    shape = feature.shape[:2]
    mask = feature.any(axis=-1) if mask is None else mask
    score = np.ones(shape) if score is None else score
    label = np.full(shape, -1) if label is None else label
    return Objects(
        feature=np.where(mask[..., None], feature, np.float32(0)),
        box=_unit_boxes(where, box, mask, height, width),
        score=_scores(where, score, mask),
        label=np.where(mask, label, -1).astype(np.int32),
        mask=mask,
        height=int(height),
        width=int(width),
    )


def stack_steps(steps: Sequence[Objects]) -> Objects:
    """Return the objects of S pictures as those of a clip, padded to the most of a picture."""
    most = max(step.mask.shape[1] for step in steps)

    def stack(kind: str, absent: float) -> np.ndarray:
        arrays = [getattr(step, kind) for step in steps]
        return np.concatenate([_pad(array, most, absent) for array in arrays])

    return Objects(
        feature=stack('feature', 0),
        box=stack('box', 0),
        score=stack('score', 0),
        label=stack('label', -1),
        mask=stack('mask', False),
        height=steps[0].height,
        width=steps[0].width,
    )


def _check_shapes(where: str, feature: np.ndarray, **others: np.ndarray | None) -> None:
    if feature.ndim != 3 or not feature.shape[0] or not feature.shape[2]:
        raise UserError(f'{where} has features {feature.shape}, expected (steps, n, D) or (n, D)')
    for name, array in others.items():
        expected = (*feature.shape[:2], 4) if name == 'boxes' else feature.shape[:2]
        if array is not None and array.shape != expected:
            raise UserError(
                f'{where} has features {feature.shape} and {name} {array.shape}, expected '
                f'{name} {expected}'
            )


def _pad(array: np.ndarray, most: int, absent: float) -> np.ndarray:
    space = [(0, 0)] * array.ndim
    space[1] = (0, most - array.shape[1])
    return np.pad(array, space, constant_values=absent)


def _scores(where: str, score: np.ndarray, mask: np.ndarray) -> np.ndarray:
    score = np.where(mask, as_numbers(score, where), np.float32(0))
    if not ((score >= 0) & (score <= 1)).all():
        raise UserError(f'{where} has scores outside [0, 1]: convert them to probabilities')
    return score


def _unit_boxes(
    where: str, box: np.ndarray | None, mask: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Return (S, n, 4) boxes in [0, 1], zero where absent."""
    if box is None:
        return np.where(mask[..., None], np.float32([0, 0, 1, 1]), np.float32(0))
    box = np.where(mask[..., None], as_numbers(box, where), np.float32(0))
    in_pixels = box.max(initial=0) > _PIXELS
    if in_pixels:
        if not (height and width):
            raise UserError(
                f'{where} has boxes in pixels and no frame size: pass the file that holds the '
                'sizes, clip to (height, width), as --frame_sizes'
            )
        box = box / np.float32([width, height, width, height])
    outside = max(-box.min(initial=0), box.max(initial=0) - 1)
    if outside > SLACK and in_pixels:
        raise UserError(
            f'{where} has boxes outside the frame of {width} x {height} pixels: find the size '
            'that they were detected at'
        )
    if outside > SLACK:
        raise UserError(
            f'{where} has boxes that leave the frame by {outside:.0%} of its side: clip them to '
            '[0, 1]'
        )
    if (box[..., :2] > box[..., 2:]).any():
        raise UserError(f'{where} has boxes that are not x1 y1 x2 y2: convert them')
    return np.clip(box, 0, 1)
