"""Decode sampled frames of any video file; the only place that knows containers and codecs."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from stg_jax.data.sampling import sample_index, window_index
from stg_jax.errors import UserError


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


def read_frames(
    path: str | os.PathLike[str],
    num_frames: int,
    *,
    window: int = 1,
    size: tuple[int, int] | None = None,
) -> Video:
    """Decode `num_frames` frames at the centres of equal parts of a video.

    Broken packets are skipped. Memory holds the sampled windows and one more frame, however long
    the video is.

    Args:
      path: video file.
      num_frames: T; frames repeat where the video is shorter.
      window: odd number of neighbouring frames to keep around each sampled frame.
      size: (height, width) to scale the upright frames to; None keeps the first frame's size.

    Raises:
      UserError: the file is missing, empty, not a video, or no frame of it can be decoded.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path} is missing or not a file: name a video file')
    try:
        count = _count_packets(path)
        while True:
            index = sample_index(count, num_frames)
            wanted, place = np.unique(window_index(index, window, count), return_inverse=True)
            taken, decoded, source = _decode(path, wanted, size)
            if decoded == count:
                break
            # Broken, hidden or missing frames: only the full pass tells how many there are.
            count = decoded
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f'{path} is no readable video ({reason}): convert or remove it') from None
    return Video(np.stack(taken)[place.reshape(num_frames, window)], index, count, **source)


def _count_packets(path: Path) -> int:
    """Count the packets of the video stream: one a frame in a healthy file, and cheap."""
    with _open(path) as container:
        return max(1, sum(packet.size > 0 for packet in _packets(container, path)))


def _decode(
    path: Path, wanted: np.ndarray, size: tuple[int, int] | None
) -> tuple[list[np.ndarray], int, dict]:
    """Return the frames whose ranks are in the sorted `wanted`, the frame count and the source."""
    taken, decoded = [], 0
    reformatter = VideoReformatter()  # one for all frames: it keeps the tables of its last call
    with _open(path) as container:
        for frame in _frames(container, path):
            if not decoded:
                size = size or _upright_size(frame)
                height, width = _upright_size(frame)
            if len(taken) < len(wanted) and wanted[len(taken)] == decoded:
                taken.append(_upright(frame, size, reformatter))
            decoded += 1
        fps = float(_stream(container, path).average_rate or 0)
    if not decoded:
        raise UserError(f'{path} holds no frame that can be decoded: convert or remove it')
    return taken, decoded, {'fps': fps, 'height': height, 'width': width}


def _open(path: Path) -> av.container.InputContainer:
    # Titles in an unknown encoding, or damaged, must not keep anybody from the pictures.
    return av.open(path, metadata_errors='replace')


def _frames(container: av.container.InputContainer, path: Path) -> Iterator[av.VideoFrame]:
    """Yield the frames in presentation order, skipping packets that do not decode."""
    for packet in _packets(container, path):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from frames


def _packets(container: av.container.InputContainer, path: Path) -> Iterator[av.Packet]:
    """Yield the packets of the video stream up to where the file breaks off."""
    try:
        yield from container.demux(_stream(container, path))
    except av.error.FFmpegError:
        return


def _stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """Return the first moving picture of the file; the cover picture of a song is none."""
    for stream in container.streams.video:
        if stream.codec_context and not stream.disposition & Disposition.attached_pic:
            return stream
    raise UserError(f'{path} holds no video stream that can be decoded: convert or remove it')


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Return how many quarter turns counter-clockwise bring the frame upright."""
    return round(frame.rotation / 90) % 4


def _upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    size = frame.height, frame.width
    return size[::-1] if _quarter_turns(frame) % 2 else size


def _upright(
    frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter
) -> np.ndarray:
    """Return the frame as (*size, 3) uint8 RGB, turned upright."""
    turns = _quarter_turns(frame)
    height, width = size[::-1] if turns % 2 else size
    # Scaled while still as stored, so that a large frame never becomes a large RGB array.
    scaled = reformatter.reformat(frame, width, height, 'rgb24', interpolation='AREA')
    return np.rot90(scaled.to_ndarray(), turns)
