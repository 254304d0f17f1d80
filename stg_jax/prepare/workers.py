"""Make clips in this process or in several worker processes, always in order."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

import cv2

from stg_jax.cli import signals
from stg_jax.data.clip import Clip, check_clip
from stg_jax.errors import UserError

# Together, so that models see full batches and a chunk costs one file of the work folder. Not more:
# a killed worker loses the chunk.
CLIPS_PER_CHUNK = 8  # made together; at most this many are lost when a worker is killed
# Results are written in order, so a slow video holds back the chunks after it. Three per worker
# keep the others busy; more would only hold features in memory.
_CHUNKS_IN_FLIGHT = 3  # per process; finished chunks wait in memory for those before them
_DIED = 'the process that read it died (out of memory, or a fault of a decoder)'

_T = TypeVar('_T')


@dataclasses.dataclass(frozen=True)
class Request:
    """A clip that is to be made.

    Attributes:
      clip_id: its id.
      captions: its normalised captions.
      source: the video that it was cut from, '' if unknown.
      path: its video file, '' if it comes from feature files.
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


# Settings are part of the key under which finished clips are stored, so anything that changes a
# clip must be in them.
class Maker(Protocol):
    """Makes clips. It is pickled to the worker processes, and opens files and models only there.

    Attributes:
      settings: JSON object; equal settings make equal clips of equal files.
    """

    settings: dict[str, Any]

    def load(self, chunk: Chunk) -> Any:
        """Read and decode what the chunk needs; called in a thread ahead of `make`."""
        ...

    def make(self, chunk: Chunk, loaded: Any) -> list[Result]:
        """Make one result for each request of the chunk."""
        ...


def attempt(make: Callable[..., Clip], request: Request, *args: Any) -> Result:
    """Call `make(request, *args)` and check its clip; a `UserError` becomes a `Failure`."""
    try:
        clip = make(request, *args)
        check_clip(clip)
    except UserError as error:
        # Only what the user can resolve becomes a failure of one clip; a bug must stop the
        # preparation.
        return Failure(request.clip_id, request.path, str(error))
    return clip


def chunked(requests: Iterable[Request]) -> Iterator[Chunk]:
    """Cut requests into chunks."""
    requests = iter(requests)
    while chunk := list(itertools.islice(requests, CLIPS_PER_CHUNK)):
        yield chunk


def make_all(maker: Maker, chunks: Iterable[Chunk], workers: int) -> Iterator[list[Result]]:
    """Yield the results of each chunk, in order, made by `workers` processes (1: this process).

    If one of several worker processes dies, the pool is replaced, and the clip that killed it
    becomes a failure.
    """
    # A model on an accelerator cannot be shared by processes, so `workers` is 1 there; a thread
    # still overlaps decoding with the model.
    if workers == 1:
        yield from _make_here(maker, chunks)
        return
    chunks = iter(chunks)
    # A pool that broke cannot be used again. The next round starts a new one with what is left.
    while first := next(chunks, None):
        yield from _make_by_pool(maker, itertools.chain([first], chunks), workers)


def _make_by_pool(maker: Maker, chunks: Iterator[Chunk], workers: int) -> Iterator[list[Result]]:
    """Make chunks to the end, or until a worker dies and the chunks then in flight are made."""
    most, died = workers * _CHUNKS_IN_FLIGHT, False
    waiting: collections.deque[tuple[Chunk, concurrent.futures.Future]] = collections.deque()
    # The order of the results is that of the chunks, whoever makes them: this is what makes the
    # shards the same for any number of workers.
    with _pool(maker, workers) as pool, contextlib.closing(_OneByOne(maker)) as one_by_one:
        try:
            while True:
                room = 0 if died else most - len(waiting)
                waiting.extend((c, _submit(pool, c)) for c in itertools.islice(chunks, room))
                if not waiting:
                    return
                chunk, future = waiting.popleft()
                try:
                    results = future.result()
                except BrokenProcessPool:
                    # The pool does not report which chunk the dead worker was making.
                    died, results = True, one_by_one.make(chunk)
                yield results
        finally:
            # Without this the pool would finish all submitted chunks before an interrupted command
            # ends.
            for _, future in waiting:
                future.cancel()


