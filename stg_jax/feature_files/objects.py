"""Build `Objects` from the arrays of any file, with the same checks for all."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from stg_jax.data.clip import no_objects
from stg_jax.errors import UserError
from stg_jax.feature_files.base import Objects, as_numbers, without_unit_axes


def best_objects(objects: Objects, index_T: np.ndarray, num_objects: int) -> dict[str, np.ndarray]:
    """Choose the best `num_objects` objects of T steps, as the object arrays of a `Clip`.

    Args:
      objects: of S steps.
      index_T: (T,) the steps that represent the frames, see `data.frame_sampling.sample_index`.
      num_objects: N; objects of equal score stay in the file's order.

    Returns:
      `object`, `box`, `score`, `label` and `object_mask`, (T, N, ...), real objects first.
    """
    # Absent objects sort last whatever score the file gives them. The sort is stable: files without
    # scores are often in the order of the detector's confidence.
    score = np.where(objects.mask, objects.score, -np.inf)[index_T]
    order = np.argsort(-score, axis=1, kind='stable')[:, :num_objects]
    arrays = no_objects(len(index_T), num_objects, objects.feature.shape[-1])
    kinds = {'object': 'feature', 'object_mask': 'mask'}
    for name, array in arrays.items():
        values = getattr(objects, kinds.get(name, name))
        array[:, : order.shape[1]] = values[index_T[:, None], order]
    return arrays


# How well keys mean clips, the larger the better: see `datasets.clip_ids.fit`.
Fit = Callable[[Sequence[str]], tuple[int, int]]

_MOST = 1000  # images of one clip; more of one prefix are a collection of pictures
_LAST = 99_999  # largest frame number, an hour of video; larger ones number pictures
_NAME = re.compile(
    r'(?P<clip>.+?)[/_-](?P<marker>(?:frame|image|img)[_-]?)?(?P<frame>[0-9]+)'
    r'(?:\.(?:jpg|jpeg|png))?',
    re.IGNORECASE,
)


def group_images(names: Sequence[str], fit: Fit | None = None) -> dict[str, list[str]]:
    """Group `<clip>_<frame>`, `<clip>-<frame>` and `<clip>/<frame>`: {clip: images by frame}.

    All names are grouped or none, in which case each is a clip with one image.

    Args:
      names: of the images.
      fit: how well either reading fits the annotations. Where both fit equally, and without it,
        the names decide: clips may be numbered as well as frames.
    """
    alone = {name: [name] for name in names}
    found = [_NAME.fullmatch(name) for name in names]
    if not all(found):
        return alone
    groups: dict[str, dict[int, str]] = {}
    for match in filter(None, found):
        groups.setdefault(match['clip'], {})[int(match['frame'])] = match.string
    # Two names with one frame number (7 and 007) are no frames of one clip.
    if sum(map(len, groups.values())) < len(names):
        return alone
    # MSVD clips end in numbers, as frames do: only the annotations know what a name means.
    apart, together = (fit(list(keys)) if fit else (0, 0) for keys in (alone, groups))
    marked = all(match['marker'] for match in filter(None, found))
    if apart > together or (apart == together and not _are_clips(groups, marked)):
        return alone
    return {clip: [images[k] for k in sorted(images)] for clip, images in groups.items()}


def _are_clips(groups: dict[str, dict[int, str]], marked: bool) -> bool:
    """Whether the names look like frames of clips: `video_001` may itself be a clip."""
    # Short runs of small numbers are frames; long runs, or numbers like dates, name pictures.
    small = all(len(images) <= _MOST and max(images) <= _LAST for images in groups.values())
    several = len(groups) > 1 and all(len(images) > 1 for images in groups.values())
    return small and (marked or several)


# Warnings about files of objects.
TIMELESS = 'one step of objects a clip: every frame of a clip gets the same ones'
BOXLESS = 'no boxes: every object gets the whole frame, so that spatial links are uniform'
PERHAPS_FRAMES = (
    'rows are taken for the objects of one frame: if they are frames, pass the file as '
    '--appearance or --motion'
)

SLACK = 0.02  # of the frame's side, by which boxes may stick out through rounding
_LARGEST_LABEL = 2**24  # beyond which float32 no longer counts
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
    """Check the arrays of a clip's objects and bring them to the form of `Objects`.

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
    feature = feature.reshape(without_unit_axes(feature.shape, 3))
    box = _of_rank(box, feature.ndim)
    score, label, mask = (_of_rank(array, feature.ndim - 1) for array in (score, label, mask))
    if feature.ndim == 2:
        feature = feature[None]
        box, score, label, mask = (
            None if array is None else array[None] for array in (box, score, label, mask)
        )
    _check_shapes(where, feature, boxes=box, scores=score, labels=label)
    shape = feature.shape[:2]
    # Networks pad with zeros, and no real feature vector is all zero.
    exists: np.ndarray = np.asarray(feature.any(axis=-1) if mask is None else mask)
    score = np.ones(shape) if score is None else score
    label = np.full(shape, -1) if label is None else label
    return Objects(
        feature=np.where(exists[..., None], feature, np.float32(0)),
        box=_unit_boxes(where, box, exists, height, width),
        score=_scores(where, score, exists),
        label=_labels(where, label, exists),
        mask=exists,
        height=int(height),
        width=int(width),
    )


