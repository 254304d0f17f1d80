"""Open video files and decode their frames; the only module that knows containers and codecs."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import ArgumentError, FFmpegError
from av.format import Flags
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from stg_jax.errors import UserError

# All in seconds. The first two are FFmpeg's: transport streams may restart their clock anywhere
# (joined files, recordings of several programs), so a leap of 10 s is one of the clock. In other
# formats it is a pause, up to 30 hours.
_LONGEST_GAP, _LONGEST_PAUSE = 10.0, 30 * 3600.0
# Decoding times never go back in a sound file; rounding may move them a little. Presentation times
# go back with every B-frame, by a few frames of any rate.
_DECODING_STEP_BACK, _PRESENTATION_STEP_BACK = 0.1, 10.0
# Between decoding and presentation, a few frames even of a slide show.
_LONGEST_DELAY = 3600.0
# Titles in an unknown encoding must not keep anybody from the pictures. From 19 on PyAV reads them
# with surrogateescape and lacks that option.
_LENIENT: dict[str, Any] = (
    {'metadata_errors': 'replace'} if int(av.__version__.split('.')[0]) < 19 else {}
)
# 8 K pictures pass; a header that claims more is damaged, or meant to fill the memory.
MAX_PIXELS = 8192 * 8192
# FFmpeg's readers of formats that hold everything in one file. Play lists (HLS, DASH, concat, SDP),
# numbered pictures, scripts and SVG are missing on purpose: through them a file from a stranger
# could have others of this machine read, or addresses opened.
_FORMATS = (
    'mov matroska avi mpegts mpeg mpegvideo ogg flv live_flv kux asf asf_o rm ivr gif apng mxf gxf '
    'nut nsv nuv pva ty wtv swf dv ivf obu av1 h261 h263 h264 hevc vvc evc m4v mjpeg mjpeg_2000 '
    'vc1 vc1test dirac dnxhd cavsvideo avs2 avs3 yuv4mpegpipe amv r3d cine dhav lvf xmv viv vivo '
    'bink smk roq flic thp smjpeg film_cpk idcin ea 4xm jpegxl_anim jpeg_pipe png_pipe webp_pipe '
    'bmp_pipe tiff_pipe jpegxl_pipe '
    # Sound, so that the message can say that there is no picture.
    'wav mp3 flac aac aiff caf au w64 ape'
).replace(' ', ',')
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
# Packets within which a live stream yields its first frame; key frames are at most some seconds
# apart.
_PROBED = 300
# A stream with fewer packets than this share of another's is a slide show beside the film.
_FEW = 0.1


def repair_timestamps(packets: Iterable[av.Packet], *, may_jump: bool) -> Iterator[av.Packet]:
    """Yield packets with time stamps that never restart or jump absurdly.

    Where a clock goes back or leaps, all that follows is shifted to continue one frame later.
    Decoders copy the time stamps of packets to frames, so both see one clock.

    Args:
      packets: of one stream, in the order of the file.
      may_jump: whether the format allows its clock to restart (FFmpeg's AVFMT_TS_DISCONT).
    """
    shift, step = 0, 0
    # The last time by its kind, decoding or presentation: some files lack the former in places, and
    # the two must not be compared.
    last: dict[bool, int] = {}
    for packet in packets:
        is_dts = packet.dts is not None
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None or not packet.time_base:
            yield packet
            continue
        tick = float(packet.time_base)
        # A frame cannot wait so long for others: its presentation time is damaged.
        if packet.pts is not None and abs(packet.pts - stamp) * tick > _LONGEST_DELAY:
            packet.pts = stamp
        if is_dts in last:
            gap = (stamp + shift - last[is_dts]) * tick
            back = _DECODING_STEP_BACK if is_dts else _PRESENTATION_STEP_BACK
            if -back <= gap <= (_LONGEST_GAP if may_jump else _LONGEST_PAUSE):
                step = max(step if gap <= 0 else round(gap / tick), 1)
            else:
                shift = last[is_dts] + (step or packet.duration or 1) - stamp
        last = {is_dts: stamp + shift}
        if shift:
            packet.dts = None if packet.dts is None else packet.dts + shift
            packet.pts = None if packet.pts is None else packet.pts + shift
        yield packet


@contextlib.contextmanager
def open_video(path: str | os.PathLike[str]) -> Iterator[VideoStream]:
    """Open the video stream of a file that players would show.

    FFmpeg's errors inside the block are reported like those of opening.

    Raises:
      UserError: the file is missing, empty, not a video, or has more than `MAX_PIXELS` a frame.
    """
    path = Path(path)
    with _open_container(path) as container:
        candidates = _candidates(container)
        if not candidates:
            raise UserError(
                f'{path} holds no video stream that can be decoded: convert or remove it'
            )
        stream = candidates[0]
        if len(candidates) > 1:
            status = path.stat()
            key = path.absolute(), status.st_mtime_ns, status.st_size
            stream = container.streams[_best_stream(*key)]
        assert isinstance(stream, VideoStream)
        yield _limited(stream, path)


def frames(stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the frames in presentation order, skipping packets that do not decode."""
    for packet in packets(stream):
        try:
            decoded = packet.decode()
        except FFmpegError:
            continue
        yield from decoded


def packets(stream: VideoStream) -> Iterator[av.Packet]:
    """Yield packets with repaired time stamps, up to where the file breaks off."""
    container = stream.container
    assert isinstance(container, InputContainer)
    may_jump = bool(container.format.flags & Flags.ts_discont.value)
    return repair_timestamps(_demux(container, stream), may_jump=may_jump)


def start_of_sound(stream: VideoStream) -> float | None:
    """Find where the sound beside a video starts, in seconds of the time stamps; None if unknown.

    The clock of players starts with the first stream: pictures can begin later than sound.
    """
    starts = [
        float(each.start_time * each.time_base)
        for each in stream.container.streams.audio
        if each.start_time is not None and each.time_base
    ]
    return min(starts, default=None)


def upright_size(frame: av.VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Compute height and width of a frame as players show it: turned, with square pixels."""
    height, width = frame.height, frame.width
    aspect = stream.sample_aspect_ratio
    # Nothing was ever filmed with other pixels than these; a larger ratio is a damaged header.
    if aspect and 1 / 8 <= aspect <= 8:
        # The shorter side grows, so that no detail is lost.
        height, width = round(height / min(aspect, 1)), round(width * max(aspect, 1))
    excess = max(1, (height * width / MAX_PIXELS) ** 0.5)
    height, width = max(1, int(height / excess)), max(1, int(width / excess))
    return (width, height) if _orientation(frame).transposed else (height, width)


def upright(
    frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter
) -> np.ndarray:
    """Turn a frame upright and scale it, (*size, 3) uint8 RGB.

    `reformatter` caches its tables between calls: use one for all frames of a video.
    """
    turn = _orientation(frame)
    height, width = size[::-1] if turn.transposed else size
    # Scaled in the stored orientation, so that a large frame never becomes a large RGB array.
    scaled = reformatter.reformat(frame, width, height, 'rgb24', interpolation='AREA', threads=1)
    array = scaled.to_ndarray()
    if turn.transposed:
        array = array.swapaxes(0, 1)
    return array[:: -1 if turn.flip_rows else 1, :: -1 if turn.flip_columns else 1]


@contextlib.contextmanager
def _open_container(path: Path) -> Iterator[InputContainer]:
    if not path.is_file():
        raise UserError(f'{path} is missing or not a file: name a video file')
    # Options of the demuxer, so that FFmpeg itself refuses before anything is opened.
    options = {
        'protocol_whitelist': 'file',
        'format_whitelist': _FORMATS,
        'max_pixels': str(MAX_PIXELS),
    }
    opened = False
    try:
        # Without 'file:' a name with a colon would be an address.
        with av.open(f'file:{path}', options=options, **_LENIENT) as container:
            opened = True
            yield container
    except FFmpegError as error:
        if isinstance(error, ArgumentError) and not opened:
            raise UserError(
                f'{path} is a play list, or of another format that is not read here: convert it '
                'to mp4'
            ) from None
        reason = error.strerror or type(error).__name__
        raise UserError(f'{path} is no readable video ({reason}): convert or remove it') from None


def _candidates(container: InputContainer) -> list[VideoStream]:
    """List the moving pictures of a file; the cover of a song or film is not one."""
    return [
        stream
        for stream in container.streams.video
        if stream.codec_context and not stream.disposition & _PICTURES
    ]


# Each video is opened two or three times. A changed file is another key.
@functools.lru_cache(maxsize=64)
def _best_stream(path: Path, _modified: int, _size: int) -> int:
    """Choose among several video streams; return the index of the best.

    Dead streams and pictures stored as a stream lose to moving ones; then the stream marked as the
    default wins, then the largest picture, then the first.
    """
    with _open_container(path) as container:
        candidates = _candidates(container)
        counts = _count_packets(container, [_limited(each, path) for each in candidates])
        most = max(counts.values())
        # A film shorter than a slide show beside it is rare; a picture stored as a stream is not.
        alive = [each for each in candidates if counts[each.index] >= max(2, _FEW * most)]

        def rank(stream: VideoStream) -> tuple[bool, int]:
            context = stream.codec_context
            return bool(stream.disposition & Disposition.default), context.width * context.height

        return max(alive or candidates, key=rank).index


def _count_packets(container: InputContainer, streams: list[VideoStream]) -> dict[int, int]:
    """Count the packets of each stream by its index; 0 if none of the first ones decode."""
    counts = dict.fromkeys((stream.index for stream in streams), 0)
    live = set()
    for packet in _demux(container, *streams):
        index = packet.stream.index
        counts[index] += packet.size > 0
        if index not in live and counts[index] <= _PROBED:
            with contextlib.suppress(FFmpegError):
                if packet.decode():
                    live.add(index)
    return {index: count if index in live else 0 for index, count in counts.items()}


def _demux(container: InputContainer, *streams: VideoStream) -> Iterator[av.Packet]:
    try:
        yield from container.demux(*streams)
    except FFmpegError:
        return


def _limited(stream: VideoStream, path: Path) -> VideoStream:
    """Limit what a stream may claim, and make its decoder deterministic."""
    context = stream.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise UserError(
            f'{path} claims {context.width} x {context.height} pixels: scale it down to '
            f'{MAX_PIXELS / 1e6:.0f} million, or remove it'
        )
    # The limit at opening is only for the probe; this one is for every frame.
    context.options = {'max_pixels': str(MAX_PIXELS)}
    # How a decoder conceals broken frames depends on how threads share them: with several,
    # features would depend on the machine.
    context.thread_count = 1
    return stream


@dataclasses.dataclass(frozen=True)
class _Orientation:
    """How to show a stored frame: transpose it first, then flip it."""

    transposed: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


def _orientation(frame: av.VideoFrame) -> _Orientation:
    """Read a frame's display matrix, rounded to quarter turns and mirror images.

    PyAV's `frame.rotation` knows only the angle: phones and editors also mirror.
    """
    matrix = frame.side_data.get('DISPLAYMATRIX')
    if matrix is None:
        return _Orientation()
    # Stored (x, y) is shown at (a x + c y, b x + d y), up to a shift.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    # The nearest quarter turn: showing other angles would need black corners.
    if abs(b) + abs(c) > abs(a) + abs(d):
        return _Orientation(True, flip_rows=b < 0, flip_columns=c < 0)
    return _Orientation(False, flip_rows=d < 0, flip_columns=a < 0)
