"""Open any video file and decode its frames; the only place that knows containers and codecs."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from stg_jax.errors import UserError

# 8 K pictures pass; a header that claims more is damaged, or meant to fill the memory.
MAX_PIXELS = 8192 * 8192

# Titles in an unknown encoding must not keep anybody from the pictures. From 19 on PyAV reads them
# with surrogateescape and has no such option.
_LENIENT = {'metadata_errors': 'replace'} if int(av.__version__.split('.')[0]) < 19 else {}


@contextlib.contextmanager
def open_video(path: str | os.PathLike[str]) -> Iterator[av.VideoStream]:
    """Open the first moving picture of a file; what FFmpeg says within the block is refused, too.

    Raises:
      UserError: the file is missing, empty, not a video, or larger than `MAX_PIXELS` a frame.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path} is missing or not a file: name a video file')
    # Without 'file:' a name with a colon is an address, and a play list may name addresses too.
    options = {'protocol_whitelist': 'file', 'max_pixels': str(MAX_PIXELS)}
    try:
        with av.open(f'file:{path}', options=options, **_LENIENT) as container:
            yield _stream(container, path)
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f'{path} is no readable video ({reason}): convert or remove it') from None


def frames(stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the frames in presentation order, skipping packets that do not decode."""
    for packet in packets(stream):
        try:
            decoded = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from decoded


def packets(stream: av.VideoStream) -> Iterator[av.Packet]:
    """Yield the packets of the stream up to where the file breaks off."""
    try:
        yield from stream.container.demux(stream)
    except av.error.FFmpegError:
        return


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Return height and width of a frame after rotation."""
    size = frame.height, frame.width
    return size[::-1] if _quarter_turns(frame) % 2 else size


def upright(
    frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter
) -> np.ndarray:
    """Return the frame turned upright and scaled, (*size, 3) uint8 RGB.

    `reformatter` keeps the tables of its last call: use one for all frames of a video.
    """
    turns = _quarter_turns(frame)
    height, width = size[::-1] if turns % 2 else size
    # Scaled while still as stored, so that a large frame never becomes a large RGB array.
    scaled = reformatter.reformat(frame, width, height, 'rgb24', interpolation='AREA', threads=1)
    return np.rot90(scaled.to_ndarray(), turns)


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
