"""Decode sampled frames of a video, in as little memory as they need."""

import dataclasses
import os
from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from stg_jax.data.frame_sampling import sample_index, window_index
from stg_jax.errors import UserError
from stg_jax.extract.video import container


@dataclasses.dataclass(frozen=True)
class Video:
    """Sampled frames of a video, upright and in presentation order.

    Attributes:
      windows: (T, W, height, width, 3) uint8 RGB, the W frames around each sampled frame.
      index: (T,) int64, rank of each sampled frame among all `num_frames`.
      num_frames: frames that could be decoded.
      fps: average frames per second, 0 where the file does not say.
      height: height of the source in pixels, after rotation; the frames may be smaller.
      width: width of the source in pixels, after rotation.
    """

    windows: np.ndarray
    index: np.ndarray
    num_frames: int
    fps: float
    height: int
    width: int

    @property
    def frames(self) -> np.ndarray:
        """Return the sampled frames themselves, (T, height, width, 3) uint8 RGB."""
        return self.windows[:, self.windows.shape[1] // 2]


class Picker:
    """Takes frames by their rank from frames that come in presentation order.

    Args:
      size: (height, width) to scale the upright frames to; None keeps the first frame's size.
      max_side: without `size`, the most pixels of the longer side: larger frames are scaled down.
    """

    def __init__(self, size: tuple[int, int] | None, max_side: int | None):
        self._size, self._max_side = size, max_side
        self._reformatter = VideoReformatter()
        self.source_size: tuple[int, int] | None = None

    def pick(
        self, frames: Iterator[av.VideoFrame], wanted: Sequence[int]
    ) -> tuple[list[np.ndarray], int]:
        """Read all of `frames`; return those of the sorted ranks `wanted`, and how many came."""
        taken, decoded = [], 0
        for frame in frames:
            self._see(frame)
            if len(taken) < len(wanted) and wanted[len(taken)] == decoded:
                taken.append(container.upright(frame, self._size, self._reformatter))
            decoded += 1
        return taken, decoded

    def _see(self, frame: av.VideoFrame) -> None:
        if self.source_size is None:
            self.source_size = container.upright_size(frame)
            self._size = self._size or _bounded(*self.source_size, self._max_side)


def read_frames(
    path: str | os.PathLike[str],
    num_frames: int,
    *,
    window: int = 1,
    size: tuple[int, int] | None = None,
    max_side: int | None = None,
) -> Video:
    """Decode `num_frames` frames at the centres of equal parts of a video.

    Broken packets are skipped. Memory holds the sampled windows and one more frame, however long
    the video is. Transparency is ignored: pixels have the colour that is stored beneath it.

    Args:
      path: video file.
      num_frames: T; frames repeat where the video is shorter.
      window: W, frames to keep around each sampled frame, see `data.sampling.window_index`.
      size: see `Picker`.
      max_side: see `Picker`.

    Raises:
      UserError: the file is missing, empty, not a video, larger than `container.MAX_PIXELS` a
        frame, or no frame of it can be decoded.
    """
    with container.open_video(path) as stream:
        # One packet a frame in a healthy file, and cheap to count.
        count = max(1, sum(packet.size > 0 for packet in container.packets(stream)))
    # A second time where frames are broken, hidden or missing: only decoding all of the file
    # tells how many there are.
    for _ in range(2):
        index = sample_index(count, num_frames)
        ranks = window_index(index, window, count)
        picker = Picker(size, max_side)
        with container.open_video(path) as stream:
            taken, decoded = picker.pick(container.frames(stream), np.unique(ranks))
            fps = float(stream.average_rate or 0)
        if not decoded:
            raise UserError(f'{path} holds no frame that can be decoded: convert or remove it')
        if decoded == count:
            return Video(arrange(taken, ranks), index, count, fps, *picker.source_size)
        count = decoded
    raise UserError(f'{path} decodes differently each time: convert or remove it')


def arrange(taken: Sequence[np.ndarray], ranks: np.ndarray) -> np.ndarray:
    """Return (T, W, h, w, 3) of `taken`, the frames of the different ranks in `ranks` (T, W)."""
    _, place = np.unique(ranks, return_inverse=True)
    frames = np.stack([taken[i] for i in place.ravel()])
    return frames.reshape(*ranks.shape, *frames.shape[1:])


def _bounded(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """Return the size scaled down, as little as needed, to sides of at most `max_side`."""
    scale = min(1, (max_side or np.inf) / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