def stack_steps(steps: Sequence[Objects]) -> Objects:
    """Stack the objects of S pictures as those of a clip, padded to the most of a picture."""
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


def _of_rank(array: np.ndarray | None, rank: int) -> np.ndarray | None:
    """Leave out axes of length 1 where an array has more than `rank` axes; None stays."""
    if array is None:
        return array
    array = np.asarray(array)
    return array.reshape(without_unit_axes(array.shape, rank))


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
    # Pictures of one clip hold different numbers of objects.
    space = [(0, 0)] * array.ndim
    space[1] = (0, most - array.shape[1])
    return np.pad(array, space, constant_values=absent)


def _scores(where: str, score: np.ndarray, mask: np.ndarray) -> np.ndarray:
    score = np.where(mask, as_numbers(score, where), np.float32(0))
    if not ((score >= 0) & (score <= 1)).all():
        raise UserError(f'{where} has scores outside [0, 1]: convert them to probabilities')
    return score


def _labels(where: str, label: np.ndarray, mask: np.ndarray) -> np.ndarray:
    label = np.where(mask, as_numbers(label, where), np.float32(-1))
    if np.abs(label).max(initial=0) > _LARGEST_LABEL:
        raise UserError(f'{where} has classes beyond {_LARGEST_LABEL}: write the file again')
    return label.astype(np.int32)


def _unit_boxes(
    where: str, box: np.ndarray | None, mask: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Scale boxes (S, n, 4) to [0, 1]; they are zero where absent."""
    if box is None:
        return np.where(mask[..., None], np.array([0, 0, 1, 1], np.float32), np.float32(0))
    box = np.where(mask[..., None], as_numbers(box, where), np.float32(0))
    # Files rarely say which unit they use. Boxes in [0, 1] stick out by rounding at most, boxes in
    # pixels reach far beyond 2.
    in_pixels = box.max(initial=0) > _PIXELS
    if in_pixels:
        if not (height and width):
            raise UserError(
                f'{where} has boxes in pixels and no frame size: pass the file that holds the '
                'sizes, clip to (height, width), as --frame_sizes'
            )
        box = box / np.array([width, height, width, height], np.float32)
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
    # Boxes written as x y width height fail here as soon as one is farther from the left edge than
    # it is wide.
    if (box[..., :2] > box[..., 2:]).any():
        raise UserError(f'{where} has boxes that are not x1 y1 x2 y2: convert them')
    return np.clip(box, 0, 1)
