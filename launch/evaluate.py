"""Decode a split with a trained run and score it.

    python launch/evaluate.py --workdir runs/msvd --split test
    python launch/evaluate.py --workdir runs/msvd --split test --branch scene,object --show 5

Writes RUN/eval/SPLIT/predictions.json (COCO results format) and scores.json; another branch than
the deployed one goes to RUN/eval/SPLIT-BRANCH/. BLEU, METEOR, ROUGE-L and CIDEr are pycocoevalcap's
with its PTB tokenizer, all times 100; sacreBLEU comes with its signature.
"""

from absl import flags

from stg_jax import cli

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder that train.py wrote.')
_SPLIT = flags.DEFINE_string('split', 'test', 'Split of the data that the run was trained on.')
_BRANCH = flags.DEFINE_list(
    'branch',
    None,
    'scene (the student), object (the teacher), joint, or several; by default the deployed one.',
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (on validation), latest, or a step.')
_BEAM = flags.DEFINE_integer('beam_size', None, "1 is greedy; by default the run's.", 1)
_PENALTY = flags.DEFINE_float(
    'length_penalty', None, "Exponent of the length; by default the run's.", 0.0
)
_SHOW = flags.DEFINE_integer('show', 0, 'Print so many captions beside their references.', 0)


def main(args: list[str]) -> None:
    """Evaluate and print the scores."""
    cli.no_arguments(args)
    workdir = cli.required(_WORKDIR)
    from stg_jax.decode.captioner import Captioner
    from stg_jax.evaluate.evaluate import evaluate

    results = []
    for branch in _BRANCH.value or [None]:
        captioner = Captioner.load(workdir, branch=branch, checkpoint=_CHECKPOINT.value)
        results.append(
            evaluate(captioner, _SPLIT.value, beam_size=_BEAM.value, length_penalty=_PENALTY.value)
        )
    _print_scores(results)
    if _SHOW.value:
        _print_captions(results, _SHOW.value)
    for result in results:
        print(f'wrote {result.folder}/predictions.json and scores.json')


def _print_scores(results: list) -> None:
    scores = [result.scores for result in results]
    print(
        '{split}: {num_clips} clips, {num_references} references, step {checkpoint_step}, '
        'beam {beam_size}, length penalty {length_penalty}\n'.format(**scores[0])
    )
    print(' ' * 10 + ''.join(f'{score["branch"]:>9}' for score in scores))
    for name in scores[0]['metrics']:
        print(f'{name:<10}' + ''.join(f'{score["metrics"][name]:9.2f}' for score in scores))
    print()


def _print_captions(results: list, number: int) -> None:
    """Print captions of clips spread evenly over the split, each branch's beside a reference."""
    references = results[0].references
    clips = list(references)
    for clip_id in clips[:: max(1, len(clips) // number)][:number]:
        print(clip_id)
        for result in results:
            print(f'  {result.scores["branch"]:<10}{result.predictions[clip_id]}')
        print(f'  {"reference":<10}{references[clip_id][0]}\n')


if __name__ == '__main__':
    cli.run(main)
