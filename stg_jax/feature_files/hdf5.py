"""HDF5 files of any family: open, list, read, without ever walking through all entries.

The functions here are the only ones that touch h5py, which raises many types of error, depending
on which byte is damaged.
"""

import collections
import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from stg_jax.errors import UserError, first_line
from stg_jax.feature_files.base import (
    FRAMES,
    Source,
    as_numbers,
    as_steps,
    spread,
    steps_shape,
    usual_size,
)
from stg_jax.feature_files.detect import content, refuse_other

_FRAME_ROWS = 'feats'
_OBJECT_ROWS = 'vfeats'
_NO_CLIP = 'max_len'  # a number that CARE writes among its clips

# Listing the names of a file reads one index, while opening an entry seeks to it: for thousands of
# clips on a network drive that takes minutes. So layouts are recognized from a few entries.

Entry = h5py.Dataset | h5py.Group | h5py.Datatype


@contextlib.contextmanager
def readable(where: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what h5py raises of a damaged file into a sentence that names the file and key.

    Raises:
      UserError: the block met damage.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f'{where} cannot be read as HDF5 ({first_line(error)}): copy the file again'
        ) from None


def open_file(path: str | os.PathLike[str]) -> h5py.File:
    """Open a file for reading.

    Raises:
      UserError: it is missing, is not HDF5 or not all of it, or holds nothing.
    """
    found = content(path)
    if found != 'HDF5':
        raise refuse_other(path, found)
    # Closed again if a check fails: an open file could not be replaced on some systems.
    with contextlib.ExitStack() as opened:
        with readable(path):
            file = opened.enter_context(_open_with_or_without_lock(path))
        if not clip_keys(file):
            raise UserError(f'{path} holds no clip')
        opened.pop_all()
    return file


def _open_with_or_without_lock(path: str | os.PathLike[str]) -> h5py.File:
    """Open a file, without the lock that HDF5 asks for where the file system has no locks."""
    try:
        return h5py.File(path, 'r')
    except OSError as error:
        if 'lock' not in str(error):
            raise
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise UserError(
                f'{path} is locked, as by a program that is writing it: wait until that ends, or '
                'set HDF5_USE_FILE_LOCKING=FALSE if none is'
            ) from None
    # Reading needs no lock, and network drives refuse it with many different numbers.
    return h5py.File(path, 'r', locking=False)


def is_matlab(file: h5py.File) -> bool:
    """Whether MATLAB 7.3 wrote a file, in which arrays are stored with their axes reversed."""
    if not file.userblock_size:
        return False
    with readable(file.filename), Path(file.filename).open('rb') as start:
        return start.read(6) == b'MATLAB'


def clip_keys(file: h5py.File) -> list[str]:
    """List the names of all top entries that can be clips; opens none of them.

    Raises:
      UserError: the list of entries is damaged.
    """
    with readable(file.filename):
        # Names that are not UTF-8 come as bytes.
        names = [key.decode() if isinstance(key, bytes) else str(key) for key in file]
        # MATLAB keeps the parts of cells and objects in #refs# and #subsystem#.
        return [name for name in names if name != _NO_CLIP and not name.startswith('#')]


def some_entries(file: h5py.File) -> list[tuple[str, Entry]]:
    """Open a few entries from all parts of a file that can be clips and are not damaged.

    Raises:
      UserError: all of them are damaged.
    """
    keys, found = clip_keys(file), []
    for key in spread(keys):
        with contextlib.suppress(UserError):
            found.append((key, entry(file, key)))
    if found:
        return found
    for key in keys:
        with contextlib.suppress(UserError):
            return [(key, entry(file, key))]
    return [(keys[0], entry(file, keys[0]))]


def holds(source: h5py.File | h5py.Group, name: str) -> bool:
    """Whether a file or group has an entry.

    Raises:
      UserError: the list of entries is damaged.
    """
    with readable(f'{source.file.filename}: {source.name}'):
        return name in source


def layout(file: h5py.File) -> str:
    """Recognize how a file is laid out, from its names and most of a few entries.

    Returns:
      'frame rows' or 'object rows' (one array, a row per clip), 'object groups' (a group per clip),
      'datasets' (an array per clip) or 'MATLAB' (the same, with axes reversed).

    Raises:
      UserError: none of these, or it is damaged.
    """
    if is_matlab(file):
        return 'MATLAB'
    # By name before the vote: these files hold a few arrays beside the one with a row per clip.
    for name, found in ((_OBJECT_ROWS, 'object rows'), (_FRAME_ROWS, 'frame rows')):
        if holds(file, name) and isinstance(entry(file, name), h5py.Dataset):
            return found
    # A majority: people add a number or a note to files of arrays.
    entries = some_entries(file)
    votes = collections.Counter(map(_layout_of, (each for _, each in entries)))
    most = votes.most_common(1)[0][0]
    if most is None:
        key = next(key for key, each in entries if _layout_of(each) is None)
        raise UserError(
            f'{file.filename}: {key} is a group without feats: expected an array per clip, a group '
            f'with feats per clip, or the arrays {_FRAME_ROWS} or {_OBJECT_ROWS} of all clips'
        )
    return most


def _layout_of(each: Entry) -> str | None:
    if isinstance(each, h5py.Dataset):
        return 'datasets'
    with contextlib.suppress(UserError):
        if isinstance(each, h5py.Group) and holds(each, 'feats'):
            return 'object groups'
    return None


