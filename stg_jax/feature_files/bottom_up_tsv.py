"""Objects in the TSV files of bottom-up-attention, a row per picture.

The original columns are image_id, image_w, image_h, num_boxes, boxes, features; LXMERT's are
img_id, img_h, img_w, objects_id, objects_conf, attrs_id, attrs_conf, num_boxes, boxes, features.
Arrays are base64 of float32 or float64, classes of int64 or int32; boxes are in pixels.
"""

import base64
import contextlib
import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from stg_jax.errors import UserError, first_line
from stg_jax.feature_files.base import Objects, Source, check_width, usual_size
from stg_jax.feature_files.detect import GZIP, TSV_NUMBERS
from stg_jax.feature_files.objects import (
    SLACK,
    TIMELESS,
    Fit,
    build_objects,
    group_images,
    stack_steps,
)

_MOST_DIGITS = 9  # of a number of pixels or objects
_MAX_ROW = 1 << 26
_MAX_RATIO = 100  # of unpacked to packed bytes; base64 of features that are mostly zero reaches 20
_COLUMNS = {
    6: ('id', 'width', 'height', 'number', 'boxes', 'features'),
    10: (
        *('id', 'height', 'width', 'labels', 'scores'),
        *('attribute', 'attribute_score', 'number', 'boxes', 'features'),
    ),
}


class BottomUpTsv(Source[Objects]):
    """Rows of pictures, found again by their place in the file; for clips see `group_images`.

    A `.gz` is unpacked into a temporary file for as long as the source is open: gzip cannot seek.
    """

    family = 'bottom-up-attention TSV'

    def __init__(self, path: str, fit: Fit | None = None):
        self.path = path
        with contextlib.ExitStack() as opened:
            self._file = opened.enter_context(_unpacked(path))
            # One pass finds the place of every row: reading clips in the order of the annotations
            # would otherwise search gigabytes for each.
            self._place, self._swapped, self.warnings = _index(self._file, path)
            self._images = group_images(list(self._place), fit)
            self.keys = list(self._images)
            self.width = usual_size(list(self._place), self._width)
            self._opened = opened.pop_all()
        if all(len(images) == 1 for images in self._images.values()):
            self.warnings = [TIMELESS, *self.warnings]

    def read(self, key: str) -> Objects:
        """Read the objects of a clip."""
        if key not in self._images:
            raise UserError(f'{self.path} holds no {key}: choose another clip or file')
        return stack_steps([self._read_image(name, self.width) for name in self._images[key]])

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def _width(self, name: str) -> int:
        width = self._read_image(name, None).feature.shape[-1]
        if not width:
            raise UserError(f'{self.path}: {name} holds no object')
        return width

    def _read_image(self, name: str, width: int | None) -> Objects:
        where = f'{self.path}: {name}'
        self._file.seek(self._place[name])
        row = _cells(self._file.readline(_MAX_ROW), where)
        number = int(row['number'])
        feature = _array(row, 'features', number, where)
        # A cell without numbers does not say how wide they would be.
        if not number:
            feature = np.zeros((0, width or 0), np.float32)
        check_width(feature, where, width)
        size = int(row['height']), int(row['width'])
        height, width = size[::-1] if self._swapped else size
        return build_objects(
            where,
            feature,
            _array(row, 'boxes', number, where),
            score=_array(row, 'scores', number, where)[:, 0] if 'scores' in row else None,
            label=_array(row, 'labels', number, where)[:, 0] if 'labels' in row else None,
            height=height,
            width=width,
        )


def first_row(path: str) -> dict[str, str]:
    """Describe the columns of a file by name, as its first row has them: numbers, or shapes.

    Raises:
      UserError: the row is damaged.
    """
    where = f'{path} line 1'
    with Path(path).open('rb') as file:
        packed = file.read(2) == GZIP
    with _gzip_readable(path), (gzip.open if packed else open)(path, 'rb') as file:
        row = _cells(file.readline(_MAX_ROW), where)
    described = {}
    for name, cell in row.items():
        if name in ('id', 'width', 'height', 'number'):
            described[name] = cell.decode('utf-8', errors='replace')
        else:
            array = _array(row, name, int(row['number']), where)
            described[name] = f'{array.dtype} {array.shape}'
    return described


