"""What every importer offers: the features of one clip at a time, by the file's own key."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Protocol

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


@dataclasses.dataclass(frozen=True)
class Objects:
    """The objects that a file holds for one clip: n in each of S steps, in the file's own order.

    Attributes:
      feature: (S, n, D) float32; zero where absent.
      box: (S, n, 4) float32, x1 y1 x2 y2 divided by frame width and height, in [0, 1].
      score: (S, n) float32 in [0, 1]; 1 where the file has none, zero where absent.
      label: (S, n) int32; -1 where absent or unknown.
      mask: (S, n) bool, True where an object exists.
      height: of the frame in pixels, 0 where unknown.
      width: of the frame in pixels, 0 where unknown.
    """

    feature: np.ndarray
    box: np.ndarray
    score: np.ndarray
    label: np.ndarray
    mask: np.ndarray
    height: int = 0
    width: int = 0


class Closing(contextlib.AbstractContextManager):
    """What can be closed and is closed at the end of a `with` block."""

    def close(self) -> None:
        """Close the file, where one stays open."""

    def __exit__(self, *error: object) -> None:
        self.close()


class Source(Protocol):
    """An open file, or folder of files, with features by key; a context manager that closes it.

    Attributes:
      path: as given by the user.
      family: name of the layout in a few words, for people.
      keys: of all clips, in the file's order.
      width: channels of a feature.
      warnings: one sentence for everything that was assumed and not read.
    """

    path: str
    family: str
    keys: Sequence[str]
    width: int
    warnings: Sequence[str]

    def close(self) -> None:
        """Close the file."""


class FrameSource(Source, Protocol):
    """Features of frames, or of the seconds around them."""

    def read(self, key: str) -> np.ndarray:
        """Return (S, D) float32 features of the S >= 1 steps of a clip.

        Raises:
          UserError: the entry has another layout, naming file and key.
        """


class ObjectSource(Source, Protocol):
    """Features of objects. One that has no time yields S = 1 and says so in `warnings`."""

    def read(self, key: str) -> Objects:
        """Return the objects of a clip.

        Raises:
          UserError: the entry has another layout, or pixel boxes and no frame size, naming file
            and key.
        """
