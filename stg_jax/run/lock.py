"""A lock on a run folder: two trainings in one folder would mix their steps and checkpoints."""

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from absl import logging
from etils import epath

from stg_jax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = 'training.lock'


@contextlib.contextmanager
def lock_run(folder: epath.Path) -> Iterator[None]:
    """Hold a run folder for this process; created if need be.

    The operating system gives up the lock of a process that ends, however it ends, so a killed run
    leaves none behind. Folders in buckets cannot be locked.

    Raises:
      UserError: another process holds the folder, or it cannot be written.
    """
    if fcntl is None or '://' in os.fspath(folder):
        yield
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(Path(folder, NAME), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise cannot_write(folder, error) from None
    # The file stays when the lock is given up. Removing it would race with a process that has
    # opened it and is about to lock it.
    with os.fdopen(descriptor, 'r+', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f'{folder} is in use: {_holder(file)} trains in it; wait until it ends, stop it, '
                'or choose another --workdir'
            ) from None
        except OSError as error:
            # Some network file systems have no locks; a single training is safe there.
            logging.warning('%s cannot be locked: %s', folder, error.strerror)
        _sign(file)
        yield


def cannot_write(folder: epath.Path, error: OSError) -> UserError:
    """Build the error for a run folder that cannot be written."""
    return UserError(
        f'{folder} cannot be written ({error.strerror or error}): choose another --workdir'
    )


def _sign(file: IO[str]) -> None:
    """Write down which process holds the lock."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    file.truncate(0)
    file.write(json.dumps({'pid': os.getpid(), 'host': platform.node(), 'since': now}) + '\n')
    file.flush()


def _holder(file: IO[str]) -> str:
    """Name the process that holds the lock, as far as it has written down who it is."""
    file.seek(0)
    try:
        return 'process {pid} on {host} (since {since})'.format(**json.loads(file.read()))
    except (ValueError, TypeError, KeyError):
        return 'another process'
