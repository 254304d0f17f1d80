"""Pages and figures: explained captions, results of an evaluation, curves of a training run.

    entry = ReportEntry(name, jpegs, captions, explanation)
    write_page('report.html', [entry])
    write_figure('figure.pdf', [entry])  # needs matplotlib, the extra 'plot'

`to_jpeg` makes the frames of an entry; `render_page` returns the page as text.
"""

from stg_jax.visualize.explanation_figure import write_figure
from stg_jax.visualize.explanation_page import render_page, write_page
from stg_jax.visualize.jpeg import to_jpeg
from stg_jax.visualize.page_data import ReportEntry

__all__ = ['ReportEntry', 'render_page', 'to_jpeg', 'write_figure', 'write_page']
