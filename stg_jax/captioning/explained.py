"""Explained captions as entries of a report, and a report inside of another page."""

import html
import os
from pathlib import Path

from stg_jax.captioning.caption_video import Captioned
from stg_jax.captioning.subtitles import timestamp
from stg_jax.decode.captioner import Captioner
from stg_jax.errors import UserError
from stg_jax.explain import explain_caption
from stg_jax.extract.video.files import printable
from stg_jax.visualize import ReportEntry, explanation_figure, explanation_page, to_jpeg

# Runs in the page around the frame: it sets the frame's height to the one that the report's own
# script posts (see `page.js`), and ignores messages of any other window.
_FIT = (
    "window.addEventListener('message', ({source, data}) => { if (source === this.contentWindow) "
    "this.style.height = data.reportHeight + 'px' })"
)
_STYLE = 'width:100%;height:760px;min-height:320px;max-height:2000px;border:0'


def explain_captioned(
    captioner: Captioner, captioned: Captioned, *, is_segment: bool
) -> ReportEntry:
    """Explain the best caption of a video; segments get their times into their names."""
    name = printable(captioned.path.name)
    if is_segment:
        name += f', {timestamp(captioned.start, ".")} to {timestamp(captioned.end, ".")}'
    # JPEG, since the frames of all captioned videos are in memory until the page is written.
    return ReportEntry(
        name=name,
        frames=[to_jpeg(frame) for frame in captioned.frames],
        captions=[(each.caption, each.score) for each in captioned.candidates],
        explanation=explain_caption(captioner, captioned.clip, captioned.candidates[0].token_L),
        seconds=captioned.second_T.tolist(),
        label_names=captioned.label_names,
    )


def in_frame(page: str) -> str:
    """Embed a whole page as HTML; the sandbox denies it the origin of the page around it."""
    return (
        f'<div><iframe title="Report" sandbox="allow-scripts" style="{_STYLE}" '
        f'onload="{html.escape(_FIT)}" srcdoc="{html.escape(page)}"></iframe></div>'
    )


class Report:
    """Captions of videos and which objects and frames each word came from.

    Attributes:
      entries: one for each video, or for each segment of it.
    """

    def __init__(self):
        self.entries: list[ReportEntry] = []

    def add(self, captioner: Captioner, captioned: Captioned, *, is_segment: bool = False) -> None:
        """Explain the best caption of a video; a segment is listed with its times."""
        self.entries.append(explain_captioned(captioner, captioned, is_segment=is_segment))

    def __repr__(self) -> str:
        listed = ', '.join(f'{each.name}: {each.captions[0][0]!r}' for each in self.entries)
        return f'Report({listed})'

    def _repr_html_(self) -> str:
        """Show the page in a notebook, in a frame that keeps its scripts to itself."""
        return in_frame(self.html())

    def html(self) -> str:
        """Render the page as text; it needs no other file and no network."""
        return explanation_page.render_page(self.entries)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a page (.html) or a figure (.png, .svg, .pdf), chosen by the suffix.

        Raises:
          UserError: another suffix, or a figure without Matplotlib.
        """
        suffix = Path(path).suffix.lower()
        if suffix in explanation_page.SUFFIXES:
            explanation_page.write_page(path, self.entries)
        elif suffix in explanation_figure.SUFFIXES:
            explanation_figure.write_figure(path, self.entries)
        else:
            known = ', '.join((*explanation_page.SUFFIXES, *explanation_figure.SUFFIXES))
            raise UserError(f'{path} must end in {known}')