def dataset(file: h5py.File | h5py.Group, key: str) -> h5py.Dataset:
    """Open the dataset of a clip, unread.

    Raises:
      UserError: there is none, or it is damaged, naming file and key.
    """
    where = f'{file.file.filename}: {key}'
    if not holds(file, key):
        raise UserError(f'{where} does not exist: choose another clip or file')
    found = entry(file, key)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f'{where} is no array, expected one')
    # h5py.Empty: a type without any value, which has no shape to compute with.
    if found.shape is None:
        raise UserError(f'{where} is empty: write that clip again')
    return found


def read(source: h5py.Dataset, index: tuple | int = ()) -> np.ndarray:
    """Read the values of a dataset, or of one row of it.

    Raises:
      UserError: they cannot be read, naming file and key.
    """
    with readable(f'{source.file.filename}: {source.name}'):
        return np.asarray(source[index])


def entry(source: h5py.File | h5py.Group, key: str) -> Entry:
    """Open an entry, unread.

    Raises:
      UserError: there is none, or it is damaged, naming file and key.
    """
    with readable(f'{source.file.filename}: {key}'):
        return source[key]


class DatasetFrames(Source[np.ndarray]):
    """An array (steps, D) or (D,) per clip: SGN, RecNet, SA-LSTM, HMN, CARE, NACF, CST.

    A grid has (steps, cells, D). Arrays of MATLAB 7.3 are stored with their axes reversed.

    Args:
      file: open HDF5 file.
      path: of the file.
      axes: of the array of a clip.
      keys: names of the arrays that are clips, all arrays by default.
    """

    def __init__(
        self,
        file: h5py.File,
        path: str,
        axes: int = FRAMES,
        keys: Sequence[str] | None = None,
    ):
        self.path = path
        self.family = 'HDF5, an array per clip (SGN, RecNet, HMN, CARE, CST)'
        self.keys = clip_keys(file) if keys is None else keys
        self._file = file
        self._reversed = is_matlab(file)
        if self._reversed:
            self.family = 'MATLAB 7.3, an array per clip'
        self._axes = axes
        self.step = usual_size(self.keys, self._step)
        self.width = self.step[-1]

    def _step(self, key: str) -> tuple[int, ...]:
        # From the shape only: damaged values are the failure of one clip, when it is read.
        shape = dataset(self._file, key).shape
        shape = shape[::-1] if self._reversed else shape
        return steps_shape(shape, f'{self.path}: {key}', self._axes)[1:]

    def read(self, key: str) -> np.ndarray:
        """Read (S, D) or (S, G, D) float32 features of a clip."""
        values = read(dataset(self._file, key))
        values = values.T if self._reversed else values
        return as_steps(values, f'{self.path}: {key}', self._axes, self.step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RowFrames(Source[np.ndarray]):
    """`feats` (clips, steps, D) or (clips, D), with `lens` valid steps of each: RMN, GL-RG.

    A grid has (clips, steps, cells, D).
    """

    family = 'HDF5, a row per clip (RMN, GL-RG)'

    def __init__(self, file: h5py.File, path: str, axes: int = FRAMES):
        self._file = file
        self._axes = axes
        self._rows = dataset(file, 'feats')
        if self._rows.ndim < 2 or not self._rows.size:
            raise UserError(
                f'{path}: feats has shape {self._rows.shape}, expected (clips, steps, D)'
            )
        self._lens = read_lens(file, path, len(self._rows))
        self.path = path
        rows = range(len(self._rows))
        self.keys = [str(i) for i in rows if self._lens is None or self._lens[i] > 0]
        if not self.keys:
            raise UserError(f'{path}: no row has a valid step (lens): write the file again')
        self.step = steps_shape(self._rows.shape[1:], f'{path}: feats', axes)[1:]
        self.width = self.step[-1]
        empty = len(self._rows) - len(self.keys)
        self.warnings = [f'{empty} rows have no valid step: left out'] if empty else []

    def read(self, key: str) -> np.ndarray:
        """Read (S, D) or (S, G, D) float32 features of the valid steps of a clip."""
        row = row_number(self.path, key, len(self._rows))
        steps = read(self._rows, row)
        # What follows the valid steps is padding, often zeros: sampled, it would be black frames.
        if steps.ndim >= 2 and self._lens is not None:
            steps = steps[: self._lens[row]]
        return as_steps(steps, f'{self.path}: row {key}', self._axes)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def one_clip(file: h5py.File, axes: int) -> list[str] | None:
    """Name the array of a file whose `feats` can be the steps of one clip; None if it cannot."""
    if layout(file) != 'frame rows' or holds(file, 'lens'):
        return None
    return [_FRAME_ROWS] if dataset(file, _FRAME_ROWS).ndim == axes else None


def read_lens(file: h5py.File, path: str, num_rows: int) -> np.ndarray | None:
    """Read the valid steps of each row, (clips,); None where the file does not say.

    Raises:
      UserError: they do not belong to the rows.
    """
    if not holds(file, 'lens'):
        return None
    # Also as (clips, 1), and as floats.
    lens = read(dataset(file, 'lens')).reshape(-1)
    lens = as_numbers(lens, f'{path}: lens').astype(np.int64)
    if len(lens) != num_rows:
        raise UserError(f'{path} has {num_rows} rows but {len(lens)} lens: write it again')
    return lens


def row_number(path: str, key: str, num_rows: int) -> int:
    """Find the row that a key names.

    Raises:
      UserError: the row does not exist.
    """
    # int() also takes signs, blanks, underscores and the digits of other scripts.
    if not (key.isdecimal() and key.isascii() and int(key) < num_rows):
        raise UserError(f'{path} has rows 0 to {num_rows - 1}, not {key}')
    return int(key)
