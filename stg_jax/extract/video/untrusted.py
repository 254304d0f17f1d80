"""Read a stranger's video in a process of its own, which ends when its time is up.

A decoder cannot be interrupted from within Python, and a file may be made to keep it busy for
hours or to crash it.
"""

import multiprocessing
import multiprocessing.connection
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stg_jax.errors import UserError
from stg_jax.extract.video.frames import Video, read_frames

Check = Callable[[Path], None]


def read_untrusted(
    path: Path, sampling: Mapping[str, Any], *, check: Check, patience: float
) -> Video:
    """Check and decode a video within `patience` seconds.

    Args:
      path: of the file.
      sampling: arguments of `read_frames`.
      check: refuses the file, before any of it is decoded; picklable.
      patience: seconds after which the process is killed.

    Raises:
      UserError: the file is refused, cannot be decoded, or takes too long.
    """
    # Not a fork: the parent holds the locks of JAX and of a web server's threads.
    context = multiprocessing.get_context('spawn')
    answer, question = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(question, path, sampling, check), daemon=True)
    process.start()
    # The process holds the only writing end now, so that its death ends the pipe.
    question.close()
    try:
        # poll also returns when the process dies, and recv then raises EOFError.
        if not answer.poll(patience):
            raise UserError(
                f'{path.name} takes more than {patience:g} s to read: cut it, or convert it to mp4'
            )
        found = answer.recv()
    except EOFError:
        raise UserError(f'{path.name} cannot be decoded: convert it to mp4') from None
    finally:
        # Not terminate: a decoder that hangs in C handles no signal.
        process.kill()
        process.join()
        answer.close()
    if isinstance(found, UserError):
        raise found
    return found


def _read(
    answer: multiprocessing.connection.Connection,
    path: Path,
    sampling: Mapping[str, Any],
    check: Check,
) -> None:
    try:
        check(path)
        found: Video | UserError = read_frames(path, **sampling)
    except UserError as error:
        found = error
    answer.send(found)
