"""The report: one HTML file of clips, their captions and what carried each word."""

import base64
import html
import os
from collections.abc import Iterator, Sequence

from stg_jax import files
from stg_jax.explain import Explanation
from stg_jax.visualize.html import fill, fill_page, to_script
from stg_jax.visualize.jpeg import scaled
from stg_jax.visualize.page_data import ReportEntry, page_data, strongest_links

SUFFIXES = ('.html', '.htm')
# Frames are embedded in the page. This budget for all of them keeps the report of a long film,
# with hundreds of segments, small enough for a browser.
_PIXELS = 4_000_000
# Fewest and most pixels of a frame's longer side, whatever the budget.
_SIDES = (160, 480)
_SCRIPTS = ('film.js', 'describe.js', 'page.js')
# Rows of the table of links.
_LINKS = 10
# With more clips than these the page starts with a list of them.
_NAVIGATE = 3
_NO_WORDS = '(no words)'
_METERS = ''.join(
    f'<i class="meter {name}"><i class="bar {name}"></i></i>'
    for name in ('teacher', 'student', 'saliency')
)


def _mark(name: str, shape: str) -> str:
    """Draw the legend's sample of a mark: the shape and, beneath it, its wider casing."""
    shapes = ''.join(f'<{shape} class="{each}"/>' for each in (f'{name} under', name))
    return f'<svg class="mark" viewBox="0 0 34 12" aria-hidden="true">{shapes}</svg>'


_BOX = 'rect x="4" y="1.5" width="26" height="9"'
_ATTENTION = 'attention to the frame; the tick is an even share'
_MARKS = (
    (_mark('box', _BOX), None, 'an object, or a cell of a grid'),
    (
        _mark('box lit', _BOX),
        'teacher',
        'how much an object speaks for the word: gradient times input',
    ),
    (
        _mark('time', 'path d="M1 6H26M25 2L33 6L25 10Z"'),
        'teacher',
        'how alike objects of neighbouring frames are: cosine of their features',
    ),
    (
        _mark('space', 'path d="M1 6H33"'),
        'teacher',
        'how far objects of a frame overlap: IoU of their boxes',
    ),
    ('<i class="bar teacher"></i>', 'teacher', _ATTENTION),
    ('<i class="bar student"></i>', 'student', _ATTENTION),
    ('<i class="bar saliency"></i>', 'student', 'what the word loses when the frame is hidden'),
)
_CELL = (
    _mark('cell', 'rect width="34" height="12"'),
    'student',
    'what the word loses when the cell is hidden',
)


_HEAT = (
    _mark('heat', 'rect width="34" height="12" opacity=".8"'),
    'student',
    'how much a cell of the frame speaks for the word: gradient times input',
)


def write_page(path: str | os.PathLike[str], entries: Sequence[ReportEntry]) -> None:
    """Write the report to a file, whole or not at all."""
    files.write_text(path, render_page(entries))


def render_page(entries: Sequence[ReportEntry]) -> str:
    """Render the report as HTML text."""
    # Shared equally, so that a page of many clips has smaller frames and not fewer.
    num_pixels = _PIXELS / max(1, sum(len(each.frames) for each in entries))
    return fill_page(
        'page.html',
        style='page.css',
        scripts=_SCRIPTS,
        images='img-src data:; ',
        title=html.escape(_title(entries)),
        nav=_nav(entries),
        clips=''.join(_clip(number, each, num_pixels) for number, each in enumerate(entries)),
    )


def _title(entries: Sequence[ReportEntry]) -> str:
    others = f' and {len(entries) - 1} more' if len(entries) > 1 else ''
    names = f'{entries[0].name}{others}: ' if entries else ''
    return f'{names}captions and what carried each word'


def _nav(entries: Sequence[ReportEntry]) -> str:
    """List the clips at the top of a long page."""
    if len(entries) <= _NAVIGATE:
        return ''
    items = (
        f'<li><a href="#clip-{number}">{html.escape(each.name)}</a> '
        f'{html.escape(" ".join(each.explanation.words)) or _NO_WORDS}</li>'
        for number, each in enumerate(entries)
    )
    return f'<nav aria-label="Clips"><ol>{"".join(items)}</ol></nav>'


def _clip(number: int, entry: ReportEntry, num_pixels: float) -> str:
    explanation = entry.explanation
    return fill(
        'clip.html',
        number=number,
        name=html.escape(entry.name),
        words=''.join(_word(i, word) for i, word in enumerate(explanation.words)) or _NO_WORDS,
        captions=''.join(_caption(text, score) for text, score in entry.captions),
        frames=''.join(_frame(entry, t, num_pixels) for t in range(len(entry.frames))),
        num_frames=len(entry.frames),
        legend=''.join(_legend(explanation)),
        table=_table(entry),
        data=to_script(page_data(entry)),
    )


def _word(number: int, word: str) -> str:
    return (
        f'<button type="button" class="word" data-word="{number}" aria-pressed="false">'
        f'{html.escape(word)}</button> '
    )


def _caption(text: str, score: float) -> str:
    words = html.escape(text) or _NO_WORDS
    return f'<li><span>{words}</span> <data value="{score}">{score:.2f}</data></li>'


def _legend(explanation: Explanation) -> Iterator[str]:
    """Yield the meaning of each mark and its branch, for the branches that the run has."""
    marks = [*_MARKS]
    marks += [_HEAT] if explanation.relevance_LTG is not None else []
    marks += [_CELL] if explanation.saliency_LTN is not None else []
    for mark, kind, text in marks:
        branch = getattr(explanation, kind) if kind else ''
        if branch is not None:
            whose = f' ({kind}: {html.escape(branch)} branch)' if branch else ''
            yield f'<li>{mark}<span>{text}{whose}</span></li>'


def _table(entry: ReportEntry) -> str:
    """List the strongest links in words: screen readers cannot see those drawn on the frames."""
    rows = ''.join(
        f'<tr><td>{kind}</td><td>{html.escape(one)}</td><td>{html.escape(other)}</td>'
        f'<td>{strength:.2f}</td></tr>'
        for kind, one, other, strength in strongest_links(entry, _LINKS)
    )
    if not rows:
        return ''
    head = ''.join(f'<th scope="col">{name}</th>' for name in ('Link', 'From', 'To', 'Strength'))
    return (
        '<details><summary>The strongest links in words</summary>'
        f'<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></details>'
    )


def _frame(entry: ReportEntry, t: int, num_pixels: float) -> str:
    when = f'{entry.seconds[t]:.1f} s' if len(entry.seconds) else ''
    count = int(entry.explanation.object_mask_TN[t].sum())
    jpeg, (width, height) = scaled(entry.frames[t], num_pixels, _SIDES)
    # Embedded, because a page that needs files beside it breaks when it is mailed.
    source = f'data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}'
    alternative = ', '.join(filter(None, [f'Frame {t + 1}', when, f'objects: {count}']))
    return (
        f'<figure><img src="{source}" width="{width}" height="{height}" '
        f'alt="{alternative}" decoding="async"><figcaption><span>{t + 1}</span> {when}'
        f'{_METERS}</figcaption></figure>'
    )
