"""Show clips, their captions and what carried each word.

write_page('report.html', [Shown(name, jpegs, captions, explanation)])
write_figure('figure.pdf', [Shown(name, jpegs, captions, explanation)])

`write_page(path, shown: Sequence[Shown]) -> None` writes one HTML file that needs no network;
`write_figure(path, shown: Sequence[Shown]) -> None` draws the paper's static figure, one panel a
clip, as PNG, SVG or PDF by the suffix (needs the extra `plot`: matplotlib).
`render_page(shown) -> str` is the page as text, for a demo that shows it in a frame;
`to_jpeg(picture) -> bytes` makes the frames of a `Shown`.
"""

from stg_jax.visualize.explanation_figure import write_figure
from stg_jax.visualize.explanation_page import render_page, write_page
from stg_jax.visualize.jpeg import to_jpeg
from stg_jax.visualize.page_data import Shown

__all__ = ['Shown', 'render_page', 'to_jpeg', 'write_figure', 'write_page']
