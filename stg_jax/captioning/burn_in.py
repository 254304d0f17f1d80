"""Copy a video with its captions and boxes drawn into the picture."""

import bisect
import fractions
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from stg_jax.captioning.caption_video import Captioned
from stg_jax.errors import UserError, first_line
from stg_jax.extract.video import container
from stg_jax.extract.video.timeline import Timeline, read_timeline, timed_frames
from stg_jax.visualize.matplotlib import font_file

# Units of time stamps, in seconds: every usual frame rate is a whole number of the first. mp4 keeps
# the duration of a frame in 31 bits, so a pause of more than 6.6 hours needs the second.
_TICK, _COARSE_TICK = fractions.Fraction(1, 90_000), fractions.Fraction(1, 1000)
_LONGEST = 2**31 - 1  # units
_BOX, _EDGE = (255, 214, 10), (0, 0, 0)  # RGB
# Height of letters: share of the picture's, and pixels below which nobody can read them.
_SHARE, _SMALLEST = 1 / 16, 10
_BAND = (0, 0, 0, 150)  # RGBA
_INK = (255, 255, 255, 255)


def burn(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    captioned: Sequence[Captioned],
    on_second: Callable[[float], None] = lambda second: None,
) -> None:
    """Write the video as H.264 in mp4, every frame at its time, whole or not at all.

    A frame shows the boxes of the described frame that is nearest in time. Sound is not copied.

    Args:
      path: video file.
      out: mp4 file to write.
      captioned: segments of the video in order.
      on_second: called with the progress, in seconds of the video.

    Raises:
      UserError: the video cannot be read, `out` cannot be written, no installed font has the
        characters, or Matplotlib, whose font is used, is not installed.
    """
    out = Path(out)
    check_name(out, path)
    # FFmpeg chooses the container by the suffix, so the temporary file needs .mp4 as well.
    temporary = out.with_name(f'.{out.stem}.{os.getpid()}.tmp.mp4')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        timeline = read_timeline(path)
        _encode(temporary, timeline, _drawn_frames(path, timeline, captioned, on_second))
        temporary.replace(out)
    except OSError as error:
        raise UserError(f'{out} cannot be written ({error.strerror}): name another file') from None
    except FFmpegError as error:
        raise UserError(
            f'{out} cannot be encoded ({first_line(error)}): convert {path} to mp4 first'
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def check_name(out: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Refuse to write anything but mp4, or over the video itself.

    Raises:
      UserError: see above.
    """
    out = Path(out)
    if out.suffix.lower() != '.mp4':
        raise UserError(f'{out} must end in .mp4 to be a copy with captions')
    if out.exists() and out.samefile(path):
        raise UserError(f'{out} is the video itself: name another file for the copy')


class Lettering:
    """Writes captions across pictures of one size.

    Args:
      height: of the pictures, in pixels.
      width: likewise.
      texts: all that will be written; one font has to have their characters.

    Raises:
      UserError: no font has them, or Matplotlib is not installed, which brings DejaVu Sans.
    """

    def __init__(self, height: int, width: int, texts: Sequence[str]):
        from PIL import ImageFont

        self._size = height, width
        self._font = ImageFont.truetype(
            font_file(''.join(texts)), max(_SMALLEST, round(height * _SHARE))
        )

    def write(self, picture: np.ndarray, text: str) -> None:
        """Write text (untrusted) on a dark band at the foot of `picture` (h, w, 3) uint8 RGB."""
        band = self._band(text)
        if len(band):
            foot = picture[-len(band) :]
            share = band[..., 3:] / 255
            foot[:] = np.round(foot * (1 - share) + band[..., :3] * share)

    # A caption is shown for hundreds of frames; drawing text costs more than blending it.
    @functools.lru_cache(maxsize=2)  # noqa: B019 - a lettering lives as long as its video
    def _band(self, text: str) -> np.ndarray:
        """Draw the band, (b, w, 4) uint8 RGBA; b is at most the height of the picture."""
        from PIL import Image, ImageDraw

        height, width = self._size
        lines = self._lines(' '.join(text.split()))
        leading = sum(self._font.getmetrics())
        margin = leading // 4
        size = width, (len(lines) * leading + 2 * margin) * bool(lines)
        band = Image.new('RGBA', size, _BAND)
        draw = ImageDraw.Draw(band)
        for number, line in enumerate(lines):
            place = width / 2, margin + number * leading
            draw.text(place, line, _INK, self._font, anchor='ma')
        return np.asarray(band)[:height]

    def _lines(self, text: str) -> list[str]:
        """Break text between words, as late as the width allows."""
        lines: list[str] = []
        for word in text.split():
            longer = f'{lines[-1]} {word}' if lines else word
            if lines and self._font.getlength(longer) < 0.96 * self._size[1]:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines


def _encode(path: Path, timeline: Timeline, pictures: Iterator[tuple[float, np.ndarray]]) -> None:
    """Encode pictures (h, w, 3), each shown from its second on."""
    first = next(pictures)
    # Only nominal: every frame has a time of its own.
    rate = fractions.Fraction(min(timeline.rate, 240) or 25).limit_denominator(1001)
    gaps = np.diff(timeline.second, prepend=0.0, append=timeline.end)
    tick = _TICK if gaps.max() < _LONGEST * _TICK else _COARSE_TICK
    with av.open(str(path), 'w') as target:
        stream = target.add_stream('libx264', rate, options={'crf': '20', 'preset': 'veryfast'})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = first[1].shape[:2]
        # Browsers and most phones decode no other pixel format of H.264.
        stream.pix_fmt = 'yuv420p'
        stream.codec_context.time_base = tick
        last = -1
        for second, picture in itertools.chain([first], pictures):
            frame = av.VideoFrame.from_ndarray(picture, 'rgb24')
            # Times must grow, even if those of the source stay the same.
            last = max(round(second / tick), last + 1)
            frame.pts, frame.time_base = last, tick
            target.mux(stream.encode(frame))
        target.mux(stream.encode())


def _drawn_frames(
    path: str | os.PathLike[str],
    timeline: Timeline,
    captioned: Sequence[Captioned],
    on_second: Callable[[float], None],
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield when each frame is shown, and the frame with the boxes and caption of that moment."""
    reformatter, lettering, size = VideoReformatter(), None, (0, 0)
    starts = [each.start for each in captioned]
    with container.open_video(path) as stream:
        for second, frame in timed_frames(stream, timeline):
            if lettering is None:
                height, width = container.upright_size(frame, stream)
                # H.264 stores one colour for two by two pixels: both sides must be even.
                size = max(2, height // 2 * 2), max(2, width // 2 * 2)
                lettering = Lettering(*size, [each.caption for each in captioned])
            # OpenCV draws into contiguous rows only; a turned frame is a view without them.
            picture = np.ascontiguousarray(container.upright(frame, size, reformatter))
            # Segments without a new frame are missing: nothing is drawn until the next one.
            now = captioned[max(0, bisect.bisect_right(starts, second) - 1)]
            if now.start <= second < now.end or now is captioned[-1]:
                _draw_boxes(picture, now, second)
                lettering.write(picture, now.caption)
            on_second(second)
            yield second, picture
    if lettering is None:
        raise UserError(f'{path} holds no frame that can be decoded: convert or remove it')


def _draw_boxes(picture: np.ndarray, captioned: Captioned, second: float) -> None:
    """Draw the boxes of the described frame that is nearest in time."""
    height, width = picture.shape[:2]
    t = np.abs(captioned.second_T - second).argmin()
    # In proportion to the picture, so that boxes look alike at every size.
    line = max(1, round(height / 240))
    boxes = captioned.clip.box[t][captioned.clip.object_mask[t]]
    for x1, y1, x2, y2 in (boxes * [width, height, width, height]).round().astype(int).tolist():
        for colour, thickness in ((_EDGE, line + 2), (_BOX, line)):
            cv2.rectangle(picture, (x1, y1), (x2, y2), colour, thickness, cv2.LINE_AA)
