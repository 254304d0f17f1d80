"""Read and write files, on a disk or behind a URI such as gs://bucket/file.

What is written appears whole or not at all, so that a killed process leaves nothing half-written.
"""

import contextlib
import hashlib
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


_LONGEST_NAME = 200  # bytes; file systems allow 255, and temporary names are longer


@contextlib.contextmanager
def write_file(path: str | os.PathLike[str]) -> Iterator[epath.Path]:
    """Yield a name beside `path` for a file that replaces `path` when the block succeeds."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the file and not in /tmp, because a rename is only atomic within one file system.
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with _naming(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(path: os.PathLike[str]) -> Iterator[None]:
    """Add the path to system errors that have none, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with write_file(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if not _is_utf8(text):
        text = json.dumps(value, indent=2)  # escapes the bytes of file names that are not UTF-8
    write_text(path, text + '\n')


def check_writable(path: str | os.PathLike[str], suffixes: Sequence[str] = ()) -> None:
    """Check that a file can be written, before the minutes of work whose result it will hold.

    A probe is created and removed in its folder, or in the nearest folder above that exists.

    Args:
      path: of the file; missing folders are created when it is written.
      suffixes: allowed suffixes, any if empty.

    Raises:
      UserError: the file cannot be written, has another suffix, or is a folder.
    """
    path = epath.Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f'{path} must end in {", ".join(suffixes)}')
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a file in it')
    in_bucket = '://' in os.fspath(path)  # where folders need not exist
    folder = path.parent if in_bucket else next(each for each in path.parents if each.exists())
    # By writing, because os.access is wrong for root, read-only mounts and network drives.
    probe = folder / _temporary_name(path.name)
    try:
        if not in_bucket:
            _check_length(path)
        probe.touch()
        probe.unlink()
        if not in_bucket:
            with contextlib.suppress(FileNotFoundError):
                os.lstat(path)  # refuses a name that is too long; that of the probe is short
    except OSError as error:
        raise UserError(
            f'{path} cannot be written ({error.strerror or error}): name a file elsewhere'
        ) from None


def _check_length(path: epath.Path) -> None:
    """Let the file system refuse a name that is too long for it; the probe has another name."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
      UserError: the file is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(epath.Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise UserError(f'{path} does not exist') from None
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror or error})') from None
    except RecursionError:
        raise UserError(f'{path} is not valid JSON (it is nested too deeply)') from None
    except ValueError as error:  # also of bytes that are not UTF-8, and of endless numbers
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

    Temporary folders that killed processes left for the same `path` are removed first.

    Raises:
      UserError: `path` exists already, or cannot be created.
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
        with _naming(path):
            yield temporary
            refuse_existing(path)  # another process may have been faster
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def refuse_existing(path: Path) -> None:
    """Refuse to write a folder where anything exists, be it a link to nothing."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    raise UserError(f'{path} exists already: name another folder, or remove it first')


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _temporary_name(name: str) -> str:
    # Random, not a process id: in containers all processes may have the same one.
    return f'{_temporary_prefix(name)}{secrets.token_hex(4)}.tmp'


def _temporary_prefix(name: str) -> str:
    """Start of the temporary names for `name`; short enough for any name that is itself valid."""
    encoded = os.fsencode(name)
    if len(encoded) > _LONGEST_NAME:
        name = hashlib.sha256(encoded).hexdigest()
    return f'.{name}.'


def _new_locked_folder(path: Path) -> tuple[Path, int]:
    """Create a temporary folder, with an open file that holds its lock while this process lives."""
    while True:
        temporary = path.with_name(_temporary_name(path.name))
        temporary.mkdir()
        lock = os.open(temporary, os.O_RDONLY)
        if fcntl:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_SH)
        if temporary.exists():
            return temporary, lock
        os.close(lock)  # another process removed it as abandoned before it was locked


def _remove_abandoned(path: Path) -> None:
    """Remove temporary folders for `path` whose lock no living process holds."""
    for left in path.parent.iterdir():
        if not _is_temporary(left.name, path.name) or not left.is_dir() or not fcntl:
            continue
        # If the file system has no locks, the folder stays.
        with contextlib.suppress(OSError), _opened(left) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)


def _is_temporary(name: str, of: str) -> bool:
    prefix = _temporary_prefix(of)
    middle = name.removeprefix(prefix).removesuffix('.tmp')
    return name == f'{prefix}{middle}.tmp' and middle.isalnum()


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
