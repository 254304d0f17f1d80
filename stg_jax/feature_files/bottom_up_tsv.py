"""Objects in the TSV files of bottom-up-attention, a row per picture.

The original columns are image_id, image_w, image_h, num_boxes, boxes, features; LXMERT's are
img_id, img_h, img_w, objects_id, objects_conf, attrs_id, attrs_conf, num_boxes, boxes, features.
Arrays are base64 of float32, ids of int64; boxes are in pixels.
"""

import base64
import contextlib
import gzip
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stg_jax.errors import UserError
from stg_jax.feature_files.base import Closing, Objects, check_width
from stg_jax.feature_files.objects import (
    SLACK,
    TIMELESS,
    Fit,
    build_objects,
    group_images,
    stack_steps,
)

_GZIP = b'\x1f\x8b'
_COLUMNS = {
    6: ('id', 'width', 'height', 'number', 'boxes', 'features'),
    10: (
        *('id', 'height', 'width', 'labels', 'scores'),
        *('attribute', 'attribute_score', 'number', 'boxes', 'features'),
    ),
}


class BottomUpTsv(Closing):
    """Rows of pictures, found again by their place in the file; for clips see `group_images`.

    A `.gz` is unpacked into a temporary file for as long as the source is open.
    """

    def __init__(self, path: str, fit: Fit | None = None):
        self.path = path
        with contextlib.ExitStack() as opened:
            self._file = opened.enter_context(_unpacked(path))
            self._place, self._swapped, doubles = _index(self._file, path)
            self._images = group_images(list(self._place), fit)
            self.keys = list(self._images)
            self.width = self._read_image(next(iter(self._place)), None).feature.shape[-1]
            self._opened = opened.pop_all()
        self.family = 'bottom-up-attention TSV'
        without_time = all(len(images) == 1 for images in self._images.values())
        self.warnings = [TIMELESS] * without_time
        if doubles:
            self.warnings.append(f'{doubles} pictures come twice: the first of each counts')

    def read(self, key: str) -> Objects:
        """Return the objects of a clip, see `ObjectSource`."""
        if key not in self._images:
            raise UserError(f'{self.path} holds no {key}: choose another clip or file')
        return stack_steps([self._read_image(name, self.width) for name in self._images[key]])

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def _read_image(self, name: str, width: int | None) -> Objects:
        where = f'{self.path}: {name}'
        self._file.seek(self._place[name])
        row = _cells(self._file.readline(), where)
        number = int(row['number'])
        feature = _array(row, 'features', number, where)
        if not number:  # a cell without numbers does not tell how wide they would be
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
    """Return the columns of a file by name, as its first row has them: numbers, or shapes.

    Raises:
      UserError: the row is damaged.
    """
    where = f'{path} line 1'
    with Path(path).open('rb') as file:
        packed = file.read(2) == _GZIP
    try:
        with (gzip.open if packed else open)(path, 'rb') as file:
            row = _cells(file.readline(), where)
    except (OSError, EOFError) as error:
        raise UserError(f'{path} is a damaged gzip file ({error}): copy it again') from None
    described = {}
    for name, cell in row.items():
        if name in ('id', 'width', 'height', 'number'):
            described[name] = cell.decode('utf-8', errors='replace')
        else:
            array = _array(row, name, int(row['number']), where)
            described[name] = f'{array.dtype} {array.shape}'
    return described


@contextlib.contextmanager
def _unpacked(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading at any place."""
    with Path(path).open('rb') as file:
        if file.read(2) != _GZIP:
            file.seek(0)
            yield file
            return
    with tempfile.TemporaryFile() as unpacked:
        try:
            with gzip.open(path) as packed:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
        except (OSError, EOFError) as error:
            raise UserError(f'{path} is a damaged gzip file ({error}): copy it again') from None
        unpacked.seek(0)
        yield unpacked


def _index(file: BinaryIO, path: str) -> tuple[dict[str, int], bool, int]:
    """Pass over all rows once.

    Returns:
      The place of each picture in the file, whether width and height are swapped, and how many
      pictures come again.
    """
    place, start, doubles = {}, 0, 0
    fits = {False: 0, True: 0}
    for number, line in enumerate(file, 1):
        where = f'{path} line {number}'
        row = _cells(line, where)
        name = row['id'].decode('utf-8', errors='replace')
        doubles += name in place
        place.setdefault(name, start)
        start += len(line)
        # Writers disagree about which comes first; the boxes tell.
        corner = _array(row, 'boxes', int(row['number']), where).max(axis=0, initial=0)[2:]
        size = np.array([int(row['width']), int(row['height'])])
        for swapped in fits:
            fits[swapped] += (corner <= (1 + SLACK) * (size[::-1] if swapped else size)).all()
    if not place:
        raise UserError(f'{path} holds no picture')
    return place, bool(fits[True] > fits[False]), doubles


def _cells(line: bytes, where: str) -> dict[str, bytes]:
    """Return the cells of a row by name."""
    cells = line.rstrip(b'\r\n').split(b'\t')
    if len(cells) not in _COLUMNS:
        raise UserError(f'{where} has {len(cells)} columns, expected 6 or 10: copy the file again')
    row = dict(zip(_COLUMNS[len(cells)], cells, strict=True))
    for name in ('number', 'height', 'width'):
        if not row[name].isdigit():
            raise UserError(f'{where} has no whole number as {name}: this is another kind of table')
    return row


def _array(row: dict[str, bytes], name: str, number: int, where: str) -> np.ndarray:
    """Return a cell as an array (objects, values of each)."""
    try:
        content = base64.b64decode(row[name], validate=True)
        values = np.frombuffer(content, np.int64 if name == 'labels' else np.float32)
        values = values.reshape(number, -1) if number else np.zeros((0, 4), np.float32)
    except ValueError as error:
        raise UserError(f'{where} has broken {name} ({error}): copy the file again') from None
    if name == 'boxes' and values.shape[1] != 4:
        raise UserError(
            f'{where} has {values.size} numbers for {number} boxes: copy the file again'
        )
    return values
