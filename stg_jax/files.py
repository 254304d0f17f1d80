"""Files that appear whole or not at all, on a disk or behind a URI such as gs://bucket/file."""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from etils import epath

from stg_jax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def write_file(path: str | os.PathLike[str]) -> Iterator[epath.Path]:
    """Yield a name beside `path` for a file that replaces `path` when the block succeeds."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.name))
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with write_file(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + '\n')


def check_writable(path: str | os.PathLike[str], suffixes: Sequence[str] = ()) -> None:
    """Check that a file can be written, before the minutes of work that it is meant to hold.

    A file is made and removed where `path` or the folders above it would be.

    Args:
      path: of the file; folders that do not exist will be made when it is written.
      suffixes: one of which it must have, if any are given.

    Raises:
      UserError: it cannot be written, has another suffix, or there is a folder of its name.
    """
    path = epath.Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f'{path} must end in {", ".join(suffixes)}')
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a file in it')
    in_bucket = '://' in os.fspath(path)  # where folders need not exist
    folder = path.parent if in_bucket else next(each for each in path.parents if each.exists())
    probe = folder / _temporary_name(path.name)
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f'{path} cannot be written ({error.strerror or error}): name a file elsewhere'
        ) from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
      UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(epath.Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise UserError(f'{path} does not exist') from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f'{path} is not valid JSON ({error})') from None


def is_hidden(path: PurePath) -> bool:
    """Whether a file, or a folder above it, begins with a dot.

    macOS leaves `._clip.npy` beside every file on drives of other systems, and `.DS_Store`.
    """
    return any(part.startswith('.') and part not in ('.', '..') for part in path.parts)


def visible(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the paths whose last part does not begin with a dot."""
    return (path for path in paths if not path.name.startswith('.'))


def not_data(start: bytes) -> str | None:
    """Recognize what downloads leave in place of a file, from its first bytes.

    Returns:
      What to say after its name, or None for everything else.
    """
    text = start.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if text.startswith((b'<!doctype', b'<html', b'<head', b'<?xml', b'<script')):
        return 'is a web page, not data: download the file itself, perhaps after logging in'
    if text.startswith(b'version https://git-lfs'):
        return 'is a pointer of Git LFS, not data: run git lfs pull where it was cloned'
    return None


@contextlib.contextmanager
def write_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder beside `path` that is renamed to `path` when the block succeeds.

    What killed processes left of folders for the same `path` is removed first.

    Raises:
      UserError: `path` exists already, or cannot be made.
    """
    path = Path(path)
    refuse_existing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        temporary, lock = _new_locked_folder(path)
    except OSError as error:
        reason = f'{error.filename}: {error.strerror}'
        raise UserError(f'{path} cannot be made ({reason}): name another folder') from None
    try:
        yield temporary
        refuse_existing(path)  # another process may have been faster
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def refuse_existing(path: Path) -> None:
    """Refuse to write a folder where there is something already."""
    if path.exists():
        raise UserError(f'{path} exists already: name another folder, or remove it first')


def _temporary_name(name: str) -> str:
    # No process id: every container has the same, and a file of a killed one would be in the way.
    return f'.{name}.{secrets.token_hex(4)}.tmp'


def _new_locked_folder(path: Path) -> tuple[Path, int]:
    """Make a temporary folder; return it and the open file that holds its lock while we live."""
    while True:
        temporary = path.with_name(_temporary_name(path.name))
        temporary.mkdir()
        lock = os.open(temporary, os.O_RDONLY)
        if fcntl:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_SH)
        if temporary.exists():
            return temporary, lock
        os.close(lock)  # taken for abandoned before it was locked


def _remove_abandoned(path: Path) -> None:
    """Remove temporary folders for `path` that no living process holds the lock of."""
    for left in path.parent.iterdir():
        if not _is_temporary(left.name, path.name) or not left.is_dir() or not fcntl:
            continue
        # Where a lock cannot be taken, or not be seen, the folder stays.
        with contextlib.suppress(OSError), _opened(left) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)


def _is_temporary(name: str, of: str) -> bool:
    middle = name.removeprefix(f'.{of}.').removesuffix('.tmp')
    return name == f'.{of}.{middle}.tmp' and middle.isalnum()


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