class _OneByOne:
    """Makes chunks that may have killed a worker, in a process that is replaced when it dies."""

    def __init__(self, maker: Maker):
        self._maker = maker
        self._process: concurrent.futures.ProcessPoolExecutor | None = None

    def make(self, chunk: Chunk) -> list[Result]:
        """Make a chunk; a clip that kills the process becomes a failure.

        Raises:
          UserError: every clip of a full chunk kills the process, so the clips are not the cause.
        """
        # Most chunks in flight did not kill the worker, so the whole chunk is tried first.
        with contextlib.suppress(BrokenProcessPool):
            return self._attempt(chunk)
        results, deaths = [], 0
        for request in chunk:
            try:
                results += self._attempt([request])
            except BrokenProcessPool:
                deaths += 1
                results.append(Failure(request.clip_id, request.path, _DIED))
        # Eight deaths in a row are a lack of memory, or a broken library, not eight bad videos.
        if deaths == CLIPS_PER_CHUNK:
            raise UserError(
                f'a process died of each of {deaths} clips from {chunk[0].clip_id} on: if memory '
                'ran out, pass fewer --workers or a smaller --batch_size'
            )
        return results

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._process.shutdown()
            self._process = None

    def _attempt(self, chunk: Chunk) -> list[Result]:
        self._process = self._process or _pool(self._maker, 1)
        try:
            return self._process.submit(_make_in_worker, chunk).result()
        except BrokenProcessPool:
            self.close()
            raise


def _pool(maker: Maker, workers: int) -> concurrent.futures.ProcessPoolExecutor:
    # spawn: a forked child of a process that runs TensorFlow's threads may hang.
    context = multiprocessing.get_context('spawn')
    return concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(maker,)
    )


def _submit(
    pool: concurrent.futures.ProcessPoolExecutor, chunk: Chunk
) -> concurrent.futures.Future:
    """Submit a chunk; if the pool has just broken, its future raises that, like those in flight."""
    try:
        return pool.submit(_make_in_worker, chunk)
    except BrokenProcessPool as error:
        broken = concurrent.futures.Future()
        broken.set_exception(error)
        return broken


def _make_here(maker: Maker, chunks: Iterable[Chunk]) -> Iterator[list[Result]]:
    """Make the chunks one by one while a thread loads the next one."""

    def load(chunk: Chunk) -> tuple[Chunk, Any]:
        return chunk, maker.load(chunk)

    # One thread is enough: FFmpeg and OpenCV release the interpreter lock and use threads of their
    # own.
    with concurrent.futures.ThreadPoolExecutor(1) as ahead:
        loading = (ahead.submit(load, chunk) for chunk in chunks)
        # Two: the chunk that is being made, and the next one. Decoded frames are large.
        for chunk, loaded in _in_order(loading, 2):
            yield maker.make(chunk, loaded)


def _in_order(futures: Iterable[concurrent.futures.Future[_T]], most: int) -> Iterator[_T]:
    """Yield the results of futures in order, while at most `most` are running or waiting."""
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
    global _maker  # one maker per worker process, so that its models stay loaded
    _maker = maker
    # One process a core: threads of OpenCV would take the cores from the other processes.
    cv2.setNumThreads(1)
    # Ctrl-C reaches all processes of a terminal; the parent decides how to end.
    signals.ignore_interrupts()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is killed.

    Workers hold both ends of the queue that they read from, so they never see it close: without
    this they would wait for work, with their models in memory, until the machine restarts.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_in_worker(chunk: Chunk) -> list[Result]:
    return _maker.make(chunk, _maker.load(chunk))
