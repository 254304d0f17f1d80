"""One HTML file of an evaluation: scores, a histogram, and every caption beside its references.

It holds all it needs, loads nothing, and shows the text of captions as text.
"""

import base64
import hashlib
import html
import importlib.resources
import json
import os
import string
from collections.abc import Mapping, Sequence

from stg_jax import files


def write_results_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    facts: Sequence[str],
    result: Mapping,
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
) -> None:
    """Write the page, whole or not at all.

    Args:
      path: of the HTML file.
      title: what was evaluated.
      facts: sentences that stand above the scores.
      result: what `stg_jax.evaluate.metrics.score` returns, perhaps with percentages, 'attributes'.
      predictions: clip id to its caption.
      references: clip id to its captions.
    """
    style, script = _part('results.css'), _part('results.js')
    page = string.Template(_part('results.html')).substitute(
        # Only this style and this script run, whatever a caption holds.
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        title=html.escape(title),
        facts=_paragraphs(facts, 'fact') + _paragraphs(result['warnings'], 'warning'),
        scores=_rows({**result['metrics'], **result.get('attributes', {})}),
        captions=_rows(result['captions']),
        data=_data(result, predictions, references),
    )
    files.write_text(path, page)


def _data(
    result: Mapping, predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> str:
    per_clip = result['per_clip']
    clips = [
        {
            'id': clip,
            'caption': predictions[clip],
            'scores': [round(value, 2) for value in scores.values()],
            'references': list(references[clip]),
        }
        for clip, scores in per_clip.items()
    ]
    metrics = list(next(iter(per_clip.values())))
    text = json.dumps({'metrics': metrics, 'clips': clips}, ensure_ascii=False)
    # Inside of a script element only this sign could end it or begin a comment.
    return text.replace('<', '\\u003c')


def _paragraphs(sentences: Sequence[str], kind: str) -> str:
    return ''.join(f'<p class="{kind}">{html.escape(sentence)}</p>' for sentence in sentences)


def _rows(values: Mapping[str, float]) -> str:
    return ''.join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{_number(value)}</td></tr>'
        for name, value in values.items()
    )


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f'{value:.2f}'


def _part(name: str) -> str:
    return importlib.resources.files('stg_jax.visualize').joinpath(name).read_text('utf-8')


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
