"""Open a file or folder of features of any known layout, told from its content."""

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stg_jax.errors import UserError
from stg_jax.feature_files import hdf5
from stg_jax.feature_files.base import Closing, FrameSource, Objects, ObjectSource
from stg_jax.feature_files.bottom_up_tsv import BottomUpTsv
from stg_jax.feature_files.detect import content, refuse_other
from stg_jax.feature_files.hdf5_frames import DatasetFrames, RowFrames
from stg_jax.feature_files.hdf5_objects import DatasetObjects, GroupObjects, RowObjects
from stg_jax.feature_files.numpy_folders import NpyFolder, NpzFolder
from stg_jax.feature_files.objects import Fit


class Columns(Closing):
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
        self.warnings = source.warnings

    def read(self, key: str) -> np.ndarray:
        """Return (S, D) float32 features of a clip, see `FrameSource`."""
        return self._source.read(key)[:, self._columns]

    def close(self) -> None:
        """Close the file."""
        self._source.close()


class Joined(Closing):
    """The clips of all `sources`, each read from the one that holds it.

    Raises:
      UserError: two hold the same clip, or features of another width.
    """

    def __init__(self, path: str, sources: Sequence[FrameSource] | Sequence[ObjectSource]):
        self.path = path
        self.family = sources[0].family
        self.width = sources[0].width
        self.warnings = list(
            dict.fromkeys(sentence for source in sources for sentence in source.warnings)
        )
        self._sources = sources
        self._holder: dict[str, FrameSource | ObjectSource] = {}
        for source in sources:
            if source.width != self.width:
                raise UserError(
                    f'{sources[0].path} is {self.width} wide and {source.path} {source.width}: '
                    'join files of one network only'
                )
            for key in source.keys:
                if key in self._holder:
                    raise UserError(f'{self._holder[key].path} and {source.path} both hold {key}')
                self._holder[key] = source
        self.keys = list(self._holder)

    def read(self, key: str) -> np.ndarray | Objects:
        """Return what the file that holds the clip says of it."""
        if key not in self._holder:
            raise UserError(f'{self.path}: {key} does not exist: choose another clip or file')
        return self._holder[key].read(key)

    def close(self) -> None:
        """Close all files."""
        for source in self._sources:
            source.close()


_COLUMNS = re.compile(r'(?P<path>.+):(?P<start>[0-9]+)-(?P<stop>[0-9]+)')


def open_frames(spec: str) -> FrameSource:
    """Open features of frames.

    Args:
      spec: PATH of a file or folder, in whose last part `*` stands for anything (a file per split);
        PATH:START-STOP for some columns; PATH:NAME for one of several outputs of video_features.

    Raises:
      UserError: there is nothing, it is damaged, of no known layout, or holds objects.
    """
    columns = None if Path(spec).exists() else _COLUMNS.fullmatch(spec)
    source = _open_all(columns['path'] if columns else spec, _open_frames)
    if not columns:
        return source
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
      fit: tells clips from frames of clips where both are numbered, see `group_images`.

    Raises:
      UserError: there is nothing, it is damaged, of no known layout, or holds features of frames.
    """
    return _open_all(spec, lambda path: _open_objects(path, boxes, frame_sizes, fit))


def holds_objects(path: str) -> bool:
    """Return whether a file of features holds objects, as far as its layout tells.

    Raises:
      UserError: it holds no features.
    """
    found = content(path)
    if found in ('npz folder', 'TSV'):
        return True
    if found == 'npy folder':
        return False
    if found != 'HDF5':
        raise refuse_other(path, found)
    with hdf5.open_file(path) as file:
        return hdf5.layout(file) in ('object rows', 'object groups')


def _open_all(
    path: str, open_one: Callable[[str], FrameSource | ObjectSource]
) -> FrameSource | ObjectSource:
    if Path(path).exists() or '*' not in path:
        return open_one(path)
    paths = sorted(map(str, Path(path).parent.glob(Path(path).name)))
    if not paths:
        raise UserError(f'no file is called {path}')
    with contextlib.ExitStack() as opened:
        joined = Joined(path, [opened.enter_context(open_one(found)) for found in paths])
        opened.pop_all()
    return joined


def _open_frames(path: str) -> FrameSource:
    folder, colon, name = path.rpartition(':')
    if colon and not Path(path).exists() and Path(folder).is_dir():
        return NpyFolder(folder, name)
    found = content(path)
    if found == 'npy folder':
        return NpyFolder(path)
    if holds_objects(path):
        raise UserError(f'{path} holds objects, not features of frames: pass it as --objects')
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(hdf5.open_file(path))
        source = (RowFrames if hdf5.layout(file) == 'frame rows' else DatasetFrames)(file, path)
        opened.pop_all()
    return source


def _open_objects(
    path: str, boxes: str | None, frame_sizes: str | None, fit: Fit | None
) -> ObjectSource:
    found = content(path)
    if found in ('npz folder', 'TSV'):
        _refuse(path, boxes=boxes, frame_sizes=frame_sizes)
        return (NpzFolder if found == 'npz folder' else BottomUpTsv)(path, fit)
    if found == 'npy folder':
        raise _frames_as_objects(path)
    if found != 'HDF5':
        raise refuse_other(path, found)
    with contextlib.ExitStack() as opened:
        file, box_file, sizes = (
            opened.enter_context(hdf5.open_file(name)) if name else None
            for name in (path, boxes, frame_sizes)
        )
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
        f'{path} holds features of frames, not objects: pass it as --appearance or --motion'
    )


def _refuse(path: str, **flags: str | None) -> None:
    for name, value in flags.items():
        if value:
            raise UserError(f'{path} holds its own {name}: leave --{name} out')
