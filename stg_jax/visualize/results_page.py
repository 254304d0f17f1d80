"""The page of an evaluation: scores, a histogram, and every caption beside its references."""

import html
import os
from collections.abc import Mapping, Sequence

from stg_jax import files
from stg_jax.visualize.html import fill_page, to_script


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
      path: HTML file.
      title: what was evaluated.
      facts: sentences printed above the scores.
      result: what `stg_jax.evaluate.metrics.score` returns; percentages in 'attributes' are shown
        too, where there are any.
      predictions: predicted caption by clip id.
      references: reference captions by clip id.
    """
    page = fill_page(
        'results.html',
        style='results.css',
        scripts=['results.js'],
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
    # Every clip has the same metrics; an evaluation without clips is refused before this.
    metrics = list(next(iter(per_clip.values())))
    return to_script({'metrics': metrics, 'clips': clips})


def _paragraphs(sentences: Sequence[str], kind: str) -> str:
    return ''.join(f'<p class="{kind}">{html.escape(sentence)}</p>' for sentence in sentences)


def _rows(values: Mapping[str, float]) -> str:
    return ''.join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{_number(value)}</td></tr>'
        for name, value in values.items()
    )


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f'{value:.2f}'
