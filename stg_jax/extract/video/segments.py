"""Sampled frames of a long video, one window of time after another."""

import bisect
import collections
import dataclasses
import heapq
import itertools
import operator
import os
from collections.abc import Iterator

import av
import numpy as np

from stg_jax.data.frame_sampling import sample_index, window_index
from stg_jax.errors import UserError
from stg_jax.extract.video import container
from stg_jax.extract.video.frames import Picker, Video, arrange

_REORDERED = 8  # frames whose times may be out of order


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of a video, read as if it had been cut out into a file of its own.

    Attributes:
      start: seconds after the first frame of the whole video.
      end: likewise; the next window starts here.
      second_T: when each of the T sampled frames is shown, likewise.
      video: the sampled frames; `index` and `num_frames` count within the window.
    """

    start: float
    end: float
    second_T: np.ndarray
    video: Video


@dataclasses.dataclass(frozen=True)
class Timeline:
    """When the frames of a video are shown, as its packets say.

    Attributes:
      origin: time stamp of the first frame in seconds, None in a file without time stamps.
      second: (F,) seconds after the first frame, sorted.
      end: when the last frame ceases to be shown.
      rate: average frames per second, 0 where the file does not say.
    """

    origin: float | None
    second: np.ndarray
    end: float
    rate: float

    def edges(self, seconds: float) -> list[float]:
        """Return where windows of `seconds` begin, and the end of the last."""
        count = max(1, round(self.end / seconds))
        return [0.0, *(k * seconds for k in range(1, count)), self.end]


def read_windows(
    path: str | os.PathLike[str],
    seconds: float,
    num_frames: int,
    *,
    window: int = 1,
    size: tuple[int, int] | None = None,
    max_side: int | None = None,
) -> Iterator[Window]:
    """Yield windows of `seconds` with `num_frames` sampled frames each, decoding the file once.

    The last window is between half as long and half as long again. A window in which no new frame
    is shown is left out. Memory holds the sampled frames of one window.

    The other arguments are those of `read_frames`.

    Raises:
      UserError: see `read_frames`; or the file says neither times nor a frame rate.
    """
    timeline = read_timeline(path)
    edges, picker = timeline.edges(seconds), Picker(size, max_side)
    with container.open_video(path) as stream:
        for number, frames in _by_window(timed_frames(stream, timeline), edges):
            start, end = edges[number : number + 2]
            second = timeline.second[slice(*np.searchsorted(timeline.second, (start, end)))]
            index = sample_index(max(1, len(second)), num_frames)
            ranks = window_index(index, window, max(1, len(second)))
            wanted = np.unique(ranks)
            taken, decoded = picker.pick(frames, wanted)
            if not taken:
                continue
            # Fewer frames than packets, where some are broken: the last one stays on the screen.
            taken += taken[-1:] * (len(wanted) - len(taken))
            source = timeline.rate, *picker.source_size
            video = Video(arrange(taken, ranks), index, decoded, *source)
            yield Window(start, end, second[index] if len(second) else index + start, video)
    if picker.source_size is None:
        raise UserError(f'{path} holds no frame that can be decoded: convert or remove it')


def read_timeline(path: str | os.PathLike[str]) -> Timeline:
    """Read the times of all frames without decoding any.

    Raises:
      UserError: the file is no video, or says neither times nor a frame rate.
    """
    with container.open_video(path) as stream:
        # What an edit list hides is decoded but never shown.
        stamps = [p.pts for p in container.packets(stream) if p.size and not p.is_discard]
        rate, tick = float(stream.average_rate or 0), float(stream.time_base or 0)
    if None in stamps and not rate:
        raise UserError(f'{path} says neither times nor a frame rate: convert it to mp4')
    if None in stamps:
        return Timeline(None, np.arange(len(stamps)) / rate, len(stamps) / rate, rate)
    time = np.sort(np.array(stamps or [0], float)) * tick
    gap = float(np.median(np.diff(time))) if len(time) > 1 else 1 / (rate or 1)
    return Timeline(time[0], time - time[0], float(time[-1] - time[0] + gap), rate)


def timed_frames(
    stream: av.VideoStream, timeline: Timeline
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield the frames in presentation order, each with when it is shown, never decreasing."""
    waiting, seconds, stamp = collections.deque(), [], 0
    for rank, frame in enumerate(container.frames(stream)):
        if timeline.origin is None:
            yield rank / timeline.rate, frame
            continue
        # In AVI files the order of the frames is right, but their times jump back and forth.
        waiting.append(frame)
        stamp = stamp if frame.pts is None else frame.pts
        heapq.heappush(seconds, stamp * float(stream.time_base) - timeline.origin)
        if len(waiting) == _REORDERED:
            yield heapq.heappop(seconds), waiting.popleft()
    while waiting:
        yield heapq.heappop(seconds), waiting.popleft()


def _by_window(
    timed: Iterator[tuple[float, av.VideoFrame]], edges: list[float]
) -> Iterator[tuple[int, Iterator[av.VideoFrame]]]:
    """Yield the number of each window and the frames that are shown in it."""

    def number(item: tuple[float, av.VideoFrame]) -> int:
        return min(max(bisect.bisect_right(edges, item[0]) - 1, 0), len(edges) - 2)

    for window, group in itertools.groupby(timed, number):
        yield window, map(operator.itemgetter(1), group)