@contextlib.contextmanager
def _gzip_readable(path: str) -> Iterator[None]:
    """Turn what gzip and zlib raise of a damaged file into a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f'{path} is a damaged gzip file ({first_line(error)}): copy it again'
        ) from None


@contextlib.contextmanager
def _unpacked(path: str) -> Iterator[IO[bytes]]:
    """Open a file for reading at any place."""
    with Path(path).open('rb') as file:
        if file.read(2) != GZIP:
            file.seek(0)
            yield file
            return
    with tempfile.TemporaryFile() as unpacked:
        _unpack(path, unpacked)
        unpacked.seek(0)
        yield unpacked


def _unpack(path: str, unpacked: IO[bytes]) -> None:
    most = _MAX_ROW + _MAX_RATIO * Path(path).stat().st_size
    with _gzip_readable(path), gzip.open(path) as packed:
        while block := packed.read(1 << 20):
            unpacked.write(block)
            # A few megabytes of zeros could fill the disk.
            if unpacked.tell() > most:
                raise UserError(
                    f'{path} unpacks to more than {_MAX_RATIO} times its size: unpack it yourself '
                    'if it is what you expect'
                )


def _index(file: IO[bytes], path: str) -> tuple[dict[str, int], bool, list[str]]:
    """Pass over all rows once.

    A damaged row keeps its place: reading it is the failure of one clip.

    Returns:
      The place of each picture in the file, whether width and height are swapped, and a sentence
      for everything that is left out.
    """
    place, start, twice, strange = {}, 0, 0, []
    fits = {False: 0, True: 0}
    for number, line in enumerate(file, 1):
        name, tab, _ = line.partition(b'\t')
        if tab:
            text = name.decode('utf-8', errors='replace')
            twice += text in place
            # The first row of a picture that comes twice, as that of a key in other files.
            place.setdefault(text, start)
            _compare_sizes(line, fits)
        elif line.strip():
            strange.append(number)
        start += len(line)
    if not place:
        raise UserError(f'{path} holds no picture')
    notes = [f'{twice} pictures come twice: the first of each counts'] if twice else []
    if strange:
        notes.append(f'{len(strange)} lines are no rows and left out, the first is {strange[0]}')
    return place, bool(fits[True] > fits[False]), notes


def _compare_sizes(line: bytes, fits: dict[bool, int]) -> None:
    """Count whether the boxes of a row fit into its frame as written, and with sides swapped.

    Writers disagree about which of width and height comes first; only the boxes say.
    """
    with contextlib.suppress(UserError):
        row = _cells(line, '')
        boxes = _array(row, 'boxes', int(row['number']), '')
        corner = boxes.max(axis=0, initial=0)[2:]
        size = np.array([int(row['width']), int(row['height'])])
        for swapped in fits:
            fits[swapped] += (corner <= (1 + SLACK) * (size[::-1] if swapped else size)).all()


def _cells(line: bytes, where: str) -> dict[str, bytes]:
    """Divide a row into its cells, by name."""
    cells = line.rstrip(b'\r\n').split(b'\t')
    if len(cells) not in _COLUMNS:
        raise UserError(f'{where} has {len(cells)} columns, expected 6 or 10: copy the file again')
    names = _COLUMNS[len(cells)]
    # Nine digits are enough, and Python refuses to parse numbers of thousands.
    for i in TSV_NUMBERS[len(cells)]:
        if not cells[i].isdigit() or len(cells[i]) > _MOST_DIGITS:
            raise UserError(
                f'{where} has no whole number as {names[i]}: this is another kind of table'
            )
    return dict(zip(names, cells, strict=True))


_PER_OBJECT = {'boxes': 4, 'scores': 1, 'labels': 1, 'attribute': 1, 'attribute_score': 1}
_WHOLE = ('labels', 'attribute')


def _array(row: dict[str, bytes], name: str, number: int, where: str) -> np.ndarray:
    """Decode a cell into an array (objects, values of each)."""
    try:
        data = base64.b64decode(row[name], validate=True)
    except ValueError as error:
        raise UserError(f'{where} has broken {name} ({error}): copy the file again') from None
    if not number:
        return np.zeros((0, _PER_OBJECT.get(name, 0)), np.float32)
    # The number of objects is written in the row, so that the size of these cells gives the size of
    # a number. How wide features are is not: there, only the values can decide.
    if name in _PER_OBJECT:
        size = len(data) / (number * _PER_OBJECT[name])
    else:
        size = 8 if _is_float64(data) else 4
    if size not in (4, 8) or len(data) % (number * size):
        raise UserError(
            f'{where} has broken {name} ({len(data)} bytes for {number} objects): copy the file '
            'again'
        )
    dtype = np.dtype(f'<{"i" if name in _WHOLE else "f"}{int(size)}')
    return np.frombuffer(data, dtype).reshape(number, -1)


def _is_float64(data: bytes) -> bool:
    """Whether bytes make sense as float64 and not as float32.

    Each half of a float64, read as float32, has a random exponent or one of a few odd ones.
    """
    if len(data) % 8:
        return False
    return _plausible(np.frombuffer(data, '<f8')) and not _plausible(np.frombuffer(data, '<f4'))


def _plausible(values: np.ndarray) -> bool:
    """Whether all numbers have a magnitude that features have."""
    # float32 values that were widened to float64 have low words of 2, 4e19 or 1e-19.
    sizes = np.abs(values[values != 0])
    return bool(((sizes > 1e-15) & (sizes < 1e12)).all())  # also False for NaN
