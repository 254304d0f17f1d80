"""The scores of a sweep: settings are chosen on validation, and compared in one table."""

from collections.abc import Sequence

from etils import epath

from stg_jax.cluster.sweep import SweepRun
from stg_jax.errors import UserError
from stg_jax.evaluate.compare.systems import load_system
from stg_jax.evaluate.compare.tables import made_with_line, scores_table
from stg_jax.evaluate.evaluate import HELD_OUT
from stg_jax.files import write_text


def refuse_without_validation(runs: Sequence[SweepRun], split: str) -> None:
    """Refuse to score several settings on test before validation has chosen among them."""
    if split != HELD_OUT or len({run.workdir.parent for run in runs}) == 1:
        return
    lacking = [
        run.name for run in runs if not (run.workdir / 'eval' / 'val' / 'scores.json').exists()
    ]
    if lacking:
        raise UserError(
            f'--split=test would choose a setting on the test split: {len(lacking)} of {len(runs)} '
            f'runs have no scores on val ({lacking[0]}): run the same command without --split first'
        )


def write_scores(runs: Sequence[SweepRun], split: str, out: epath.Path) -> str:
    """Write OUT/scores.md, a table of all settings with the best on validation first."""
    folders = dict.fromkeys(run.workdir.parent for run in runs)
    systems = [load_system(str(folder), split) for folder in folders]
    validated = []
    if split == HELD_OUT and len(systems) > 1:
        validated = [load_system(str(folder), 'val') for folder in folders]
    # Sorted by validation even if test scores are shown: picking the best test score is tuning on
    # it.
    if split == 'val' or validated:
        by_val = [system.corpus('CIDEr').mean() for system in validated or systems]
        order = sorted(range(len(systems)), key=lambda i: -by_val[i])
        systems, validated = ([each[i] for i in order if each] for each in (systems, validated))
    text = scores_table(systems, validated) + made_with_line(systems)
    write_text(out / 'scores.md', text)
    return text
