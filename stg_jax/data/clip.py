"""Refuse a broken clip before it reaches a shard."""

import dataclasses

import numpy as np

from stg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Clip:
    """One captioned clip with the features of T sampled frames and up to N objects per frame.

    Attributes:
      id: unique name of the clip within its data set (untrusted text).
      captions: normalised captions (see `stg_jax.data.text.normalise`), possibly none.
      appearance: (T, C2) float, 2D features of the frames.
      motion: (T, C3) float, 3D features of the seconds around each frame.
      object: (T, N, Co) float, features of the objects; zero where absent.
      box: (T, N, 4) float32, x1 y1 x2 y2 divided by frame width and height, in [0, 1].
      score: (T, N) float32, detector confidence in [0, 1]; zero where absent.
      label: (T, N) int32, detector class; -1 where absent or without classes.
      object_mask: (T, N) bool, True where an object exists.
      true_box: (T, M, 4) float32, boxes known to a renderer (subject and patient of the caption
        first), for tests of grounding only, never model input; M = 0 where nothing is known.
      fps: frames per second of the video, 0 where unknown.
      height: frame height of the video in pixels, 0 where unknown.
      width: frame width of the video in pixels, 0 where unknown.
      grid: (T, G, Cg) float, features of the cells of each frame, row by row; None without them.
      source: the longer video that the clip was cut from (untrusted text), '' where unknown: clips
        of one source in two splits are a leak.
    """

    id: str
    captions: tuple[str, ...]
    appearance: np.ndarray
    motion: np.ndarray
    object: np.ndarray
    box: np.ndarray
    score: np.ndarray
    label: np.ndarray
    object_mask: np.ndarray
    true_box: np.ndarray
    fps: float = 0.0
    height: int = 0
    width: int = 0
    grid: np.ndarray | None = None
    source: str = ''


def no_objects(num_frames: int, num_objects: int, width: int) -> dict[str, np.ndarray]:
    """Make the object arrays of a clip without any object: T, N and Co, see `Clip`."""
    shape = (num_frames, num_objects)
    return {
        'object': np.zeros((*shape, width), np.float32),
        'box': np.zeros((*shape, 4), np.float32),
        'score': np.zeros(shape, np.float32),
        'label': np.full(shape, -1, np.int32),
        'object_mask': np.zeros(shape, bool),
    }


FLOAT16_MAX = 65504.0
_FEATURES = ('appearance', 'motion', 'object', 'grid')
_SHAPED = (*_FEATURES, 'box', 'score', 'label', 'object_mask')


def check_clip(clip: Clip) -> None:
    """Check that the arrays of `clip` agree with each other and with the text of `Clip`.

    Raises:
      UserError: naming the clip, the kind of array and what is wrong with it.
    """
    if not clip.id:
        raise UserError('a clip has an empty id: give every clip a name')
    _check_shapes(clip)
    for kind in _FEATURES:
        if getattr(clip, kind) is not None:
            _check_values(clip.id, kind, getattr(clip, kind))
    _check_objects(clip)


def check_same_shapes(clip: Clip, first: Clip) -> None:
    """Check that `clip` has the frames, objects and widths of the `first` clip of the folder.

    Raises:
      UserError: naming both clips, the kind and both shapes.
    """
    # Records have one schema, and a batch stacks its clips.
    for kind in _SHAPED:
        shape, expected = _shape(clip, kind), _shape(first, kind)
        if shape != expected:
            raise UserError(
                f'clip {clip.id}: {kind} has shape {shape}, but clip {first.id} has {expected}: '
                'all clips of a data folder must have the same shapes'
            )


def _shape(clip: Clip, kind: str) -> tuple[int, ...] | None:
    value = getattr(clip, kind)
    return None if value is None else value.shape


def _check_shapes(clip: Clip) -> None:
    num_frames, num_objects = clip.object_mask.shape
    expected = {
        'appearance': (num_frames, None),
        'motion': (num_frames, None),
        'object': (num_frames, num_objects, None),
        'box': (num_frames, num_objects, 4),
        'score': (num_frames, num_objects),
        'label': (num_frames, num_objects),
        'true_box': (num_frames, None, 4),
    }
    if clip.grid is not None:
        expected['grid'] = (num_frames, None, None)
    for kind, sizes in expected.items():
        shape = getattr(clip, kind).shape
        if len(shape) != len(sizes) or any(
            size not in (None, real) for real, size in zip(shape, sizes, strict=True)
        ):
            wanted = ', '.join('any' if size is None else str(size) for size in sizes)
            raise UserError(f'clip {clip.id}: {kind} has shape {shape}, expected ({wanted})')


def _check_values(clip_id: str, kind: str, values: np.ndarray) -> None:
    # One NaN in one clip makes the loss of a whole batch NaN, days into a training.
    if not np.isfinite(values).all():
        raise UserError(f'clip {clip_id}: {kind} features hold NaN or infinity: extract them again')
    largest = np.abs(values).max(initial=0)
    if largest > FLOAT16_MAX:
        raise UserError(
            f'clip {clip_id}: {kind} features reach {largest:g}, but float16 ends at '
            f'{FLOAT16_MAX:g}: scale the features down'
        )
    # Below 3e-8 a number becomes 0, so a clip would seem to have no features of this kind.
    if largest and not values.astype(np.float16).any():
        raise UserError(
            f'clip {clip_id}: {kind} features reach only {largest:g}, which float16 rounds to 0: '
            'scale the features up'
        )


def _check_objects(clip: Clip) -> None:
    if not ((clip.box >= 0) & (clip.box <= 1)).all():
        raise UserError(
            f'clip {clip.id}: box leaves [0, 1]: divide boxes by frame width and height'
        )
    if (clip.box[..., :2] > clip.box[..., 2:]).any():
        raise UserError(f'clip {clip.id}: box must be x1 y1 x2 y2 with x1 <= x2 and y1 <= y2')
    if not ((clip.score >= 0) & (clip.score <= 1)).all():
        raise UserError(f'clip {clip.id}: score leaves [0, 1]')
    # The model masks absent objects, but statistics over shards count on zeros.
    for kind, empty in (('object', 0), ('score', 0), ('label', -1)):
        if (getattr(clip, kind)[~clip.object_mask] != empty).any():
            raise UserError(f'clip {clip.id}: {kind} must be {empty} where object_mask is False')
