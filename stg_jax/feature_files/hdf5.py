"""HDF5 files of any family: open, list, read, without ever walking through all entries."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from stg_jax.errors import UserError

_FRAME_ROWS = 'feats'
_OBJECT_ROWS = 'vfeats'
_NO_CLIP = 'max_len'  # a number that CARE writes among its clips
# What h5py raises depends on which bytes are damaged; ValueError also of names and types.
_ERRORS = (OSError, RuntimeError, KeyError, ValueError)


@contextlib.contextmanager
def readable(where: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what h5py raises of a damaged file into a sentence that names the file and key.

    Raises:
      UserError: the block met damage.
    """
    try:
        yield
    except _ERRORS as error:
        raise UserError(f'{where} cannot be read as HDF5 ({error}): copy the file again') from None


def open_file(path: str | os.PathLike[str]) -> h5py.File:
    """Open a file for reading.

    Raises:
      UserError: it is missing, is not HDF5 or not all of it, or holds nothing.
    """
    if not Path(path).is_file():
        raise UserError(f'the features file {path} does not exist')
    with contextlib.ExitStack() as opened:
        with readable(path):
            file = opened.enter_context(h5py.File(path))
        if not clip_keys(file):
            raise UserError(f'{path} holds no clip')
        opened.pop_all()
    return file


def clip_keys(file: h5py.File) -> list[str]:
    """Return the names of all top entries that can be clips; opens none of them.

    Raises:
      UserError: the list of entries is damaged.
    """
    with readable(file.filename):
        # Names that are not UTF-8 come as bytes.
        return [key if isinstance(key, str) else key.decode() for key in file if key != _NO_CLIP]


def first_entry(file: h5py.File) -> tuple[str, h5py.Dataset | h5py.Group]:
    """Return the first entry that can be a clip and is not damaged, with its name.

    Raises:
      UserError: all of them are damaged.
    """
    keys = clip_keys(file)
    for key in keys:
        with contextlib.suppress(UserError):
            return key, entry(file, key)
    return keys[0], entry(file, keys[0])


def holds(source: h5py.File | h5py.Group, name: str) -> bool:
    """Return whether a file or group has an entry.

    Raises:
      UserError: the list of entries is damaged.
    """
    with readable(f'{source.file.filename}: {source.name}'):
        return name in source


def layout(file: h5py.File) -> str:
    """Return how the file is laid out, told from its names and its first entry.

    Returns:
      'frame rows' or 'object rows' (one array, a row per clip), 'object groups' (a group per clip)
      or 'datasets' (an array per clip).

    Raises:
      UserError: none of these, or it is damaged.
    """
    for name, found in ((_OBJECT_ROWS, 'object rows'), (_FRAME_ROWS, 'frame rows')):
        if holds(file, name) and isinstance(entry(file, name), h5py.Dataset):
            return found
    key, first = first_entry(file)
    if isinstance(first, h5py.Dataset):
        return 'datasets'
    if isinstance(first, h5py.Group) and holds(first, 'feats'):
        return 'object groups'
    raise UserError(
        f'{file.filename}: {key} is a group without feats: expected an array per clip, a group '
        f'with feats per clip, or the arrays {_FRAME_ROWS} or {_OBJECT_ROWS} of all clips'
    )


def dataset(file: h5py.File | h5py.Group, key: str) -> h5py.Dataset:
    """Return the dataset of a clip, unread.

    Raises:
      UserError: there is none, or it is damaged, naming file and key.
    """
    where = f'{file.file.filename}: {key}'
    if not holds(file, key):
        raise UserError(f'{where} does not exist: choose another clip or file')
    found = entry(file, key)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f'{where} is a group, expected one array')
    return found


def read(source: h5py.Dataset, index: tuple | int = ()) -> np.ndarray:
    """Return the values of a dataset, or of one row of it.

    Raises:
      UserError: they cannot be read, naming file and key.
    """
    with readable(f'{source.file.filename}: {source.name}'):
        return source[index]


def entry(source: h5py.File | h5py.Group, key: str) -> h5py.Dataset | h5py.Group:
    """Return an entry, unread.

    Raises:
      UserError: there is none, or it is damaged, naming file and key.
    """
    with readable(f'{source.file.filename}: {key}'):
        return source[key]
