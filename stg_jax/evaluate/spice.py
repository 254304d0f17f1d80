"""SPICE by pycocoevalcap's jar: a semantic parse of every caption, minutes for a large split.

The parser's models are no part of the package; without them the metric is left out with a sentence
that names the fix. The Java and its files are those of stg_jax.evaluate.java and of a temporary
folder: pycocoevalcap's wrapper writes into the folder where it is installed and looks on PATH.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pycocoevalcap.spice import get_stanford_models, spice

from stg_jax.errors import UserError
from stg_jax.evaluate.java import run_jar

_FOLDER = Path(spice.__file__).parent
_MODELS = f'{get_stanford_models.JAR}-models.jar'
_HEAP = '-Xmx4G'


def spice_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, list[float]]:
    """Score captions by SPICE (Anderson et al., 2016).

    Args:
      hypotheses: one tokenised caption per clip.
      references: the tokenised references of each clip, in the same order.

    Returns:
      The mean over clips and the F score of each clip, in [0, 1].

    Raises:
      UserError: the models are not there, or Java does not run.
    """
    if not (_FOLDER / get_stanford_models.SPICELIB / _MODELS).exists():
        raise UserError(
            'SPICE needs models that pycocoevalcap does not bring: fetch them once with '
            '`python -m pycocoevalcap.spice.get_stanford_models`, a large download'
        )
    rows = [
        {'image_id': i, 'test': text, 'refs': list(group)}
        for i, (text, group) in enumerate(zip(hypotheses, references, strict=True))
    ]
    # A folder for each run, and no cache: two runs at once would share its lock and its faults.
    with tempfile.TemporaryDirectory(prefix='stg_jax_spice_') as folder:
        asked, answered = Path(folder, 'captions.json'), Path(folder, 'scores.json')
        asked.write_text(json.dumps(rows), encoding='utf-8')
        options = ['-out', os.fspath(answered), '-silent']
        run_jar('SPICE', _FOLDER / spice.SPICE_JAR, [os.fspath(asked), *options], heap=_HEAP)
        found = json.loads(answered.read_text(encoding='utf-8'))
    score_of = {row['image_id']: float(row['scores']['All']['f']) for row in found}
    scores = [score_of[i] for i in range(len(rows))]
    return sum(scores) / len(scores), scores
