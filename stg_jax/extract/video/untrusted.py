"""Read a stranger's video in a process of its own, which ends when its time is up.

A decoder cannot be interrupted from within Python, and a file may be made to keep it busy for
hours or to crash it.
"""

import dataclasses
import multiprocessing
import multiprocessing.connection
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stg_jax.errors import UserError
from stg_jax.extract.video.frames import Video, read_frames
from stg_jax.extract.video.timeline import read_timeline


@dataclasses.dataclass(frozen=True)
class Limits:
    """The largest video that a stranger may upload.

    Attributes:
      seconds: of its length.
      megabytes: of its file.
      patience: seconds that checking and decoding may take.
    """

    seconds: float
    megabytes: float
    patience: float = 120.0

    @property
    def pixels(self) -> float:
        """Pixels of all frames: 60 frames a second in full HD.

        Neither the length nor the size of a file bounds the work of decoding it: a plain picture
        compresses a thousandfold.
        """
        return self.seconds * 60 * 1920 * 1080

    def check(self, path: Path) -> None:
        """Refuse a larger video, before any of it is decoded.

        Raises:
          UserError: it is larger, or not a video.
        """
        if path.stat().st_size > self.megabytes * 1e6:
            raise UserError(
                f'{path.name} is larger than {self.megabytes:g} MB: cut it or make it smaller'
            )
        timeline = read_timeline(path)
        if timeline.end > self.seconds:
            raise UserError(
                f'{path.name} lasts {timeline.end:.0f} s and {self.seconds:g} s is the limit: '
                'cut it'
            )
        pixels = len(timeline.second) * timeline.frame_pixels
        if pixels > self.pixels:
            raise UserError(
                f'{path.name} has {len(timeline.second)} frames of {timeline.frame_pixels} pixels, '
                f'and {self.pixels / 1e6:.0f} million in all is the limit: scale it down'
            )


def read_untrusted(path: Path, sampling: Mapping[str, Any], limits: Limits) -> Video:
    """Check and decode a video within the time that the limits allow.

    Args:
      path: of the file.
      sampling: arguments of `read_frames`.
      limits: checked in the process as well, since reading packets can hang like decoding them.

    Raises:
      UserError: the file is refused, cannot be decoded, or takes too long.
    """
    # Not a fork: the parent holds the locks of JAX and of a web server's threads.
    context = multiprocessing.get_context('spawn')
    answer, question = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(question, path, sampling, limits), daemon=True)
    process.start()
    # The process holds the only writing end now, so that its death ends the pipe.
    question.close()
    try:
        # poll also returns when the process dies, and recv then raises EOFError.
        if not answer.poll(limits.patience):
            raise UserError(
                f'{path.name} takes more than {limits.patience:g} s to read: cut it, or convert it '
                'to mp4'
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
    limits: Limits,
) -> None:
    try:
        limits.check(path)
        found: Video | UserError = read_frames(path, **sampling)
    except UserError as error:
        found = error
    answer.send(found)
