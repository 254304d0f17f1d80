"""Measure how faithful the explanations of a trained run are.

    python launch/explain.py --workdir runs/toy --split test
    python launch/explain.py --workdir runs/msvd --clips 20

Deletes or inserts the objects (for the teacher) or the frames and grid cells (for the student) of a
clip, in the order of their relevance or in random order, and tracks the probability of each word of
the run's captions. On the toy world, where it is known which thing a noun refers to, also counts
how often the noun's most relevant object or cell is at that thing. Writes
RUN/eval/SPLIT/explanations.json, which docs/explain.md describes.
"""

from absl import flags

import stg_jax
from stg_jax.cli import app

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder that train.py wrote.')
_SPLIT = flags.DEFINE_string('split', 'test', 'Split of the data that the run was trained on.')
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (on validation), latest, or a step.')
_CLIPS = flags.DEFINE_integer(
    'clips', 60, 'Number of clips to measure, from the start of the split.', 1
)


def main(args: list[str]) -> None:
    """Measure the run, write the result and print a summary."""
    app.no_arguments(args)
    workdir = app.required(_WORKDIR)
    import itertools

    from stg_jax.cli.progress import progress
    from stg_jax.data.records import read_clips
    from stg_jax.explain.faithfulness import measure
    from stg_jax.files import write_json

    captioner = stg_jax.load(workdir, checkpoint=_CHECKPOINT.value)
    run = captioner.run
    clips = itertools.islice(read_clips(run.config.data.dir, _SPLIT.value), _CLIPS.value)
    total = min(_CLIPS.value, run.manifest.splits.get(_SPLIT.value, {}).get('clips', 0))
    found = measure(captioner, progress(clips, total, 'explained'))
    path = run.evaluation(_SPLIT.value) / 'explanations.json'
    write_json(path, found)
    _print(found)
    print(f'wrote {path}')


def _print(found: dict) -> None:
    print(f'{found["clips"]} clips, step {found["checkpoint_step"]}')
    print('\narea under the mean probability of a word   deletion (random)   insertion (random)')
    for branch, curves in found['faithfulness'].items():
        print(
            '{branch:<12}{words:>6} words {deletion_area:25.3f} ({deletion_random_area:.3f})'
            '{insertion_area:13.3f} ({insertion_random_area:.3f})'.format(branch=branch, **curves)
        )
    if 'pointing' in found:
        print(
            '\n{nouns} nouns, and where their most relevant object is (chance)\n'
            'a thing that the noun names           {named:.3f} ({named_chance:.3f})\n'
            'the thing that the caption means      {meant:.3f} ({meant_chance:.3f})\n'
            'the same, of noun and colour together {phrase:.3f} ({meant_chance:.3f})'.format(
                **found['pointing']
            )
        )
    if 'pointing_cells' in found:
        print(
            '\n{nouns} phrases of colour and noun, and where their most relevant cell is (chance)\n'
            'of the colour, at a thing of this colour   {colour:.3f} ({colour_chance:.3f})\n'
            'of the noun, at a thing that it names      {shape:.3f} ({shape_chance:.3f})\n'
            'of both, at the thing that they mean       {phrase:.3f} ({phrase_chance:.3f})'.format(
                **found['pointing_cells']
            )
        )


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
