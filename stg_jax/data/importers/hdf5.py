"""Features in HDF5 files with one entry per clip name.

Frame features are a dataset (steps, D). Objects are a group with `feats` (steps, n, D), `boxes`
(steps, n, 4: x1 y1 x2 y2 in [0, 1]), `scores` (steps, n) and `labels` (steps, n; -1: no object).
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.data.sampling import sample_index
from stg_jax.errors import UserError

_OBJECT_KEYS = ('feats', 'boxes', 'scores', 'labels')


@dataclasses.dataclass(frozen=True)
class FeatureFiles:
    """The three open files of a data set, and the shape its clips shall have.

    Attributes:
      appearance: 2D features of every clip.
      motion: 3D features; clips may lack them.
      objects: detected objects; clips may lack them.
      num_frames: T, to which every clip is resampled.
      num_objects: N, the most objects of a frame that are kept.
    """

    appearance: h5py.File
    motion: h5py.File
    objects: h5py.File
    num_frames: int
    num_objects: int

    def missing(self, clip_ids: Iterable[str]) -> dict[str, list[str]]:
        """Return the clips without motion features and those without objects, by kind."""
        clip_ids = list(clip_ids)
        of = {'motion': self.motion, 'object': self.objects}
        return {kind: [clip for clip in clip_ids if clip not in of[kind]] for kind in of}

    def read(self, clip_id: str, captions: Sequence[str]) -> Clip:
        """Return a clip; motion is zero and no object present where the files lack the clip.

        Raises:
          UserError: an entry has another layout than this module describes.
        """
        num_frames, num_objects = self.num_frames, self.num_objects
        motion = np.zeros((num_frames, _rows(self.motion).shape[1]), np.float32)
        if clip_id in self.motion:
            motion = read_frames(self.motion, clip_id, num_frames)
        width = _object_group(self.objects)['feats'].shape[2]
        objects, source = no_objects(num_frames, num_objects, width), {}
        if clip_id in self.objects:
            objects = read_objects(self.objects, clip_id, num_frames, num_objects)
            source = self.objects[clip_id].attrs
        return Clip(
            id=clip_id,
            captions=tuple(captions),
            appearance=read_frames(self.appearance, clip_id, num_frames),
            motion=motion,
            true_box=np.zeros((num_frames, 0, 4), np.float32),
            height=int(source.get('height', 0)),
            width=int(source.get('width', 0)),
            **objects,
        )


@contextlib.contextmanager
def open_features(
    appearance: str, motion: str, objects: str, *, num_frames: int, num_objects: int
) -> Iterator[FeatureFiles]:
    """Open the three files for reading.

    Raises:
      UserError: a file is missing, is not HDF5, or holds no clip.
    """
    with _open(appearance) as a, _open(motion) as m, _open(objects) as o:
        yield FeatureFiles(a, m, o, num_frames, num_objects)


def read_frames(file: h5py.File, clip_id: str, num_frames: int) -> np.ndarray:
    """Return (T, D) float32 features of a clip, resampled to T frames.

    Raises:
      UserError: the entry is not (steps, D).
    """
    return resample(_rows(file, clip_id)[:].astype(np.float32), num_frames)


def resample(steps: np.ndarray, num_frames: int) -> np.ndarray:
    """Resample (S, D) to (T, D): means of T equal segments if S > T, else the step at each centre.

    A step that lies in two segments counts in both by its share.
    """
    num_steps = len(steps)
    if num_steps <= num_frames:
        return steps[sample_index(num_steps, num_frames)]
    edge = np.arange(num_frames + 1) * (num_steps / num_frames)
    step = np.arange(num_steps)
    share = np.minimum(edge[1:, None], step + 1) - np.maximum(edge[:-1, None], step)
    share = np.maximum(share, 0)
    return (share / share.sum(axis=1, keepdims=True) @ steps).astype(steps.dtype)


def read_objects(
    file: h5py.File, clip_id: str, num_frames: int, num_objects: int
) -> dict[str, np.ndarray]:
    """Return the object arrays of a `Clip`: the best `num_objects` of T frames, by score.

    Raises:
      UserError: the group lacks a dataset, or their shapes do not agree.
    """
    group = _object_group(file, clip_id)
    index = sample_index(len(group['feats']), num_frames)
    feats, boxes, scores, labels = (group[key][:][index] for key in _OBJECT_KEYS)
    mask = labels >= 0
    order = np.argsort(np.where(mask, -scores.astype(np.float32), np.inf), axis=1, kind='stable')
    order = order[:, :num_objects]
    mask = _pad(np.take_along_axis(mask, order, axis=1), num_objects, False)

    def arrange(values: np.ndarray, dtype: type, absent: float) -> np.ndarray:
        picked = values[np.arange(num_frames)[:, None], order].astype(dtype)
        picked = _pad(picked, num_objects, absent)
        return np.where(mask.reshape(mask.shape + (1,) * (picked.ndim - 2)), picked, dtype(absent))

    return {
        'object': arrange(feats, np.float32, 0),
        'box': arrange(boxes, np.float32, 0),
        'score': arrange(scores, np.float32, 0),
        'label': arrange(labels, np.int32, -1),
        'object_mask': mask,
    }


def no_objects(num_frames: int, num_objects: int, width: int) -> dict[str, np.ndarray]:
    """Return the object arrays of a clip without any object."""
    shape = (num_frames, num_objects)
    return {
        'object': np.zeros((*shape, width), np.float32),
        'box': np.zeros((*shape, 4), np.float32),
        'score': np.zeros(shape, np.float32),
        'label': np.full(shape, -1, np.int32),
        'object_mask': np.zeros(shape, bool),
    }


@contextlib.contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    if not Path(path).is_file():
        raise UserError(f'the features file {path} does not exist')
    try:
        file = h5py.File(path)
    except OSError as error:
        raise UserError(f'{path} is not a complete HDF5 file ({error})') from None
    with file:
        if not len(file):
            raise UserError(f'{path} holds no clip')
        yield file


def _pad(values: np.ndarray, num_objects: int, absent: float) -> np.ndarray:
    space = [(0, 0)] * values.ndim
    space[1] = (0, num_objects - values.shape[1])
    return np.pad(values, space, constant_values=absent)


def _rows(file: h5py.File, clip_id: str | None = None) -> h5py.Dataset:
    """Return the frame features of a clip, of any clip by default."""
    clip_id = clip_id or next(iter(file))
    rows = file[clip_id]
    if not isinstance(rows, h5py.Dataset) or rows.ndim != 2 or not len(rows):
        found = f'shape {rows.shape}' if isinstance(rows, h5py.Dataset) else 'a group'
        raise UserError(f'{file.filename}: {clip_id} must be a dataset (steps, D), found {found}')
    return rows


def _object_group(file: h5py.File, clip_id: str | None = None) -> h5py.Group:
    """Return the objects of a clip, of any clip by default."""
    clip_id = clip_id or next(iter(file))
    group = file[clip_id]
    if not isinstance(group, h5py.Group):
        raise UserError(
            f'{file.filename}: {clip_id} must be a group with {", ".join(_OBJECT_KEYS)}'
        )
    lacking = [key for key in _OBJECT_KEYS if key not in group]
    if lacking:
        raise UserError(f'{file.filename}: {clip_id} lacks {", ".join(lacking)}')
    shape = group['feats'].shape
    expected = {'boxes': (*shape[:2], 4), 'scores': shape[:2], 'labels': shape[:2]}
    for key, wanted in expected.items():
        if len(shape) != 3 or not shape[0] or group[key].shape != wanted:
            raise UserError(
                f'{file.filename}: {clip_id} has feats {shape} and {key} {group[key].shape}, '
                'expected feats (steps, n, D), boxes (steps, n, 4), scores and labels (steps, n)'
            )
    return group
