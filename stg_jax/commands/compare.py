"""Compare evaluated systems: mean and spread over seeds, a bootstrap over clips and seeds.

    python launch/compare.py runs/scene runs/full
    python launch/compare.py runs/sweep/model.branches=scene runs/sweep/model.branches=full
    python launch/compare.py ours.json theirs.json --out comparison.md

Each argument is a run, a folder of runs that differ in their seeds, or a JSON file that score.py
wrote with --out. The first is the base; the others are compared with it. Prints Markdown.

The interval and p show how the difference would vary with other clips of the same kind and, where a
system has several seeds, with other seeds.
"""

from absl import flags

from stg_jax.cli import app
from stg_jax.errors import UserError
from stg_jax.files import check_writable, write_text

_SPLIT = flags.DEFINE_string(
    'split', 'test', 'Split whose scores are compared, or the name of another folder in RUN/eval/.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 10_000, 'Samples of the bootstrap.', 100)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of the bootstrap.', 0)
_OUT = flags.DEFINE_string('out', None, 'Markdown file to write.')


def main(paths: list[str]) -> None:
    """Print the tables."""
    if len(paths) < 2:
        raise UserError('name two or more runs to compare (see --help)')
    from stg_jax.evaluate.compare.bootstrap import paired_bootstrap
    from stg_jax.evaluate.compare.systems import check_alike, decoded_differently, load_system
    from stg_jax.evaluate.compare.tables import difference_table, made_with_line, scores_table

    if _OUT.value:
        check_writable(_OUT.value)
    base, *others = (load_system(path, _SPLIT.value) for path in paths)
    tables = []
    for other in others:
        check_alike(base.results[0], other.results[0], base.name, other.name)
        found = paired_bootstrap(base, other, rounds=_ROUNDS.value, seed=_SEED.value)
        # Not refused: a comparison of two beam sizes is legitimate if the table says so.
        differs = decoded_differently(base.results[0], other.results[0])
        note = f'Trained or decoded differently: {", ".join(differs)}.\n\n' if differs else ''
        tables.append(note + difference_table(base, other, found))
    if len(others) > 1:
        tables.insert(0, scores_table([base, *others], rounds=_ROUNDS.value, seed=_SEED.value))
    text = '\n'.join(tables) + made_with_line([base, *others])
    print(text, end='')
    if _OUT.value:
        write_text(_OUT.value, text)


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
