"""What is done to a clip, and by whom: in this process, or by several, always in order."""

import collections
import concurrent.futures
import dataclasses
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from stg_jax.data.check import check_clip
from stg_jax.data.clip import Clip
from stg_jax.errors import UserError

CLIPS_PER_CHUNK = 8  # done at once, and lost at most when a worker is killed
_CHUNKS_IN_FLIGHT = 3  # per process; finished ones wait in memory for those before them


@dataclasses.dataclass(frozen=True)
class Request:
    """A clip that shall be made.

    Attributes:
      clip_id: its id.
      captions: its normalised captions.
      source: the video that it was cut from, '' where unknown.
      path: its video file, '' where it comes from feature files.
    """

    clip_id: str
    captions: tuple[str, ...]
    source: str = ''
    path: str = ''


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a clip could not be made, in one sentence."""

    clip: str
    file: str
    reason: str


Result = Clip | Failure
Chunk = Sequence[Request]


class Maker(Protocol):
    """Makes clips. It is pickled to where it works, and opens files and models only there.

    Attributes:
      settings: JSON object; equal settings make equal clips of equal files.
    """

    settings: dict[str, Any]

    def load(self, chunk: Chunk) -> Any:
        """Read and decode what the chunk needs, in a thread ahead of `make`."""

    def make(self, chunk: Chunk, loaded: Any) -> list[Result]:
        """Return one result for each request of the chunk."""


def attempt(make: Callable[..., Clip], request: Request, *args: Any) -> Result:
    """Return the clip that `make(request, *args)` makes, or why it is none that can be written."""
    try:
        clip = make(request, *args)
        check_clip(clip)
    except UserError as error:
        return Failure(request.clip_id, request.path, str(error))
    return clip


def chunked(requests: Iterable[Request]) -> Iterator[Chunk]:
    """Cut requests into chunks."""
    requests = iter(requests)
    while chunk := list(itertools.islice(requests, CLIPS_PER_CHUNK)):
        yield chunk


def make_all(maker: Maker, chunks: Iterable[Chunk], workers: int) -> Iterator[list[Result]]:
    """Yield the results of each chunk, in order, made by `workers` processes (1: by this one)."""
    if workers == 1:
        yield from _make_here(maker, chunks)
        return
    # spawn: a forked child of a process with TensorFlow's threads may hang.
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(maker,)
    ) as pool:
        made = (pool.submit(_make_in_worker, chunk) for chunk in chunks)
        yield from _in_order(made, workers * _CHUNKS_IN_FLIGHT)


def _make_here(maker: Maker, chunks: Iterable[Chunk]) -> Iterator[list[Result]]:
    """Make the chunks one by one while a thread loads the next."""

    def load(chunk: Chunk) -> tuple[Chunk, Any]:
        return chunk, maker.load(chunk)

    with concurrent.futures.ThreadPoolExecutor(1) as ahead:
        loading = (ahead.submit(load, chunk) for chunk in chunks)
        for chunk, loaded in _in_order(loading, 2):
            yield maker.make(chunk, loaded)


def _in_order(
    futures: Iterable[concurrent.futures.Future], most: int
) -> Iterator[list[Result] | tuple[Chunk, Any]]:
    """Yield the results of futures in order, while at most `most` are under way or waiting."""
    waiting = collections.deque()
    try:
        for future in futures:
            waiting.append(future)
            if len(waiting) == most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _start_worker(maker: Maker) -> None:
    global _maker  # a worker process has one maker, whose models stay loaded
    _maker = maker


def _make_in_worker(chunk: Chunk) -> list[Result]:
    return _maker.make(chunk, _maker.load(chunk))
