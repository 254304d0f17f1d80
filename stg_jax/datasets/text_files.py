"""JSON documents in files, zips and folders of both."""

import codecs
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from stg_jax.errors import UserError

# Keeps the letters of files in which some lines are UTF-8 and others are Latin-1.
LATIN1 = 'stg_jax.latin1'
codecs.register_error(
    LATIN1, lambda error: (error.object[error.start : error.end].decode('latin-1'), error.end)
)


def numbered_lines(
    path: str | os.PathLike[str], *, errors: str = 'strict'
) -> Iterator[tuple[str, str]]:
    """Yield ('FILE line N', line) of every line of a UTF-8 file that is not blank.

    Raises:
      UserError: the file is not UTF-8, and `errors` is 'strict'.
    """
    try:
        # Not str.splitlines: it would also cut at separators inside of a caption.
        with Path(path).open(encoding='utf-8-sig', errors=errors) as lines:
            for count, line in enumerate(lines, 1):
                if line.strip():
                    yield f'{path} line {count}', line.rstrip('\n')
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is not UTF-8 text ({error}): save it as UTF-8') from None


_MAX_BYTES = 2**30  # of a document in a zip, which may claim to unpack to anything
# RuntimeError: a member needs a password, or is compressed in a way that is unknown here.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


def read_documents(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where it is, document) of a JSON file, of those in a zip, or in a folder of both.

    Raises:
      UserError: there is none, or one is broken or not an object.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f'the annotations {path} do not exist: name a JSON file, a zip or a folder')
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in ('.json', '.zip'))
    found = False
    for file in files:
        for where, text in _zipped(file) if file.suffix.lower() == '.zip' else _plain(file):
            if not PurePosixPath(where).name.startswith('.'):  # ._x.json: metadata of macOS
                found = True
                yield where, _parse(where, text)
    if not found:
        raise UserError(f'{path} holds no JSON file')


def _plain(path: Path) -> Iterator[tuple[str, bytes]]:
    yield str(path), path.read_bytes()


def _zipped(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith('.json') and member.file_size <= _MAX_BYTES:
                    yield f'{path}/{member.filename}', archive.read(member)
    except _ZIP_ERRORS as error:
        raise UserError(f'{path} cannot be unpacked ({error}): download it again') from None


def _parse(where: str, text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{where} is not valid JSON ({error})') from None
    if not isinstance(document, dict):
        raise UserError(f'{where} is a JSON {type(document).__name__}, not an object')
    return document
