"""A CSV table of the scores of each clip."""

import csv
import io
from collections.abc import Mapping

from stg_jax.evaluate.metrics import made_with


def clip_table(result: Mapping, predictions: Mapping[str, str]) -> str:
    """Write one row for each clip; every row names the programs behind the scores.

    Args:
      result: the result of `stg_jax.evaluate.metrics.score`.
      predictions: clip id to its caption.
    """
    text = io.StringIO()
    # Quote all text: csv would write a lone carriage return unquoted, which ends a row.
    rows = csv.writer(text, lineterminator='\n', quoting=csv.QUOTE_NONNUMERIC)
    names = list(next(iter(result['per_clip'].values())))
    rows.writerow(['clip', 'caption', *names, 'made_with'])
    how = made_with(result)
    for clip, scores in result['per_clip'].items():
        rows.writerow([clip, predictions[clip], *scores.values(), how])
    return text.getvalue()
