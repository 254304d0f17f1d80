"""What every reader of features offers: those of one clip at a time, by the file's own key."""

import abc
import collections
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from stg_jax.errors import UserError

Size = TypeVar('Size', int, tuple[int, ...])
FRAMES, GRID = 2, 3  # axes of a clip's features: (S, D) of frames, (S, G, D) of their G cells


def as_steps(
    values: np.ndarray, where: str, axes: int = FRAMES, step: tuple[int, ...] | None = None
) -> np.ndarray:
    """Convert an array (S, D), (D,) for S = 1, or (S, G, D) of cells to float32 of that shape.

    Args:
      values: as read from a file; axes of length 1 are left out, see `without_unit_axes`.
      where: file and key, for the sentence.
      axes: `FRAMES` or `GRID`.
      step: (D,) or (G, D) of the file's other clips, if known.

    Raises:
      UserError: it has another rank, holds nothing, no finite numbers or another G or D.
    """
    values = np.asarray(values)
    values = as_numbers(values.reshape(steps_shape(values.shape, where, axes)), where)
    if step is not None:
        check_width(values, where, step[-1])
        if values.shape[1:] != step:
            raise UserError(
                f'{where} has {values.shape[1]} cells a step, but other clips of the file have '
                f'{step[0]}: pool all maps to one number of cells'
            )
    return values


def steps_shape(shape: tuple[int, ...], where: str, axes: int = FRAMES) -> tuple[int, ...]:
    """Find the shape (S, D) or (S, G, D) of features that are stored in another shape.

    Raises:
      UserError: they have another rank or hold nothing.
    """
    found = without_unit_axes(shape, axes)
    if axes == GRID and (len(found) != GRID or 0 in found):
        raise UserError(
            f'{where} has shape {shape}, expected (steps, cells, D): list the cells of a map row '
            'by row'
        )
    if len(found) not in (1, axes) or 0 in found:
        hint = ', or the cells of a --grid' if len(found) == GRID else ''
        raise UserError(f'{where} has shape {shape}, expected (steps, D) or (D,){hint}')
    return (1, *found) if len(found) == 1 else found


def without_unit_axes(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Leave out axes of length 1 of a shape that has more than `rank` axes.

    Networks leave them behind: (S, D, 1, 1) of a pooled map, (D, 1, 1) of a single frame, (1, S, D)
    of a batch of one clip, (S, 1, D) of one crop for each step.
    """
    axes = list(shape)
    # The order matters where several axes have length 1: a trailing pair is a pooled map, a leading
    # one a batch, and only then is one in the middle a crop. (D, 1, 1) becomes (D,), not (D, 1).
    if len(axes) > rank and axes[-2:] == [1, 1]:  # height and width of a pooled map
        while axes and axes[-1] == 1:
            axes.pop()
    for axis in (-1, 0, *range(len(axes) - 1, 0, -1)):
        if len(axes) > rank and axis < len(axes) and axes[axis] == 1:
            del axes[axis]
    return tuple(axes)


def usual_size(keys: Sequence[str], size_of: Callable[[str], Size]) -> Size:
    """Find the size of most clips, so that one damaged or odd clip does not decide for a file.

    Args:
      keys: of all clips; some of them, spread over the file, are looked at.
      size_of: width or shape of a step of a clip, or a UserError where it cannot be read.

    Raises:
      UserError: of the first clip, where none can be read.
    """
    # A vote, not the first clip: one that was extracted by another network, or is damaged, would
    # otherwise turn all sound clips into failures.
    sizes: collections.Counter[Size] = collections.Counter()
    for key in spread(keys):
        with contextlib.suppress(UserError):
            sizes[size_of(key)] += 1
    if sizes:
        return sizes.most_common(1)[0][0]
    # All that were looked at are damaged: any sound one will do, or else the first sentence.
    for key in keys:
        with contextlib.suppress(UserError):
            return size_of(key)
    return size_of(keys[0])


_LOOKED_AT = 9  # odd, so that one clip of another kind is outvoted in a file of two or more others


def spread(keys: Sequence[str]) -> list[str]:
    """Choose a few keys from all parts of a file, in its order."""
    places = np.linspace(0, len(keys) - 1, min(_LOOKED_AT, len(keys))).astype(int)
    return [keys[int(i)] for i in places]


def as_numbers(values: np.ndarray, where: str) -> np.ndarray:
    """Convert an array to float32.

    Raises:
      UserError: they are no numbers, or some are NaN or infinite.
    """
    values = np.asarray(values)
    if values.dtype.kind not in 'fiu':
        raise UserError(f'{where} holds {values.dtype}, expected numbers: convert the file')
    # Float32 also for float64 files: shards store float16, so that nothing is lost.
    with np.errstate(over='ignore'):  # too large a number becomes infinity, which is refused
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(f'{where} holds NaN or infinity: extract that clip again, or remove it')
    return values


def check_width(values: np.ndarray, where: str, width: int | None) -> None:
    """Check that the last axis is as wide as those of most clips of the file.

    Raises:
      UserError: it is not.
    """
    if width is not None and values.shape[-1] != width:
        raise UserError(
            f'{where} is {values.shape[-1]} wide, but other clips of the file are {width} wide: '
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


# One class for both kinds of features: files are joined, and clips counted, by the same code.
Features = TypeVar('Features', np.ndarray, Objects)


class Source(contextlib.AbstractContextManager, Generic[Features]):
    """An open file, or folder of files, with features by key; a `with` block closes it.

    Attributes:
      path: as given by the user.
      family: name of the layout in a few words, for people.
      keys: of all clips, in the file's order.
      width: channels of a feature.
      step: shape of the features of a step, (D,) or (G, D); () for objects.
      warnings: one sentence for everything that was assumed and not read.
    """

    path: str
    family: str
    keys: Sequence[str]
    width: int
    step: tuple[int, ...] = ()
    warnings: Sequence[str] = ()

    @abc.abstractmethod
    def read(self, key: str) -> Features:
        """Read the features of a clip.

        Raises:
          UserError: the clip is missing or has another layout, naming file and key.
        """

    def close(self) -> None:
        """Close the file, where one stays open."""

    def __exit__(self, *error: object) -> None:
        self.close()


# (S, D) float32 features of frames, or of the seconds around them, for S >= 1 steps; (S, G, D) of
# the G cells of a grid over each frame, row by row.
FrameSource = Source[np.ndarray]
# Features of objects. A file that has no time yields S = 1 and says so in `warnings`.
ObjectSource = Source[Objects]
