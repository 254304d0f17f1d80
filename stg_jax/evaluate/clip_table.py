"""The scores of each clip as CSV, for spreadsheets and data frames."""

import csv
import io
from collections.abc import Mapping

from stg_jax.evaluate.score import made_with


def clip_table(result: Mapping, predictions: Mapping[str, str]) -> str:
    """Return one row for each clip; what the scores were made with stands in every row.

    Args:
      result: what `stg_jax.evaluate.score.score` returns.
      predictions: clip id to its caption.
    """
    text = io.StringIO()
    # All text in quotes: alone, csv would leave a carriage return bare, which ends a row.
    rows = csv.writer(text, lineterminator='\n', quoting=csv.QUOTE_NONNUMERIC)
    names = list(next(iter(result['per_clip'].values())))
    rows.writerow(['clip', 'caption', *names, 'made_with'])
    how = made_with(result)
    for clip, scores in result['per_clip'].items():
        rows.writerow([clip, predictions[clip], *scores.values(), how])
    return text.getvalue()
