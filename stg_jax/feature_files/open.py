"""Open a file or folder of features of any known layout, recognized from its content."""

import collections
import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from stg_jax import files
from stg_jax.errors import UserError
from stg_jax.feature_files import hdf5
from stg_jax.feature_files.base import FRAMES, GRID, Features, FrameSource, ObjectSource, Source
from stg_jax.feature_files.bottom_up_tsv import BottomUpTsv
from stg_jax.feature_files.detect import content, refuse_other
from stg_jax.feature_files.hdf5 import DatasetFrames, RowFrames
from stg_jax.feature_files.hdf5_objects import DatasetObjects, GroupObjects, RowObjects
from stg_jax.feature_files.numpy_folders import (
    NpyFolder,
    NpzArchive,
    NpzFolder,
    NpzFrames,
    holds_boxes,
)
from stg_jax.feature_files.objects import Fit


class Columns(Source[np.ndarray]):
    """The features `start` to `stop` (exclusive) of every step of another source."""

    def __init__(self, source: FrameSource, start: int, stop: int):
        if not 0 <= start < stop <= source.width:
            raise UserError(
                f'{source.path} has columns 0-{source.width}, which do not hold {start}-{stop}'
            )
        self._source = source
        self._columns = slice(start, stop)
        self.path = source.path
        self.family = source.family
        self.keys = source.keys
        self.width = stop - start
        self.step = (*source.step[:-1], self.width)
        self.warnings = source.warnings

    def read(self, key: str) -> np.ndarray:
        """Read (S, D) or (S, G, D) float32 features of a clip."""
        return self._source.read(key)[..., self._columns]

    def close(self) -> None:
        """Close the file."""
        self._source.close()


_FEW = 10  # one file of ten may be damaged where each holds a clip or so, none of a file per split
_MOST_OPEN = 32  # files of a `Joined`; a process may often have 256 or 1024 open


class Joined(Source[Features]):
    """The clips of several files, each read from the one that holds it.

    Only the files that were read last stay open: there may be one for each clip of a data set.

    Args:
      path: of all of them, with `*`.
      paths: of the files.
      open_one: opens one of them.

    Raises:
      UserError: two hold the same clip, or more than a few cannot be read or are of another width.
    """

    def __init__(
        self, path: str, paths: Sequence[str], open_one: Callable[[str], Source[Features]]
    ):
        self.path = path
        self._open_one = open_one
        self._open: collections.OrderedDict[str, Source[Features]] = collections.OrderedDict()
        files, broken = {}, []
        # Each file is opened once to learn its keys, then closed until one of them is read.
        for each in paths:
            try:
                with open_one(each) as source:
                    files[each] = source
            except UserError as error:
                broken.append(str(error))
        sound, odd = _of_one_size(files)
        if _FEW * len(broken + odd) > len(paths):
            raise UserError((broken + odd)[0])
        self.family = next(iter(sound.values())).family
        self.width = next(iter(sound.values())).width
        self.step = next(iter(sound.values())).step
        self._place, notes = _clips(sound)
        self.keys = list(self._place)
        warnings = dict.fromkeys(text for source in sound.values() for text in source.warnings)
        self.warnings = [*warnings, *notes, *(f'left out: {text}' for text in broken + odd)]

    def read(self, key: str) -> Features:
        """Read the features of a clip from the file that holds it."""
        if key not in self._place:
            raise UserError(f'{self.path}: {key} does not exist: choose another clip or file')
        path, key = self._place[key]
        if path not in self._open:
            # The one that was not read for longest.
            if len(self._open) == _MOST_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[path] = self._open_one(path)
        self._open.move_to_end(path)
        return self._open[path].read(key)

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()


Sources = Mapping[str, Source[Features]]  # by path, closed again


