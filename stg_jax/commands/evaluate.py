"""Decode a split with a trained run and score it.

    python launch/evaluate.py --workdir runs/msvd --split test
    python launch/evaluate.py --workdir runs/msvd --split test --branch scene,object --show 5
    python launch/evaluate.py --workdir runs/seed-0,runs/seed-1,runs/seed-2    # an ensemble
    python launch/evaluate.py --workdir runs/msvd --average 3     # of the best three checkpoints
    python launch/evaluate.py --workdir runs/msvd --data data/other           # on other clips

Writes RUN/eval/SPLIT/predictions.json (COCO results format), scores.json and index.html, a page of
every caption beside its references. Non-default options are appended to the name of the folder, as
in RUN/eval/SPLIT-object/ or RUN/eval/SPLIT-average3-beam1/; an ensemble is written to the first
run's eval/SPLIT-ensemble-NAMES-HASH/. BLEU, METEOR, ROUGE-L and CIDEr are pycocoevalcap's with its
PTB tokenizer, all times 100; sacreBLEU is printed with its signature. Every look at the test split
is counted in RUN/eval/test_looks/.

All devices decode. On a pod, start the same command with --multihost on every host: each decodes
its part of the clips, and host 0 scores and writes.
"""

import contextlib
import math

from absl import flags

import stg_jax
from stg_jax.cli import app, heap, multihost

flags.adopt_module_key_flags(multihost)
_WORKDIR = flags.DEFINE_list(
    'workdir', None, 'Folder that train.py wrote, or several to evaluate as an ensemble.'
)
_SPLIT = flags.DEFINE_string('split', 'test', 'Split of the data.')
_DATA = flags.DEFINE_string(
    'data', None, "Data folder with features of the same shapes; by default the run's own."
)
_BRANCH = flags.DEFINE_list(
    'branch',
    None,
    'scene (the student), object (the teacher), joint, or several; by default the deployed one.',
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (on validation), latest, or a step.')
_AVERAGE = flags.DEFINE_integer(
    'average', 1, 'Number of checkpoints, the best on validation, whose parameters are averaged.', 1
)
_BEAM = flags.DEFINE_integer('beam_size', None, "1 is greedy; by default the run's.", 1)
_PENALTY = flags.DEFINE_float(
    'length_penalty', None, "Exponent of the length; by default the run's.", 0.0
)
_SHOW = flags.DEFINE_integer('show', 0, 'Number of captions to print beside their references.', 0)

SECTIONS = {'Many hosts': multihost.FLAGS}


def main(args: list[str]) -> None:
    """Evaluate and print the scores."""
    app.no_arguments(args)
    workdirs = app.required(_WORKDIR)
    from stg_jax.evaluate.java import meteor_at_hand

    options = {
        'data_dir': _DATA.value,
        'checkpoint': _CHECKPOINT.value,
        'average': _AVERAGE.value,
        'beam_size': _BEAM.value,
        'length_penalty': _PENALTY.value,
    }
    is_first = multihost.host() == 0
    with meteor_at_hand() if is_first else contextlib.nullcontext():
        results = [
            stg_jax.evaluate(workdirs, _SPLIT.value, branch=branch, **options)
            for branch in _BRANCH.value or [None]
        ]
    if is_first:
        _report(results, workdirs[0])


def _report(results: list, workdir: str) -> None:
    _print_scores(results)
    if 'attributes' in results[0].scores:
        _print_attributes([result.scores for result in results], workdir)
    if _SHOW.value:
        _print_captions(results, _SHOW.value)
    for warning in dict.fromkeys(text for result in results for text in result.scores['warnings']):
        app.warn(f'{warning}')
    for result in results:
        print(f'wrote {result.folder}/predictions.json, scores.json and index.html')


def _print_scores(results: list) -> None:
    from stg_jax.evaluate.evaluate import facts

    scores = [result.scores for result in results]
    print(f'{scores[0]["split"]}: ' + '\n'.join(facts(scores[0])) + '\n')
    print(' ' * 10 + ''.join(f'{score["branch"]:>9}' for score in scores))
    for name in scores[0]['metrics']:
        print(
            f'{name:<10}'
            + ''.join(f'{score["metrics"].get(name, math.nan):9.2f}' for score in scores)
        )
    print()


def _print_attributes(scores: list[dict], workdir: str) -> None:
    """Print how often events, things and roles are right, beside a probe of the scene features."""
    from stg_jax.evaluate.toy import probe_scores, table
    from stg_jax.run.folder import RunFolder

    columns = {score['branch']: score['attributes'] for score in scores}
    run = RunFolder.open(workdir)
    tested = run.reading(_DATA.value) if _DATA.value else run
    columns['probe'] = probe_scores(run, tested, scores[0]['split'])
    print('\n'.join(table(columns)) + '\n')


def _print_captions(results: list, number: int) -> None:
    """Print the captions of clips spread evenly over the split, with one reference each."""
    references = results[0].references
    clips = list(references)
    last = len(clips) - 1
    # From the first to the last: an even stride would meet the same event of the toy world again.
    for index in sorted({round(i * last / max(number - 1, 1)) for i in range(number)}):
        clip_id = clips[index]
        print(clip_id)
        for result in results:
            print(f'  {result.scores["branch"]:<10}{result.predictions[clip_id]}')
        print(f'  {"reference":<10}{references[clip_id][0]}\n')


def run() -> None:
    """Run the command line of this process."""
    heap.keep_freed_memory()
    app.run(multihost.joining(main))
