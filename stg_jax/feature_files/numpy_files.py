"""The arrays of `.npy` and `.npz` files.

Files are parsed here and nowhere else, so that every kind of damage becomes one sentence: numpy,
zipfile and the decompressors raise more than ten types of error, depending on the damaged byte.
"""

import contextlib
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from stg_jax.errors import UserError, first_line
from stg_jax.feature_files.detect import NPY, wrong_array

# A few megabytes can unpack to anything. A clip of 10,000 frames of 2048 features has 80 MB.
_MAX_UNPACKED = 2**30
_MAX_HEADER = 1 << 16

Header = tuple[tuple[int, ...], np.dtype]  # shape, dtype


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


def read_npz(path: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Read the arrays of an archive whose names are `wanted`; the others may even be pickles.

    Raises:
      UserError: the file is missing, damaged or something else, or unpacks to too much.
    """
    arrays, size = {}, 0
    with _parsing(path), _archive(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix('.npy')
            if wanted(name):
                size += member.file_size
                if size > _MAX_UNPACKED:
                    raise UserError(
                        f'{path} unpacks to more than {_MAX_UNPACKED:,} bytes: save its arrays as '
                        '.npy files'
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
