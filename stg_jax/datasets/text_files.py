"""Lines of text files, and JSON documents in files, zips and folders of both."""

import codecs
import collections
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from stg_jax import files
from stg_jax.errors import UserError

# Error handler for files in which some lines are UTF-8 and others Latin-1: keeps their letters.
LATIN1 = 'stg_jax.latin1'


def _read_as_latin1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode('latin-1'), error.end


codecs.register_error(LATIN1, _read_as_latin1)


def numbered_lines(
    path: str | os.PathLike[str], *, errors: str = 'strict'
) -> Iterator[tuple[str, str]]:
    """Yield ('FILE line N', line) for every line of a UTF-8 file that is not blank.

    Raises:
      UserError: the file is not UTF-8, and `errors` is 'strict'.
    """
    try:
        # Not str.splitlines, which would also cut at the separators inside a caption.
        with Path(path).open(encoding='utf-8-sig', errors=errors) as lines:
            for count, line in enumerate(lines, 1):
                if line.strip():
                    yield f'{path} line {count}', line.rstrip('\n')
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is not UTF-8 text ({error}): save it as UTF-8') from None


def parse_json(where: str | os.PathLike[str], text: str | bytes) -> Any:
    """Parse JSON in which no object has a key twice.

    Python's parser keeps the last of two equal keys, so that captions would be lost silently.

    Raises:
      UserError: it is not such JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _as_dict(where, pairs))
    except (ValueError, RecursionError) as error:
        start = text[:512].encode() if isinstance(text, str) else text[:512]
        other = files.not_data(start)
        if other:
            raise UserError(f'{where} {other}') from None
        raise UserError(f'{where} is not valid JSON ({error})') from None


def _as_dict(where: str | os.PathLike[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Comparing lengths is all that a sound file pays for.
    found = dict(pairs)
    if len(found) < len(pairs):
        # Not list.count for each key: that takes minutes for a file of 60,000 clips.
        ((twice, _),) = collections.Counter(key for key, _ in pairs).most_common(1)
        raise UserError(f'{where} has {twice!r} twice in one object: keep one of them')
    return found


_MAX_BYTES = 2**28  # of all documents in a zip, which may claim to unpack to anything


def read_documents(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """Yield (where it is, document) for a JSON file, for those in a zip, or in a folder of both.

    Raises:
      UserError: there are none, or one is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f'the annotations {path} do not exist: name a JSON file, a zip or a folder')
    found = False
    for file in sorted(_files(path)) if path.is_dir() else [path]:
        for where, text in _zipped(file) if file.suffix.lower() == '.zip' else _plain(file):
            found = True
            yield where, parse_json(where, text)
    if not found:
        raise UserError(f'{path} holds no JSON file')


def holds_documents(path: Path) -> bool:
    """Whether a path is, or is a folder with, a JSON file or a zip."""
    if path.is_dir():
        return any(_files(path))
    return path.suffix.lower() in _SUFFIXES


_SUFFIXES = ('.json', '.zip')


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in files.visible(folder.iterdir()) if file.suffix.lower() in _SUFFIXES)


def _plain(path: Path) -> Iterator[tuple[str, bytes]]:
    yield str(path), path.read_bytes()


def _zipped(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                member
                for member in archive.infolist()
                if member.filename.endswith('.json')
                and not files.is_hidden(PurePosixPath(member.filename))
            ]
            # Before anything is unpacked. The sizes in the directory can be trusted: zipfile reads
            # no more than they say.
            size = sum(member.file_size for member in members)
            if size > _MAX_BYTES:
                raise UserError(
                    f'{path} unpacks to {size:,} bytes, but annotations of more than '
                    f'{_MAX_BYTES:,} are not read from a zip: unpack it'
                )
            for member in members:
                yield f'{path}/{member.filename}', archive.read(member)
    except UserError:
        raise
    # What zipfile raises depends on which bytes are damaged: more than ten types were seen.
    except Exception as error:
        raise UserError(f'{path} cannot be unpacked ({error}): download it again') from None
