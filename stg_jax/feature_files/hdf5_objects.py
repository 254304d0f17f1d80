"""Object features in HDF5: a group or an array per clip, or one array with a row per clip."""

import h5py
import numpy as np

from stg_jax.errors import UserError
from stg_jax.feature_files import hdf5
from stg_jax.feature_files.base import (
    Objects,
    Source,
    as_numbers,
    check_width,
    usual_size,
    without_unit_axes,
)
from stg_jax.feature_files.hdf5 import read_lens, row_number
from stg_jax.feature_files.objects import (
    BOXLESS,
    PERHAPS_FRAMES,
    TIMELESS,
    Fit,
    build_objects,
    group_images,
    stack_steps,
)

UNKNOWN = (0, 0)
_SIZE = ('height', 'width')
_LARGEST = 2**24  # side of a frame, beyond which float32 no longer counts pixels


def frame_size(sizes: h5py.File | None, key: str) -> tuple[int, int]:
    """Read (height, width) in pixels of a clip; `UNKNOWN` where the entry is missing.

    Args:
      sizes: clip to (height, width) or (height, width, channels); None for no file.
      key: of the clip.

    Raises:
      UserError: the entry is no size.
    """
    if sizes is None or not hdf5.holds(sizes, key):
        return UNKNOWN
    where = f'{sizes.filename}: {key}'
    # The channels may follow: the shape of the frame as it was decoded.
    size = as_numbers(hdf5.read(hdf5.dataset(sizes, key)), where)
    if size.shape not in ((2,), (3,)) or not 1 <= size.min() <= size.max() < _LARGEST:
        raise UserError(f'{where} is no frame size, expected (height, width[, channels]) in pixels')
    return int(size[0]), int(size[1])


class GroupObjects(Source[Objects]):
    """A group per clip with `feats` (n, D) or (steps, n, D), perhaps boxes, scores and classes.

    Boxes are called `boxes` or `bboxes`, classes `labels` (-1: no object) or `kinds`; the
    attributes `height` and `width` are the frame size where `sizes` has none.
    """

    family = 'HDF5, a group per clip (HMN)'

    def __init__(self, file: h5py.File, path: str, sizes: h5py.File | None):
        self.path = path
        self.keys = hdf5.clip_keys(file)
        self._file = file
        self._sizes = sizes
        self.width = usual_size(self.keys, lambda key: self._shape(key)[-1])
        # What most of a few clips hold: an odd one is its own failure.
        groups = {k: each for k, each in hdf5.some_entries(file) if isinstance(each, h5py.Group)}
        without_time = [self._rank(key) == 2 for key in groups]
        without_boxes = [
            not any(hdf5.holds(group, name) for name in ('boxes', 'bboxes'))
            for group in groups.values()
        ]
        self.warnings = [TIMELESS] * _most(without_time) + [BOXLESS] * _most(without_boxes)

    def _rank(self, key: str) -> int:
        try:
            return len(self._shape(key))
        except UserError:
            return 0

    def _group(self, key: str) -> h5py.Group:
        group = hdf5.entry(self._file, key) if hdf5.holds(self._file, key) else None
        if not isinstance(group, h5py.Group):
            raise UserError(
                f'{self.path}: {key} is no group with feats: choose another clip or file'
            )
        return group

    def _shape(self, key: str) -> tuple[int, ...]:
        """Find the shape (steps, n, D) or (n, D) of a clip's features."""
        stored = hdf5.dataset(self._group(key), 'feats').shape
        shape = without_unit_axes(stored, 3)
        if len(shape) not in (2, 3):
            raise UserError(
                f'{self.path}: {key} has features {stored}, expected (steps, n, D) or (n, D)'
            )
        return shape

    def read(self, key: str) -> Objects:
        """Read the objects of a clip."""
        where = f'{self.path}: {key}'
        group = self._group(key)
        feature = hdf5.read(hdf5.dataset(group, 'feats')).reshape(self._shape(key))
        check_width(feature, where, self.width)
        label, mask = _classes(group, where)
        box = _values(group, 'boxes')
        height, width = self._size(key, group)
        return build_objects(
            where,
            feature,
            _values(group, 'bboxes') if box is None else box,
            score=_values(group, 'scores'),
            label=label,
            mask=mask,
            height=height,
            width=width,
        )

    def _size(self, key: str, group: h5py.Group) -> tuple[int, int]:
        size = frame_size(self._sizes, key)
        with hdf5.readable(f'{self.path}: {key}'):
            if size == UNKNOWN and set(_SIZE) <= set(group.attrs):
                height, width = (np.asarray(group.attrs[name]).item() for name in _SIZE)
                size = int(height), int(width)
        return size

    def close(self) -> None:
        """Close the files."""
        _close(self._file, self._sizes)


