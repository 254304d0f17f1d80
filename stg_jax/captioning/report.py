"""Explained captions of videos, to save as a page or a figure, or to show in a notebook."""

import os
from pathlib import Path

from stg_jax.captioning.caption_video import Captioned
from stg_jax.captioning.explained import explain_captioned, in_frame
from stg_jax.decode.captioner import Captioner
from stg_jax.errors import UserError
from stg_jax.visualize import ReportEntry, explanation_figure, explanation_page


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
