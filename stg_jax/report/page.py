"""One HTML file of clips, captions and what carried each word; it needs no network."""

import base64
import hashlib
import html
import importlib.resources
import math
import os
import string
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from stg_jax import files
from stg_jax.explain import Explanation
from stg_jax.report.numbers import as_script, numbers
from stg_jax.report.shown import Shown

_PIXELS = 4_000_000  # of all frames of a clip together, so that long clips make no heavy page
_SCRIPTS = ('film.js', 'tell.js', 'page.js')  # one after the other, as one
_SIDES = (160, 480)  # the least and the most pixels of a frame's longer side
_QUALITY = (cv2.IMWRITE_JPEG_QUALITY, 80)
_ARROW = (
    '<svg class="time" viewBox="0 0 34 10" aria-hidden="true">'
    '<path d="M1 5H26M25 1L33 5L25 9Z"/></svg>'
)
_LINE = '<svg class="space" viewBox="0 0 34 10" aria-hidden="true"><path d="M1 5H33"/></svg>'
_METERS = ''.join(
    f'<i class="meter {name}"><i class="bar {name}"></i></i>'
    for name in ('teacher', 'student', 'saliency')
)
_MARKS = (
    (_ARROW, 'teacher', 'how alike objects of neighbouring frames are: cosine of their features'),
    (_LINE, 'teacher', 'how far objects of a frame overlap: IoU of their boxes'),
    ('<i class="bar teacher"></i>', 'teacher', 'attention to the frame; the tick is an even share'),
    ('<i class="bar student"></i>', 'student', 'attention to the frame; the tick is an even share'),
    ('<i class="bar saliency"></i>', 'student', 'what the word loses when the frame is hidden'),
)


def write_page(path: str | os.PathLike[str], shown: Sequence[Shown]) -> None:
    """Write the page of some clips, whole or not at all."""
    files.write_text(path, render_page(shown))


def render_page(shown: Sequence[Shown]) -> str:
    """Return the page of some clips as HTML text."""
    style = _part('page.css')
    script = "'use strict';\n\n" + '\n'.join(map(_part, _SCRIPTS))
    return string.Template(_part('page.html')).substitute(
        # Only this script and this style run, whatever a caption may smuggle in.
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        clips=''.join(_clip(number, each) for number, each in enumerate(shown)),
        data=as_script([numbers(each) for each in shown]),
    )


def _part(name: str) -> str:
    return importlib.resources.files('stg_jax.report').joinpath(name).read_text('utf-8')


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _clip(number: int, shown: Shown) -> str:
    explanation = shown.explanation
    return string.Template(_part('clip.html')).substitute(
        number=number,
        name=html.escape(shown.name),
        words=''.join(_word(i, word) for i, word in enumerate(explanation.words)),
        captions=''.join(_caption(text, score) for text, score in shown.captions),
        frames=''.join(_frame(shown, t) for t in range(len(shown.frames))),
        num_frames=len(shown.frames),
        legend=''.join(_legend(explanation)),
    )


def _word(number: int, word: str) -> str:
    return (
        f'<button type="button" class="word" data-word="{number}" aria-pressed="false">'
        f'{html.escape(word)}</button> '
    )


def _caption(text: str, score: float) -> str:
    return f'<li><span>{html.escape(text)}</span> <data value="{score}">{score:.2f}</data></li>'


def _legend(explanation: Explanation) -> Iterator[str]:
    """Yield what each mark means and which branch it explains, of the branches that there are."""
    for mark, kind, text in _MARKS:
        branch = getattr(explanation, kind)
        if branch is not None:
            yield f'<li>{mark}<span>{text} ({kind}: {html.escape(branch)} branch)</span></li>'


def _frame(shown: Shown, t: int) -> str:
    when = f'{shown.seconds[t]:.1f} s' if len(shown.seconds) else ''
    count = int(shown.explanation.object_mask_TN[t].sum())
    jpeg, (width, height) = _jpeg(shown.frames[t], len(shown.frames))
    alternative = ', '.join(filter(None, [f'Frame {t + 1}', when, f'objects: {count}']))
    return (
        f'<figure><img src="data:image/jpeg;base64,{jpeg}" width="{width}" height="{height}" '
        f'alt="{alternative}" decoding="async"><figcaption><span>{t + 1}</span> {when}'
        f'{_METERS}</figcaption></figure>'
    )


def _jpeg(frame: np.ndarray, num_frames: int) -> tuple[str, tuple[int, int]]:
    """Return a frame as base64 JPEG, scaled to its share of the page, and its size."""
    height, width = frame.shape[:2]
    scale = math.sqrt(_PIXELS / num_frames / (height * width))
    longer = max(height, width)
    scale = min(max(scale, _SIDES[0] / longer), _SIDES[1] / longer, 1)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode('.jpg', picture[..., ::-1], _QUALITY)
    return base64.b64encode(jpeg).decode(), size
