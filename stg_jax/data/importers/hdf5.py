"""HDF5 files of any family: open, list, read, without ever walking through all entries."""

import os
from pathlib import Path

import h5py
import numpy as np

from stg_jax.errors import UserError

_FRAME_ROWS = 'feats'
_OBJECT_ROWS = 'vfeats'
_NO_CLIP = 'max_len'  # a number that CARE writes among its clips


def open_file(path: str | os.PathLike[str]) -> h5py.File:
    """Open a file for reading.

    Raises:
      UserError: it is missing, is not HDF5 or not all of it, or holds nothing.
    """
    if not Path(path).is_file():
        raise UserError(f'the features file {path} does not exist')
    try:
        file = h5py.File(path)
    except OSError as error:
        raise UserError(f'{path} is not a complete HDF5 file ({error}): copy it again') from None
    if not clip_keys(file):
        file.close()
        raise UserError(f'{path} holds no clip')
    return file


def clip_keys(file: h5py.File) -> list[str]:
    """Return the names of all top entries that can be clips; opens none of them."""
    return [key for key in file if key != _NO_CLIP]


def layout(file: h5py.File) -> str:
    """Return how the file is laid out, told from its names and its first entry.

    Returns:
      'frame rows' or 'object rows' (one array, a row per clip), 'object groups' (a group per clip)
      or 'datasets' (an array per clip).

    Raises:
      UserError: none of these.
    """
    for name, found in ((_OBJECT_ROWS, 'object rows'), (_FRAME_ROWS, 'frame rows')):
        if isinstance(file.get(name), h5py.Dataset):
            return found
    first = clip_keys(file)[0]
    if isinstance(file[first], h5py.Dataset):
        return 'datasets'
    if 'feats' in file[first]:
        return 'object groups'
    raise UserError(
        f'{file.filename}: {first} is a group without feats: expected an array per clip, a group '
        f'with feats per clip, or the arrays {_FRAME_ROWS} or {_OBJECT_ROWS} of all clips'
    )


def dataset(file: h5py.File | h5py.Group, key: str) -> h5py.Dataset:
    """Return the dataset of a clip, unread.

    Raises:
      UserError: there is none, naming file and key.
    """
    where = f'{file.file.filename}: {key}'
    found = file.get(key)
    if found is None:
        raise UserError(f'{where} does not exist: choose another clip or file')
    if not isinstance(found, h5py.Dataset):
        raise UserError(f'{where} is a group, expected one array')
    return found


def read(source: h5py.Dataset, index: tuple | int = ()) -> np.ndarray:
    """Return the values of a dataset, or of one row of it.

    Raises:
      UserError: they cannot be read, naming file and key.
    """
    try:
        return source[index]
    except OSError as error:
        raise UserError(
            f'{source.file.filename}: {source.name} cannot be read ({error}): copy the file again'
        ) from None
