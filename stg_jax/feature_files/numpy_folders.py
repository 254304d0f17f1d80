"""Features in folders of `.npy` or `.npz` files, or in one `.npz`."""

import collections
import contextlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from stg_jax import files
from stg_jax.errors import UserError, first_line
from stg_jax.feature_files.base import (
    FRAMES,
    Objects,
    Source,
    as_steps,
    check_width,
    spread,
    usual_size,
    without_unit_axes,
)
from stg_jax.feature_files.detect import NPY, wrong_array
from stg_jax.feature_files.objects import (
    BOXLESS,
    PERHAPS_FRAMES,
    TIMELESS,
    Fit,
    build_objects,
    group_images,
    stack_steps,
)

# A few megabytes can unpack to anything. A clip of 10,000 frames of 2048 features has 80 MB.
_MAX_UNPACKED = 2**30
_MAX_HEADER = 1 << 16
Header = tuple[tuple[int, ...], np.dtype]  # shape, dtype
# What video_features calls its outputs; times and rates are saved beside the features.
_FACTS = ('fps', 'timestamps_ms')
_FEATURES = ('rgb', 'flow', 'r21d', 's3d', 'resnet', 'clip', 'timm', 'raft', 'vggish')
_FEATURES_NPZ = ('x', 'features', 'feat')
_BOXES = ('bbox', 'boxes')
_OF_OBJECTS = {*_BOXES, 'num_bbox'}
# Others are not even read: MILVLG's `info` is a pickle.
_WANTED = {*_FEATURES_NPZ, *_OF_OBJECTS, 'image_h', 'image_w'}


