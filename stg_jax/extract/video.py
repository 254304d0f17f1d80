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

# 8 K pictures pass; a header that claims more is damaged, or meant to fill the memory.
MAX_PIXELS = 8192 * 8192


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
    max_side: int | None = None,
) -> Video:
    """Decode `num_frames` frames at the centres of equal parts of a video.

    Broken packets are skipped. Memory holds the sampled windows and one more frame, however long
    the video is. Transparency is ignored: pixels have the colour that is stored beneath it.

    Args:
      path: video file.
      num_frames: T; frames repeat where the video is shorter.
      window: W, frames to keep around each sampled frame, see `data.sampling.window_index`.
      size: (height, width) to scale the upright frames to; None keeps the first frame's size.
      max_side: without `size`, the most pixels of the longer side: larger frames are scaled down.

    Raises:
      UserError: the file is missing, empty, not a video, larger than `MAX_PIXELS` a frame, or no
        frame of it can be decoded.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path} is missing or not a file: name a video file')
    try:
        count = _count_packets(path)
        # A second time where frames are broken, hidden or missing: only decoding all of the file
        # tells how many there are.
        for _ in range(2):
            index = sample_index(count, num_frames)
            wanted, place = np.unique(window_index(index, window, count), return_inverse=True)
            taken, decoded, source = _decode(path, wanted, size, max_side)
            if decoded == count:
                break
            count = decoded
        else:
            raise UserError(f'{path} decodes differently each time: convert or remove it')
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f'{path} is no readable video ({reason}): convert or remove it') from None
    windows = np.stack([taken[i] for i in place.ravel()])
    windows = windows.reshape(num_frames, window, *windows.shape[1:])
    return Video(windows, index, count, **source)


def _count_packets(path: Path) -> int:
    """Count the packets of the video stream: one a frame in a healthy file, and cheap."""
    with _open(path) as container:
        return max(1, sum(packet.size > 0 for packet in _packets(_stream(container, path))))


def _decode(
    path: Path, wanted: np.ndarray, size: tuple[int, int] | None, max_side: int | None
) -> tuple[list[np.ndarray], int, dict]:
    """Return the frames whose ranks are in the sorted `wanted`, the frame count and the source."""
    taken, decoded = [], 0
    reformatter = VideoReformatter()  # one for all frames: it keeps the tables of its last call
    with _open(path) as container:
        stream = _stream(container, path)
        for frame in _frames(stream):
            if not decoded:
                height, width = _upright_size(frame)
                size = size or _bounded(height, width, max_side)
            if len(taken) < len(wanted) and wanted[len(taken)] == decoded:
                taken.append(_upright(frame, size, reformatter))
            decoded += 1
        fps = float(stream.average_rate or 0)
    if not decoded:
        raise UserError(f'{path} holds no frame that can be decoded: convert or remove it')
    return taken, decoded, {'fps': fps, 'height': height, 'width': width}


def _open(path: Path) -> av.container.InputContainer:
    # Titles in an unknown encoding, or damaged, must not keep anybody from the pictures. Without
    # 'file:' a name with a colon is an address, and a play list may name addresses too.
    options = {'protocol_whitelist': 'file', 'max_pixels': str(MAX_PIXELS)}
    return av.open(f'file:{path}', options=options, metadata_errors='replace')


def _frames(stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the frames in presentation order, skipping packets that do not decode."""
    for packet in _packets(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from frames


def _packets(stream: av.VideoStream) -> Iterator[av.Packet]:
    """Yield the packets of the video stream up to where the file breaks off."""
    try:
        yield from stream.container.demux(stream)
    except av.error.FFmpegError:
        return


def _stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """Return the first moving picture of the file; the cover picture of a song is none."""
    for stream in container.streams.video:
        context = stream.codec_context
        if context and not stream.disposition & Disposition.attached_pic:
            if context.width * context.height > MAX_PIXELS:
                raise UserError(
                    f'{path} claims {context.width} x {context.height} pixels: scale it down to '
                    f'{MAX_PIXELS / 1e6:.0f} million, or remove it'
                )
            # The limit at opening is for the probe alone; this one is for every frame.
            context.options = {'max_pixels': str(MAX_PIXELS)}
            # How a decoder patches up broken frames depends on how threads share them, so that
            # features would depend on the machine.
            context.thread_count = 1
            return stream
    raise UserError(f'{path} holds no video stream that can be decoded: convert or remove it')


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Return how many quarter turns counter-clockwise bring the frame upright."""
    # A display matrix of zeros has no angle, which arrives as an absurd number.
    return round(frame.rotation / 90) % 4 if abs(frame.rotation) <= 360 else 0


def _upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    size = frame.height, frame.width
    return size[::-1] if _quarter_turns(frame) % 2 else size


def _bounded(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """Return the size scaled down, as little as needed, to sides of at most `max_side`."""
    scale = min(1, (max_side or np.inf) / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _upright(
    frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter
) -> np.ndarray:
    """Return the frame as (*size, 3) uint8 RGB, turned upright."""
    turns = _quarter_turns(frame)
    height, width = size[::-1] if turns % 2 else size
    # Scaled while still as stored, so that a large frame never becomes a large RGB array.
    scaled = reformatter.reformat(frame, width, height, 'rgb24', interpolation='AREA', threads=1)
    return np.rot90(scaled.to_ndarray(), turns)