class DatasetObjects(Source[Objects]):
    """An array (n, D) per clip, or per frame of a clip, with boxes (n, 4) in another file.

    SAAT and CST `roi_feat` and `roi_box`, HMN without boxes, Sejong (frames `<clip>-<frame>`).
    """

    family = 'HDF5, an array of objects per clip (SAAT, CST, HMN) or frame (Sejong)'

    def __init__(
        self,
        file: h5py.File,
        path: str,
        boxes: h5py.File | None,
        sizes: h5py.File | None,
        fit: Fit | None,
    ):
        self.path = path
        self._images = group_images(hdf5.clip_keys(file), fit)
        self.keys = list(self._images)
        self._file, self._boxes, self._sizes = file, boxes, sizes
        names = [images[0] for images in self._images.values()]
        self.width = usual_size(names, lambda name: self._shape(name)[-1])
        # An array (n, D) may be n objects of a frame or n frames of a clip: without boxes, only the
        # person who passes the file knows.
        without_time = all(len(images) == 1 for images in self._images.values())
        self.warnings = [TIMELESS] * without_time + [BOXLESS] * (boxes is None)
        if without_time and boxes is None:
            self.warnings.append(PERHAPS_FRAMES)

    def read(self, key: str) -> Objects:
        """Read the objects of a clip."""
        if key not in self._images:
            raise UserError(f'{self.path}: {key} does not exist: choose another clip or file')
        return stack_steps([self._read_image(name, key) for name in self._images[key]])

    def _shape(self, name: str) -> tuple[int, ...]:
        """Find the shape (n, D) of a picture's features."""
        stored = hdf5.dataset(self._file, name).shape
        shape = without_unit_axes(stored, 2)
        if len(shape) != 2:
            raise UserError(
                f'{self.path}: {name} has shape {stored}: objects are (n, D), and features of '
                'frames belong to --appearance or --motion'
            )
        return shape

    def _read_image(self, name: str, clip: str) -> Objects:
        where = f'{self.path}: {name}'
        feature = hdf5.read(hdf5.dataset(self._file, name)).reshape(self._shape(name))
        check_width(feature, where, self.width)
        box = None if self._boxes is None else hdf5.read(hdf5.dataset(self._boxes, name))
        height, width = frame_size(self._sizes, clip)
        return build_objects(where, feature, box, height=height, width=width)

    def close(self) -> None:
        """Close the files."""
        _close(self._file, self._boxes, self._sizes)


class RowObjects(Source[Objects]):
    """`vfeats` (clips, steps, n, D) and `sfeats` (clips, steps, n, 5: box in [0, 1], area): RMN."""

    family = 'HDF5, a row of regions per clip (RMN)'

    def __init__(self, file: h5py.File, path: str):
        self.path = path
        self._file = file
        self._rows = hdf5.dataset(file, 'vfeats')
        self._boxes = hdf5.dataset(file, 'sfeats') if hdf5.holds(file, 'sfeats') else None
        shape = self._rows.shape
        if len(shape) not in (3, 4) or not self._rows.size:
            raise UserError(f'{path}: vfeats has shape {shape}, expected (clips, steps, n, D)')
        if self._boxes is not None and self._boxes.shape[:-1] != shape[:-1]:
            raise UserError(
                f'{path}: vfeats has shape {shape} and sfeats {self._boxes.shape}: they must agree '
                'but for the last axis'
            )
        self._lens = read_lens(file, path, shape[0])
        self.keys = [str(i) for i in range(shape[0])]
        self.width = shape[-1]
        self.warnings = [TIMELESS] * (len(shape) == 3) + [BOXLESS] * (self._boxes is None)

    def read(self, key: str) -> Objects:
        """Read the objects of a clip."""
        row = row_number(self.path, key, len(self._rows))
        feature = hdf5.read(self._rows, row)
        box = None if self._boxes is None else hdf5.read(self._boxes, row)[..., :4]
        # Padding steps would be sampled as frames without any object.
        if feature.ndim == 3:
            steps = _valid_steps(feature) if self._lens is None else max(1, self._lens[row])
            feature, box = feature[:steps], None if box is None else box[:steps]
        return build_objects(f'{self.path}: row {key}', feature, box)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _valid_steps(feature: np.ndarray) -> int:
    # Every frame has its 36 regions in these files: steps of zeros at the end are padding.
    return max(1, np.flatnonzero(feature.any(axis=(1, 2))).max(initial=0) + 1)


def _classes(group: h5py.Group, where: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Read the classes of a clip's objects and which of them exist, None where unknown."""
    labels, kinds = _values(group, 'labels'), _values(group, 'kinds')
    if labels is not None:
        return labels, as_numbers(labels, f'{where}/labels') >= 0
    # `kinds` may be names, which say no more than the features do.
    return (kinds if kinds is not None and kinds.dtype.kind in 'iu' else None), None


def _most(votes: list[bool]) -> bool:
    return 2 * sum(votes) > len(votes)


def _values(group: h5py.Group, name: str) -> np.ndarray | None:
    return hdf5.read(hdf5.dataset(group, name)) if hdf5.holds(group, name) else None


def _close(*files: h5py.File | None) -> None:
    for file in files:
        if file is not None:
            file.close()
