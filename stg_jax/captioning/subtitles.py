"""Subtitle files: SubRip for old players, WebVTT for browsers."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from stg_jax import files
from stg_jax.errors import UserError

_DURATION = re.compile(r'([0-9]+\.?[0-9]*|\.[0-9]+) ?(ms|s|m|h|)')
_FACTOR = {'ms': 0.001, 's': 1.0, '': 1.0, 'm': 60.0, 'h': 3600.0}
_JOINER = '\u2060'  # WORD JOINER: has no width and breaks no line


class Cue(Protocol):
    """A caption (untrusted text) and the seconds between which it is shown."""

    start: float
    end: float
    caption: str


def parse_seconds(text: str) -> float:
    """Parse a duration such as '10s', '10', '1.5m' or '500ms' into seconds.

    Raises:
      UserError: the text is not a duration, or zero.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _FACTOR[match[2]] if match else 0.0
    if not seconds:
        raise UserError(
            f'{text!r} is not a duration: write seconds such as 10s, or minutes as 1.5m'
        )
    return seconds


def timestamp(seconds: float, point: str) -> str:
    """Format a time as in '01:02:03.004', with `point` before the milliseconds."""
    # Rounded once: seconds and milliseconds rounded apart could give 59.1000.
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f'{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}'


def name_subtitles(
    videos: Sequence[Path], folder: str | os.PathLike[str] | None
) -> dict[Path, Path]:
    """Choose the path of each video's subtitles, without suffix: beside the video or in `folder`.

    Players match subtitles by the beginning of the name. The part '.captions' keeps ours from
    overwriting subtitles that came with the film.

    Raises:
      UserError: two videos would share a file.
    """
    # Checked for all videos before the first is captioned, which may take hours.
    taken: dict[Path, Path] = {}
    for video in videos:
        base = (Path(folder) if folder else video.parent) / f'{video.stem}.captions'
        if base in taken:
            raise UserError(
                f'{video} and {taken[base]} would share the subtitles {base}.srt: rename one, or '
                'caption them apart'
            )
        taken[base] = video
    return {video: base for base, video in taken.items()}


def without_text(videos: Sequence[Path]) -> list[Path]:
    """Keep the videos that have no NAME.txt beside them, where programs look for their captions.

    Raises:
      UserError: two videos would share a file.
    """
    named: dict[Path, Path] = {}
    for video in videos:
        text = video.with_suffix('.txt')
        if text in named:
            raise UserError(f'{video} and {named[text]} would share {text}: rename one')
        named[text] = video
    # Not overwritten: a person may have written it.
    return [video for text, video in named.items() if not text.exists()]


def write_subtitles(base: Path, cues: Sequence[Cue]) -> None:
    """Write BASE.srt and BASE.vtt, whole or not at all; empty captions are skipped.

    Raises:
      UserError: a file cannot be written.
    """
    said = [cue for cue in cues if cue.caption]
    for suffix, text in (('srt', to_srt(said)), ('vtt', to_vtt(said))):
        path = base.with_name(f'{base.name}.{suffix}')
        try:
            files.write_text(path, text)
        except OSError as error:
            raise UserError(
                f'{path} cannot be written ({error.strerror}): name a folder with --subtitles'
            ) from None


def to_srt(cues: Iterable[Cue]) -> str:
    """Format SubRip subtitles."""
    return '\n'.join(
        f'{number}\n{_span(cue, ",")}\n{_plain(cue.caption)}\n'
        for number, cue in enumerate(cues, 1)
    )


def to_vtt(cues: Iterable[Cue]) -> str:
    """Format WebVTT subtitles (W3C, 2019)."""
    blocks = (f'{_span(cue, ".")}\n{_escaped(cue.caption)}\n' for cue in cues)
    return '\n'.join(['WEBVTT\n', *blocks])


def _span(cue: Cue, point: str) -> str:
    return f'{timestamp(cue.start, point)} --> {timestamp(cue.end, point)}'


def _plain(text: str) -> str:
    """Break up what players would take for a tag; SubRip has no escape for '<' or '{'."""
    # A word joiner after the bracket is invisible and keeps players from seeing a tag.
    return re.sub(r'([<{]|--)(?=\S)', rf'\1{_JOINER}', _one_line(text))


def _escaped(text: str) -> str:
    return _one_line(text).replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


def _one_line(text: str) -> str:
    # A blank line would end the cue.
    return ' '.join(text.split())