def _of_one_size(files: Sources) -> tuple[Sources, list[str]]:
    """Separate the files of the most frequent width and cells; a sentence about each other one."""
    sizes = {
        path: f'{"".join(f"{cells} x " for cells in source.step[:-1])}{source.width}'
        for path, source in files.items()
    }
    # A vote among the files, as among the clips of one file.
    counts = collections.Counter(sizes.values())
    usual = counts.most_common(1)[0][0] if counts else ''
    sound = {path: source for path, source in files.items() if sizes[path] == usual}
    odd = [
        f'{next(iter(sound))} is {usual} wide and {path} {sizes[path]}: join files of one network '
        'only'
        for path in files
        if path not in sound
    ]
    return sound, odd


def _clips(files: Sources) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Find the file and the key of each clip, and note what was assumed.

    Where every file holds one array of one name, such as `features`, the files name the clips.
    """
    keys = [list(source.keys) for source in files.values()]
    if len(keys) > 1 and len(keys[0]) == 1 and all(each == keys[0] for each in keys):
        (key,) = keys[0]
        note = f'every file holds only {key}: the names of the files are taken for the clips'
        return {Path(path).stem: (path, key) for path in files}, [note]
    place: dict[str, tuple[str, str]] = {}
    for path, source in files.items():
        for key in source.keys:
            if key in place:
                raise UserError(f'{place[key][0]} and {path} both hold {key}')
            place[key] = path, key
    return place, []


_COLUMNS = re.compile(r'(?P<path>.+):(?P<start>[0-9]+)-(?P<stop>[0-9]+)')


def open_frames(spec: str) -> FrameSource:
    """Open features of frames.

    Args:
      spec: PATH of a file or folder, in whose last part `*` stands for anything (a file per split);
        PATH:START-STOP for some columns; PATH:NAME for one of several outputs of video_features.

    Raises:
      UserError: there is nothing, it is damaged, of no known layout, or holds objects.
    """
    return _open_steps(spec, FRAMES)


def open_grid(spec: str) -> FrameSource:
    """Open features (S, G, D) of the cells of a grid over each frame; see `open_frames`.

    Raises:
      UserError: see `open_frames`, or the cells do not form a square.
    """
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(_open_steps(spec, GRID))
        if math.isqrt(source.step[0]) ** 2 != source.step[0]:
            raise UserError(
                f'{spec} has {source.step[0]} cells a step, which is no square number: pool the '
                'maps to 4 x 4 or 7 x 7 cells'
            )
        opened.pop_all()
    return source


def _open_steps(spec: str, axes: int) -> FrameSource:
    # A file whose name ends like columns, `a:0-9`, is itself.
    columns = None if _exists(spec) else _COLUMNS.fullmatch(spec)
    path = columns['path'] if columns else spec
    source = _open_all(
        path,
        lambda each: _open_frames(each, axes),
        lambda each: _open_frames(each, axes, is_one_of_many=True),
    )
    if not columns:
        return source
    # Columns that do not exist are refused, which must not leave the file open.
    with contextlib.ExitStack() as opened:
        opened.enter_context(source)
        source = Columns(source, int(columns['start']), int(columns['stop']))
        opened.pop_all()
    return source


def open_objects(
    spec: str,
    *,
    boxes: str | None = None,
    frame_sizes: str | None = None,
    fit: Fit | None = None,
) -> ObjectSource:
    """Open features of objects.

    Args:
      spec: PATH of a file or folder, in whose last part `*` stands for anything (a file per split).
      boxes: HDF5 file of the boxes, clip to (n, 4), where they are in a file of their own.
      frame_sizes: HDF5 file, clip to (height, width), where boxes are in pixels of unknown frames.
      fit: distinguishes clips from frames of clips where both are numbered, see `group_images`.

    Raises:
      UserError: there is nothing, it is damaged, of no known layout, or holds features of frames.
    """
    return _open_all(spec, lambda path: _open_objects(path, boxes, frame_sizes, fit))


def holds_objects(path: str) -> bool:
    """Whether a file of features holds objects, as far as its layout says.

    Raises:
      UserError: it holds no features.
    """
    found = content(path)
    if found == 'TSV':
        return True
    if found == 'npz folder':
        return holds_boxes(path)
    if found in ('npy folder', 'npz'):
        return False
    if found != 'HDF5':
        raise refuse_other(path, found)
    with hdf5.open_file(path) as file:
        return hdf5.layout(file) in _OF_OBJECTS


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # a name that is too long; `content` has the sentence
        return False


_OF_OBJECTS = ('object rows', 'object groups')  # layouts of HDF5 files


def _open_all(
    path: str,
    open_one: Callable[[str], Source[Features]],
    open_each: Callable[[str], Source[Features]] | None = None,
) -> Source[Features]:
    """Open one path, or the files that a pattern with `*` names, with `open_each` if several."""
    if '*' not in path or _exists(path):
        return open_one(path)
    paths = sorted(map(str, files.visible(Path(path).parent.glob(Path(path).name))))
    if not paths:
        raise UserError(f'no file is called {path}')
    return Joined(path, paths, open_each if open_each and len(paths) > 1 else open_one)


def _open_frames(path: str, axes: int, is_one_of_many: bool = False) -> FrameSource:
    # FOLDER:rgb, one of several outputs of video_features.
    folder, colon, name = path.rpartition(':')
    if colon and not _exists(path) and Path(folder).is_dir():
        return NpyFolder(folder, name, axes)
    found = content(path)
    if found == 'npy folder':
        return NpyFolder(path, axes=axes)
    if found == 'npz':
        return NpzArchive(path, axes)
    if found == 'TSV' or (found == 'npz folder' and holds_boxes(path)):
        raise _objects_as_frames(path)
    if found == 'npz folder':
        return NpzFrames(path, axes)
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(hdf5.open_file(path))
        layout = hdf5.layout(file)
        if layout in _OF_OBJECTS:
            raise _objects_as_frames(path)
        # Rows of several files would be numbered alike, so `feats` of each is one clip, if it can.
        clip = hdf5.one_clip(file, axes) if is_one_of_many else None
        if layout == 'frame rows' and not clip:
            source = RowFrames(file, path, axes)
        else:
            source = DatasetFrames(file, path, axes, clip)
        opened.pop_all()
    return source


def _open_objects(
    path: str, boxes: str | None, frame_sizes: str | None, fit: Fit | None
) -> ObjectSource:
    found = content(path)
    if found in ('npz folder', 'TSV'):
        _refuse(path, boxes=boxes, frame_sizes=frame_sizes)
        return (NpzFolder if found == 'npz folder' else BottomUpTsv)(path, fit)
    if found in ('npy folder', 'npz'):
        raise _frames_as_objects(path)
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(hdf5.open_file(path))
        box_file, sizes = (
            opened.enter_context(hdf5.open_file(name)) if name else None
            for name in (boxes, frame_sizes)
        )
        source: ObjectSource
        match hdf5.layout(file):
            case 'object rows':
                _refuse(path, boxes=boxes, frame_sizes=frame_sizes)
                source = RowObjects(file, path)
            case 'object groups':
                _refuse(path, boxes=boxes)
                source = GroupObjects(file, path, sizes)
            case 'datasets':
                source = DatasetObjects(file, path, box_file, sizes, fit)
            case _:
                raise _frames_as_objects(path)
        opened.pop_all()
    return source


def _frames_as_objects(path: str) -> UserError:
    return UserError(
        f'{path} holds features of frames, not objects: pass it as --appearance, --motion or --grid'
    )


def _objects_as_frames(path: str) -> UserError:
    return UserError(f'{path} holds objects, not features of frames: pass it as --objects')


def _refuse(path: str, **flags: str | None) -> None:
    for name, value in flags.items():
        if value:
            raise UserError(f'{path} holds its own {name}: leave --{name} out')
