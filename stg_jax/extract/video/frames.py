"""Sample frames of a video, or of each of its segments, in as little memory as they need."""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from stg_jax.data.frame_sampling import context_index, sample_index
from stg_jax.errors import UserError
from stg_jax.extract.video import container
from stg_jax.extract.video.timeline import Timeline, read_timeline, timed_frames


@dataclasses.dataclass(frozen=True)
class Video:
    """Sampled frames of a video or of a segment of it, upright and in presentation order.

    Attributes:
      contexts: (T, W, height, width, 3) uint8 RGB, the W frames around each sampled frame.
      index: (T,) int64, rank of each sampled frame among all `num_frames`.
      second_T: when each sampled frame is shown, in seconds of the player's clock.
      num_frames: frames that could be decoded.
      start: where the segment begins, in seconds of the player's clock; 0 for a whole video.
      end: where it ends.
      fps: average frames per second, 0 if the file does not say.
      height: of the source as it is shown, in pixels; the frames may be smaller.
      width: likewise.
    """

    contexts: np.ndarray
    index: np.ndarray
    second_T: np.ndarray
    num_frames: int
    start: float
    end: float
    fps: float
    height: int
    width: int

    @property
    def frames(self) -> np.ndarray:
        """The sampled frames themselves, (T, height, width, 3) uint8 RGB."""
        return self.contexts[:, self.contexts.shape[1] // 2]


def read_frames(
    path: str | os.PathLike[str],
    num_frames: int,
    *,
    context: int = 1,
    size: tuple[int, int] | None = None,
    max_side: int | None = None,
) -> Video:
    """Decode `num_frames` frames at the centres of equal parts of a video.

    Broken packets are skipped. Memory holds the sampled frames and one more, however long the
    video is. Transparency is ignored: pixels have the colour that is stored beneath it.

    Args:
      path: video file.
      num_frames: T; frames repeat if the video is shorter.
      context: W, consecutive frames kept around each sampled one, see `context_index`.
      size: (height, width) to scale all frames to; None keeps the first frame's size.
      max_side: without `size`, most pixels of the longer side: larger frames are scaled down.

    Raises:
      UserError: the file is missing, empty, not a video, larger than `container.MAX_PIXELS` a
        frame, or no frame of it can be decoded.
    """
    options = {'context': context, 'size': size, 'max_side': max_side}
    return next(_read(path, None, num_frames, **options))


def read_segments(
    path: str | os.PathLike[str], seconds: float, num_frames: int, **options
) -> Iterator[Video]:
    """Sample each segment of `seconds` as if it had been cut out into a file of its own.

    The last segment is between half as long and half as long again. A segment in which no new
    frame is shown is left out. Memory holds the sampled frames of one segment.

    The other arguments and the errors are those of `read_frames`.
    """
    return _read(path, seconds, num_frames, **options)


def _read(
    path: str | os.PathLike[str],
    seconds: float | None,
    num_frames: int,
    *,
    context: int = 1,
    size: tuple[int, int] | None = None,
    max_side: int | None = None,
) -> Iterator[Video]:
    # A healthy file has one packet per frame, and packets are cheap to read. If some are broken,
    # hidden or missing, only decoding shows which frames there are: then the file is read again.
    timeline, first = read_timeline(path), 0
    for _ in range(2):
        shown: list[float] = []
        segments = timeline.segment_of(timeline.second, seconds)
        with container.open_video(path) as stream:
            picker = _Picker(stream, size, max_side)
            timed = _record_times(timed_frames(stream, timeline), shown)
            for number, frames in _by_segment(timed, timeline, seconds):
                if number < first:
                    continue
                second = timeline.second[slice(*np.searchsorted(segments, (number, number + 1)))]
                index = sample_index(max(1, len(second)), num_frames)
                # Contexts overlap: each frame is kept once and stacked as often as it is needed.
                ranks = context_index(index, context, max(1, len(second)))
                taken, decoded = picker.pick(frames, np.unique(ranks).tolist())
                if decoded != len(second):
                    # Decode the rest for its times, which the second pass needs.
                    collections.deque(timed, maxlen=0)
                    break
                first = number + 1
                shape = {'fps': timeline.rate, **picker.source_size}
                start, end = timeline.edges(number, seconds)
                times = {'second_T': second[index], 'start': start, 'end': end}
                yield Video(_arrange(taken, ranks), index, num_frames=decoded, **times, **shape)
            else:
                if not shown:
                    raise UserError(
                        f'{path} holds no frame that can be decoded: convert or remove it'
                    )
                return
        # Segments that matched were right and have been yielded; reading resumes after them.
        timeline = timeline.with_frames(shown)
    raise UserError(f'{path} decodes differently each time: convert or remove it')


class _Picker:
    """Takes frames by their rank from frames that come in presentation order.

    Args:
      stream: of the frames.
      size: see `read_frames`.
      max_side: see `read_frames`.

    Attributes:
      source_size: 'height' and 'width' of the first frame, once one was seen.
    """

    def __init__(self, stream: VideoStream, size: tuple[int, int] | None, max_side: int | None):
        self._stream, self._size, self._max_side = stream, size, max_side
        self._reformatter = VideoReformatter()
        self.source_size: dict[str, int] = {}

    def pick(
        self, frames: Iterable[av.VideoFrame], wanted: Sequence[int]
    ) -> tuple[list[np.ndarray], int]:
        """Read all of `frames`; return those of the sorted ranks `wanted`, and the total number."""
        taken, decoded = [], 0
        # Every frame is decoded, as most depend on those before; only wanted ones are converted.
        for frame in frames:
            size = self._size_of(frame)
            if len(taken) < len(wanted) and wanted[len(taken)] == decoded:
                taken.append(container.upright(frame, size, self._reformatter))
            decoded += 1
        return taken, decoded

    def _size_of(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Decide the size of all frames at the first one."""
        if not self.source_size:
            height, width = container.upright_size(frame, self._stream)
            self.source_size = {'height': height, 'width': width}
            self._size = self._size or _bounded(height, width, self._max_side)
        assert self._size is not None
        return self._size


def _record_times(
    timed: Iterator[tuple[float, av.VideoFrame]], shown: list[float]
) -> Iterator[tuple[float, av.VideoFrame]]:
    for second, frame in timed:
        shown.append(second)
        yield second, frame


def _by_segment(
    timed: Iterator[tuple[float, av.VideoFrame]], timeline: Timeline, seconds: float | None
) -> Iterator[tuple[int, Iterator[av.VideoFrame]]]:
    """Yield the number of each segment and the frames that are shown in it."""

    def number(item: tuple[float, av.VideoFrame]) -> int:
        return int(timeline.segment_of(np.array([item[0]]), seconds)[0])

    for segment, group in itertools.groupby(timed, number):
        yield segment, (frame for _, frame in group)


def _arrange(taken: Sequence[np.ndarray], ranks: np.ndarray) -> np.ndarray:
    """Stack the frames of the distinct `ranks` (T, W) into (T, W, h, w, 3)."""
    _, place = np.unique(ranks, return_inverse=True)
    frames = np.stack([taken[i] for i in place.ravel().tolist()])
    return frames.reshape(*ranks.shape, *frames.shape[1:])


def _bounded(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """Scale a size down, as little as needed, to sides of at most `max_side`."""
    scale = min(1, (max_side or np.inf) / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
