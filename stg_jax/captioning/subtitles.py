"""Subtitle files, SubRip and WebVTT, that every player reads."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from stg_jax import files
from stg_jax.captioning.times import clock
from stg_jax.errors import UserError

_JOINER = '\u2060'  # has no width and breaks no line


class Cue(Protocol):
    """A caption (untrusted text) and the seconds between which it is shown."""

    start: float
    end: float
    caption: str


def name_subtitles(
    videos: Sequence[Path], folder: str | os.PathLike[str] | None
) -> dict[Path, Path]:
    """Return where the subtitles of each video go, without a suffix: beside it, or in `folder`.

    Players find them by the video's name before 'captions'; a film's own subtitles are never in
    the way.

    Raises:
      UserError: two videos would share a file.
    """
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


def write_subtitles(base: Path, cues: Sequence[Cue]) -> None:
    """Write BASE.srt and BASE.vtt of the captions that hold a word, whole or not at all.

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
    """Return SubRip subtitles."""
    return '\n'.join(
        f'{number}\n{clock(cue.start, ",")} --> {clock(cue.end, ",")}\n{_plain(cue.caption)}\n'
        for number, cue in enumerate(cues, 1)
    )


def to_vtt(cues: Iterable[Cue]) -> str:
    """Return WebVTT subtitles (W3C, 2019)."""
    blocks = (
        f'{clock(cue.start, ".")} --> {clock(cue.end, ".")}\n{_escaped(cue.caption)}\n'
        for cue in cues
    )
    return '\n'.join(['WEBVTT\n', *blocks])


def _plain(text: str) -> str:
    """Return one line in which players find no tag; SubRip has no way to escape one."""
    return re.sub(r'([<{]|--)(?=\S)', rf'\1{_JOINER}', _one_line(text))


def _escaped(text: str) -> str:
    return _one_line(text).replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


def _one_line(text: str) -> str:
    return ' '.join(text.split())  # a blank line would end the cue
