"""Decode a split with a trained run and score it.

    python launch/evaluate.py --workdir runs/msvd --split test
    python launch/evaluate.py --workdir runs/msvd --split test --branch object

Writes RUN/eval/SPLIT/predictions.json (COCO results format) and scores.json; another branch than
the deployed one goes to RUN/eval/SPLIT-BRANCH/. BLEU, METEOR, ROUGE-L and CIDEr are pycocoevalcap's
with its PTB tokenizer, all times 100; sacreBLEU comes with its signature.
"""

from absl import flags

from stg_jax import cli

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder that train.py wrote.')
_SPLIT = flags.DEFINE_string('split', 'test', 'Split of the data that the run was trained on.')
_BRANCH = flags.DEFINE_string(
    'branch', None, 'scene (the student), object (the teacher) or joint; by default the deployed.'
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (on validation), latest, or a step.')
_BEAM = flags.DEFINE_integer('beam_size', None, "1 is greedy; by default the run's.", lower_bound=1)
_PENALTY = flags.DEFINE_float(
    'length_penalty', None, "Exponent of the length; by default the run's.", lower_bound=0.0
)


def main(args: list[str]) -> None:
    """Evaluate and print the scores."""
    cli.no_arguments(args)
    workdir = cli.required(_WORKDIR)
    from stg_jax.decode.captioner import Captioner
    from stg_jax.evaluate.evaluate import evaluate

    captioner = Captioner.load(workdir, branch=_BRANCH.value, checkpoint=_CHECKPOINT.value)
    result = evaluate(captioner, _SPLIT.value, beam_size=_BEAM.value, length_penalty=_PENALTY.value)
    scores = result.scores
    print(
        f'{scores["split"]}: {scores["num_clips"]} clips, {scores["num_references"]} references, '
        f'{scores["branch"]} branch, step {scores["checkpoint_step"]}, '
        f'beam {scores["beam_size"]}, length penalty {scores["length_penalty"]}'
    )
    for name, value in scores['metrics'].items():
        print(f'{name:>10} {value:6.2f}')
    print(f'wrote {result.folder}/predictions.json and scores.json')


if __name__ == '__main__':
    cli.run(main)