@contextlib.contextmanager
def _parsing(where: str | Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into a sentence."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f'{where} does not exist: choose another clip or folder') from None
    except Exception as error:
        reason = first_line(error)
        raise UserError(f'{where} is damaged ({reason}): copy or convert it again') from None


def read_npy(path: Path) -> np.ndarray:
    """Read an array of numbers.

    Raises:
      UserError: the file is missing, damaged, something else or a pickle.
    """
    # Not np.load: it would offer to load pickles, and asks for the memory that a header claims.
    with _parsing(path), path.open('rb') as file:
        return _read_array(file, path.stat().st_size, path)


def npy_header(path: Path) -> Header:
    """Read shape and dtype only.

    Raises:
      UserError: see `read_npy`.
    """
    with _parsing(path), path.open('rb') as file:
        return _read_header(file, path)[:2]


def read_npz(
    path: Path, wanted: Callable[[str], bool], most: int = _MAX_UNPACKED
) -> dict[str, np.ndarray]:
    """Read the arrays of an archive whose names are `wanted`; the others may even be pickles.

    Args:
      path: of the archive.
      wanted: called with the name of an array.
      most: bytes to which these arrays may unpack together.

    Raises:
      UserError: the file is missing, damaged or something else, or unpacks to too much.
    """
    arrays, size = {}, 0
    with _parsing(path), _archive(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix('.npy')
            if wanted(name):
                size += member.file_size
                if size > most:
                    raise UserError(
                        f'{path} unpacks to more than {most:,} bytes: save its arrays as .npy files'
                    )
                where = f'{path}: {name}'
                with _parsing(where), archive.open(member) as file:
                    arrays[name] = _read_array(file, member.file_size, where)
    return arrays


def npz_headers(path: Path) -> dict[str, Header]:
    """Read shape and dtype of every array of an archive.

    Raises:
      UserError: see `read_npz`.
    """
    headers = {}
    with _parsing(path), _archive(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix('.npy')
            with _parsing(f'{path}: {name}'), archive.open(member) as file:
                headers[name] = _read_header(file, f'{path}: {name}')[:2]
    return headers


def _archive(path: Path) -> zipfile.ZipFile:
    with path.open('rb') as file:
        start = file.read(512)
    if not start.startswith(b'PK'):
        raise wrong_array(path, start)
    return zipfile.ZipFile(path)


def _read_header(file: IO[bytes], where: str | Path) -> tuple[tuple[int, ...], np.dtype, bool, int]:
    """Read (shape, dtype, whether columns come first, bytes of the header)."""
    start = file.read(10)
    if not start.startswith(NPY):
        raise wrong_array(where, start + file.read(500))
    # One parser for all versions wants the length in front of it; we have read it already.
    length = int.from_bytes(start[8:10], 'little')
    prefix = start[8:10]
    if start[6] > 1:
        prefix += file.read(2)
        length = int.from_bytes(prefix, 'little')
    if length > _MAX_HEADER:
        raise UserError(f'{where} is damaged (a header of {length:,} bytes): copy it again')
    text = io.BytesIO(prefix + file.read(length))
    parse = np.lib.format.read_array_header_1_0
    if start[6] > 1:
        parse = np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = parse(text)
    return shape, dtype, columns_first, 8 + len(prefix) + length


def _read_array(file: IO[bytes], size: int, where: str | Path) -> np.ndarray:
    """Read an array from a file, or member of an archive, of `size` bytes."""
    shape, dtype, columns_first, skipped = _read_header(file, where)
    if dtype.hasobject:
        # Loading them would unpickle, and a pickle runs whatever it says.
        raise UserError(
            f'{where} holds Python objects, which can run programs, not numbers: let the program '
            'that wrote it save an array of numbers'
        )
    count = 1
    for length in shape:  # not np.prod, which overflows
        count *= length
    num_bytes = count * dtype.itemsize
    # Before memory is asked for: a damaged header may claim any shape.
    if min(shape, default=0) < 0 or num_bytes > size - skipped:
        raise UserError(
            f'{where} is cut: it holds {size - skipped:,} bytes, but its array {shape} of {dtype} '
            f'has {num_bytes:,}: copy it again'
        )
    # One read of the known size, also from an archive, which numpy reads in small blocks.
    values = np.frombuffer(file.read(num_bytes), dtype, count)
    return values.reshape(shape, order='F' if columns_first else 'C')


class NpyFolder(Source[np.ndarray]):
    """`<clip>.npy` (steps, D) or (D,): xiadingZ, xmodaler, SFTCap; or `<clip>_<name>.npy`.

    Args:
      path: of the folder.
      name: of the features among several that video_features wrote; None where it is plain.
      axes: `FRAMES`, or `GRID` for arrays (steps, cells, D).
    """

    def __init__(self, path: str, name: str | None = None, axes: int = FRAMES):
        stems = sorted(file.stem for file in files.visible(Path(path).glob('*.npy')))
        name = name or _only_name(path, stems)
        self.path = path
        self.family = 'folder of .npy (xiadingZ, xmodaler, SFTCap)'
        self._ending = '.npy'
        if name:
            self.family = f'folder of video_features outputs ({name})'
            self._ending = f'_{name}.npy'
            stems = [stem.removesuffix(f'_{name}') for stem in stems if stem.endswith(f'_{name}')]
        if not stems:
            raise UserError(f'{path} holds no <clip>{self._ending}')
        self.keys = stems
        self._axes = axes
        self.step = usual_size(stems, lambda key: self._read(key, None).shape[1:])
        self.width = self.step[-1]

    def read(self, key: str) -> np.ndarray:
        """Read (S, D) or (S, G, D) float32 features of a clip."""
        return self._read(key, self.step)

    def _read(self, key: str, step: tuple[int, ...] | None) -> np.ndarray:
        file = Path(self.path) / f'{key}{self._ending}'
        return as_steps(read_npy(file), str(file), self._axes, step)


def _only_name(path: str, stems: Iterable[str]) -> str | None:
    """Find which outputs of video_features are features, None if there are no outputs of it."""
    # A name counts only if every file has such an ending: a clip may well be called talk_clip.
    clips = collections.defaultdict(list)
    for stem in stems:
        ending = next((name for name in (*_FACTS, *_FEATURES) if stem.endswith(f'_{name}')), None)
        if ending is None:
            return None
        clips[ending].append(stem)
    names = [name for name in clips if name not in _FACTS]
    if len(names) != 1:
        raise UserError(
            f'{path} holds {" and ".join(names) or "no"} features: choose some by writing '
            f'{path}:{names[0] if names else "rgb"}'
        )
    return names[0]


def holds_boxes(path: str) -> bool:
    """Whether most archives of a folder, of a few that are looked at, hold boxes of objects."""
    # Headers only: the arrays of one picture can have megabytes.
    votes = collections.Counter()
    for name in spread(_archives(path)):
        try:
            votes[bool(_OF_OBJECTS & npz_headers(_file(path, name)).keys())] += 1
        except UserError:
            continue  # damage is the failure of one clip
    return votes[True] > votes[False]


class NpzFrames(Source[np.ndarray]):
    """`<clip>.npz` with an array (steps, D) or (D,), called as in `NpzFolder` or the only one."""

    family = 'folder of .npz with features of frames'

    def __init__(self, path: str, axes: int = FRAMES):
        self.path = path
        self.keys = _archives(path)
        self._axes = axes
        self.step = usual_size(self.keys, lambda key: self._read(key, None).shape[1:])
        self.width = self.step[-1]

    def read(self, key: str) -> np.ndarray:
        """Read (S, D) or (S, G, D) float32 features of a clip."""
        return self._read(key, self.step)

    def _read(self, key: str, step: tuple[int, ...] | None) -> np.ndarray:
        file = _file(self.path, key)
        # Headers first: of several arrays only the chosen one is unpacked.
        names = list(npz_headers(file))
        chosen = [name for name in _FEATURES_NPZ if name in names] or names
        if len(chosen) != 1:
            raise UserError(
                f'{file} holds {", ".join(names) or "nothing"}, of which none is called '
                f'{" or ".join(_FEATURES_NPZ)}: save the features as .npy'
            )
        arrays = read_npz(file, chosen.__contains__)
        return as_steps(arrays[chosen[0]], str(file), self._axes, step)


class NpzArchive(Source[np.ndarray]):
    """One `.npz` with an array (steps, D) or (D,) for each clip."""

    family = '.npz, an array per clip'

    def __init__(self, path: str, axes: int = FRAMES):
        self.path = path
        self.keys = list(npz_headers(Path(path)))
        if _OF_OBJECTS & set(self.keys):
            raise UserError(
                f'{path} holds the objects of one picture: pass the folder of all as --objects'
            )
        self._axes = axes
        self.step = usual_size(self.keys, lambda key: self._read(key, None).shape[1:])
        self.width = self.step[-1]

    def read(self, key: str) -> np.ndarray:
        """Read (S, D) or (S, G, D) float32 features of a clip."""
        return self._read(key, self.step)

    def _read(self, key: str, step: tuple[int, ...] | None) -> np.ndarray:
        arrays = read_npz(Path(self.path), lambda name: name == key)
        if key not in arrays:
            raise UserError(f'{self.path}: {key} does not exist: choose another clip or file')
        return as_steps(arrays[key], f'{self.path}: {key}', self._axes, step)


class NpzFolder(Source[Objects]):
    """`<picture>.npz` with features, boxes in pixels and the frame size, see `group_images`."""

    family = 'folder of .npz (MILVLG bottom-up-attention, xmodaler)'

    def __init__(self, path: str, fit: Fit | None = None):
        self.path = path
        self._images = group_images(_archives(path), fit)
        self.keys = list(self._images)
        names = [images[0] for images in self._images.values()]
        self.width = usual_size(names, lambda name: self._read_image(name, None).feature.shape[-1])
        without_time = all(len(images) == 1 for images in self._images.values())
        without_boxes = not holds_boxes(path)
        self.warnings = [TIMELESS] * without_time + [BOXLESS] * without_boxes
        if without_time and without_boxes:
            self.warnings.append(PERHAPS_FRAMES)

    def read(self, key: str) -> Objects:
        """Read the objects of a clip."""
        if key not in self._images:
            raise UserError(f'{self.path} holds no {key}.npz: choose another clip or folder')
        return stack_steps([self._read_image(name, self.width) for name in self._images[key]])

    def _read_image(self, name: str, width: int | None) -> Objects:
        file = _file(self.path, name)
        arrays = read_npz(file, _WANTED.__contains__)
        feature, box = _first(arrays, _FEATURES_NPZ), _first(arrays, _BOXES)
        if feature is not None:
            feature = feature.reshape(without_unit_axes(feature.shape, 2))
        if feature is None or feature.ndim != 2:
            raise UserError(f'{file} holds no features (n, D) called {" or ".join(_FEATURES_NPZ)}')
        if box is not None:
            box = box.reshape(without_unit_axes(box.shape, 2))
        # How many rows are real, where all pictures are padded to one number.
        number = _whole(arrays, 'num_bbox', len(feature if box is None else box), file)
        # Some tools store (D, n), as the networks of their time took it.
        if feature.shape[1] == number != len(feature):
            feature = feature.T
        check_width(feature, str(file), width)
        return build_objects(
            str(file),
            feature[:number],
            None if box is None else box[:number],
            height=_whole(arrays, 'image_h', 0, file),
            width=_whole(arrays, 'image_w', 0, file),
        )


def _archives(path: str) -> list[str]:
    """List the archives below a folder, by their paths in it without the ending."""
    # Also in sub-folders: tools that describe frames write a folder for each clip.
    folder = Path(path)
    names = [file.relative_to(folder).with_suffix('') for file in folder.rglob('*.npz')]
    return sorted(name.as_posix() for name in names if not files.is_hidden(name))


def _file(path: str, name: str) -> Path:
    return Path(path) / f'{name}.npz'


def _first(arrays: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _whole(arrays: Mapping[str, np.ndarray], name: str, default: int, file: Path) -> int:
    """Read a single whole number, not negative, from the arrays of a file."""
    if name not in arrays:
        return default
    value = arrays[name]
    if value.size != 1 or value.dtype.kind not in 'iuf' or not 0 <= float(value.flat[0]) < 2**31:
        raise UserError(f'{file}: {name} is no whole number: write the file again')
    return int(value.flat[0])
