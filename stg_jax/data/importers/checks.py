"""Refuse arrays that are no features, naming file and key."""

import h5py
import numpy as np

from stg_jax.errors import UserError


def as_steps(values: np.ndarray, where: str, width: int | None = None) -> np.ndarray:
    """Return (S, D) float32 of an array (S, D), or (D,) for S = 1.

    Args:
      values: as read from a file.
      where: file and key, for the sentence.
      width: D of the file's other clips, if known.

    Raises:
      UserError: it has another rank, holds nothing, no finite numbers or another D.
    """
    values = np.asarray(values)
    check_steps(values, where)
    values = as_numbers(np.atleast_2d(values), where)
    check_width(values, where, width)
    return values


def check_steps(values: np.ndarray | h5py.Dataset, where: str) -> None:
    """Check that an array is (S, D), or (D,) for S = 1; of one in a file no value is read.

    Raises:
      UserError: it has another rank or holds nothing.
    """
    if values.ndim not in (1, 2) or not values.size:
        raise UserError(f'{where} has shape {values.shape}, expected (steps, D) or (D,)')


def as_numbers(values: np.ndarray, where: str) -> np.ndarray:
    """Return `values` as float32.

    Raises:
      UserError: they are no numbers, or some are NaN or infinite.
    """
    values = np.asarray(values)
    if values.dtype.kind not in 'fiu':
        raise UserError(f'{where} holds {values.dtype}, expected numbers: convert the file')
    with np.errstate(over='ignore'):  # too large a number becomes infinity, which is refused
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(f'{where} holds NaN or infinity: extract that clip again, or remove it')
    return values


def check_width(values: np.ndarray, where: str, width: int | None) -> None:
    """Check that the last axis is as wide as that of the file's first clip.

    Raises:
      UserError: it is not.
    """
    if width is not None and values.shape[-1] != width:
        raise UserError(
            f'{where} is {values.shape[-1]} wide, but the first clip of the file is {width} wide: '
            'all clips must come from one network'
        )
