"""One HTML file of clips, captions and what carried each word; it needs no network."""

import base64
import hashlib
import html
import importlib.resources
import os
import string
from collections.abc import Iterator, Sequence

from stg_jax import files
from stg_jax.explain import Explanation
from stg_jax.visualize.jpeg import scaled
from stg_jax.visualize.page_data import Shown, as_script, numbers, strongest_links

SUFFIXES = ('.html', '.htm')
_PIXELS = 4_000_000  # of all frames of a page together, so that long films make no heavy page
_SCRIPTS = ('film.js', 'tell.js', 'page.js')  # one after the other, as one
_SIDES = (160, 480)  # the least and the most pixels of a frame's longer side
_LINKS = 10  # in the table
_NAVIGATE = 3  # more clips than these are listed at the top
_NO_WORDS = '(no words)'
_METERS = ''.join(
    f'<i class="meter {name}"><i class="bar {name}"></i></i>'
    for name in ('teacher', 'student', 'saliency')
)


def _mark(name: str, shape: str) -> str:
    """Return a small picture of what the film shows, with its casing."""
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


def write_page(path: str | os.PathLike[str], shown: Sequence[Shown]) -> None:
    """Write the page of some clips, whole or not at all."""
    files.write_text(path, render_page(shown))


def render_page(shown: Sequence[Shown]) -> str:
    """Return the page of some clips as HTML text."""
    style = _part('page.css')
    script = "'use strict';\n\n" + '\n'.join(map(_part, _SCRIPTS))
    num_pixels = _PIXELS / max(1, sum(len(each.frames) for each in shown))
    return string.Template(_part('page.html')).substitute(
        # Only this script and this style run, whatever a caption may smuggle in.
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        title=html.escape(_title(shown)),
        nav=_nav(shown),
        clips=''.join(_clip(number, each, num_pixels) for number, each in enumerate(shown)),
    )


def _title(shown: Sequence[Shown]) -> str:
    others = f' and {len(shown) - 1} more' if len(shown) > 1 else ''
    names = f'{shown[0].name}{others}: ' if shown else ''
    return f'{names}captions and what carried each word'


def _nav(shown: Sequence[Shown]) -> str:
    """Return links to the clips of a page that holds many."""
    if len(shown) <= _NAVIGATE:
        return ''
    items = (
        f'<li><a href="#clip-{number}">{html.escape(each.name)}</a> '
        f'{html.escape(" ".join(each.explanation.words)) or _NO_WORDS}</li>'
        for number, each in enumerate(shown)
    )
    return f'<nav aria-label="Clips"><ol>{"".join(items)}</ol></nav>'


def _part(name: str) -> str:
    return importlib.resources.files('stg_jax.visualize').joinpath(name).read_text('utf-8')


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _clip(number: int, shown: Shown, num_pixels: float) -> str:
    explanation = shown.explanation
    return string.Template(_part('clip.html')).substitute(
        number=number,
        name=html.escape(shown.name),
        words=''.join(_word(i, word) for i, word in enumerate(explanation.words)) or _NO_WORDS,
        captions=''.join(_caption(text, score) for text, score in shown.captions),
        frames=''.join(_frame(shown, t, num_pixels) for t in range(len(shown.frames))),
        num_frames=len(shown.frames),
        legend=''.join(_legend(explanation)),
        table=_table(shown),
        data=as_script(numbers(shown)),
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
    """Yield what each mark means and which branch it explains, of the branches that there are."""
    has_cells = explanation.saliency_LTN is not None
    for mark, kind, text in (*_MARKS, _CELL) if has_cells else _MARKS:
        branch = getattr(explanation, kind) if kind else ''
        if branch is not None:
            whose = f' ({kind}: {html.escape(branch)} branch)' if branch else ''
            yield f'<li>{mark}<span>{text}{whose}</span></li>'


def _table(shown: Shown) -> str:
    """Return the strongest links of the clip in words, for those who do not see the picture."""
    rows = ''.join(
        f'<tr><td>{kind}</td><td>{html.escape(one)}</td><td>{html.escape(other)}</td>'
        f'<td>{strength:.2f}</td></tr>'
        for kind, one, other, strength in strongest_links(shown, _LINKS)
    )
    if not rows:
        return ''
    head = ''.join(f'<th scope="col">{name}</th>' for name in ('Link', 'From', 'To', 'Strength'))
    return (
        '<details><summary>The strongest links in words</summary>'
        f'<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></details>'
    )


def _frame(shown: Shown, t: int, num_pixels: float) -> str:
    when = f'{shown.seconds[t]:.1f} s' if len(shown.seconds) else ''
    count = int(shown.explanation.object_mask_TN[t].sum())
    jpeg, (width, height) = scaled(shown.frames[t], num_pixels, _SIDES)
    source = f'data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}'
    alternative = ', '.join(filter(None, [f'Frame {t + 1}', when, f'objects: {count}']))
    return (
        f'<figure><img src="{source}" width="{width}" height="{height}" '
        f'alt="{alternative}" decoding="async"><figcaption><span>{t + 1}</span> {when}'
        f'{_METERS}</figcaption></figure>'
    )
