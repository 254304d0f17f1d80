"""When each frame of a video is shown, read without decoding it."""

import collections
import dataclasses
import heapq
import os
from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.video.stream import VideoStream

from stg_jax.errors import UserError
from stg_jax.extract.video import container

# Frames whose times may be out of order.
_REORDERED = 8
# Seconds that sound may begin before the pictures. More is a broken clock.
_LONGEST_LEAD = 3600.0
# Seconds by which containers round the start of a stream.
_SAME = 1e-3


@dataclasses.dataclass(frozen=True)
class Timeline:
    """When the frames of a video are shown, in seconds of the player's clock.

    Attributes:
      origin: time stamp at which the player's clock is 0, in seconds; None without time stamps.
      second: (F,) sorted.
      end: when the last frame disappears.
      rate: average frames per second, 0 if the file does not say.
      frame_pixels: pixels of a frame, as its header claims.
    """

    origin: float | None
    second: np.ndarray
    end: float
    rate: float
    frame_pixels: int

    def edges(self, number: int, seconds: float | None) -> tuple[float, float]:
        """Compute start and end of a segment; without `seconds` the video is one segment."""
        if seconds is None:
            return 0.0, self.end
        is_last = number == self._num_segments(seconds) - 1
        return number * seconds, self.end if is_last else (number + 1) * seconds

    def segment_of(self, second: np.ndarray, seconds: float | None) -> np.ndarray:
        """Find the segment in which each time falls.

        The last segment is between half as long and half as long again as the others.
        """
        if seconds is None:
            return np.zeros(len(second), np.int64)
        return np.clip(second // seconds, 0, self._num_segments(seconds) - 1).astype(np.int64)

    def with_frames(self, second: Sequence[float]) -> 'Timeline':
        """Return the timeline of the frames that really decode."""
        shown = np.array(second)
        last = self.end - self.second[-1] if len(self.second) else 1 / (self.rate or 1)
        return dataclasses.replace(self, second=shown, end=float(shown[-1] + last))

    def _num_segments(self, seconds: float) -> int:
        return max(1, round(self.end / seconds))


def read_timeline(path: str | os.PathLike[str]) -> Timeline:
    """Read the times of all frames from the packets of a video.

    Raises:
      UserError: the file is not a video, or has neither time stamps nor a frame rate.
    """
    with container.open_video(path) as stream:
        # What an edit list hides is decoded but never shown.
        shown = [
            (packet.pts, packet.duration or 0)
            for packet in container.packets(stream)
            if packet.size and not packet.is_discard
        ]
        rate, tick = stated_rate(stream), float(stream.time_base or 0)
        start = container.start_of_sound(stream)
        pixels = stream.codec_context.width * stream.codec_context.height
    stamps = [pts for pts, _ in shown if pts is not None]
    is_still = len(stamps) > 1 and min(stamps) == max(stamps)
    # Raw streams, some AVI files, and damaged ones whose stamps never change.
    if not shown:
        return Timeline(None, np.zeros(0), 0.0, rate or 1.0, pixels)
    if not stamps or len(stamps) < len(shown) or is_still:
        if not rate:
            raise UserError(f'{path} has neither time stamps nor a frame rate: convert it to mp4')
        return Timeline(None, np.arange(len(shown)) / rate, len(shown) / rate, rate, pixels)
    # Packets come in decoding order, which B-frames make differ from that of presentation.
    order = np.argsort(stamps, kind='stable')
    time = np.array(stamps, float)[order] * tick
    duration = np.array([length for _, length in shown], float)[order] * tick
    lead = time[0] - start if start is not None else 0.0
    origin = time[0] - lead if _SAME < lead <= _LONGEST_LEAD else time[0]
    end = float(time[-1] - origin + _last_duration(time, duration, rate))
    return Timeline(origin, time - origin, end, _measured_rate(time, rate), pixels)


def timed_frames(stream: VideoStream, timeline: Timeline) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield the frames in presentation order, each with its time, which never decreases."""
    waiting, seconds, stamp, latest = collections.deque(), [], 0, 0.0
    tick = float(stream.time_base or 0)
    for rank, frame in enumerate(container.frames(stream)):
        if timeline.origin is None:
            yield rank / timeline.rate, frame
            continue
        # In AVI files the order of the frames is right, but their times jump back and forth.
        waiting.append(frame)
        stamp = stamp if frame.pts is None else frame.pts
        heapq.heappush(seconds, stamp * tick - timeline.origin)
        if len(waiting) == _REORDERED:
            latest = max(latest, heapq.heappop(seconds))
            yield latest, waiting.popleft()
    while waiting:
        latest = max(latest, heapq.heappop(seconds))
        yield latest, waiting.popleft()


def stated_rate(stream: VideoStream) -> float:
    """Return the frame rate that a file states, 0 if it does not."""
    return float(stream.average_rate or 0)


def _last_duration(time: np.ndarray, duration: np.ndarray, rate: float) -> float:
    """Estimate how long the last frame is shown, which no later time stamp ends."""
    if len(time) == 1:
        return float(duration[0] or 1 / (rate or 1))
    # Some containers fill in durations without knowing them: trust only those that add up.
    span = time[-1] - time[0]
    if duration[-1] > 0 and abs(duration[:-1].sum() - span) <= 0.1 * span:
        return float(duration[-1])
    return float(np.median(np.diff(time)))


def _measured_rate(time: np.ndarray, rate: float) -> float:
    """Return the stated frame rate if the time stamps agree with it, else the one they show."""
    if len(time) < 2:
        return rate
    measured = (len(time) - 1) / (time[-1] - time[0])
    return rate if abs(rate / measured - 1) < 0.05 else float(measured)
