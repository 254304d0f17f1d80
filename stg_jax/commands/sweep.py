r"""Train and evaluate a grid of settings, each with several seeds.

    python launch/sweep.py --config configs/msvd.py --out runs/branches --seeds 5 \
        --set model.branches=scene,full --set optim.lr=1e-4,3e-4
    python launch/sweep.py --config configs/msvd.py --out /shared/runs/branches --seeds 5 \
        --set model.branches=scene,full --slurm '--partition=gpu --gpus=1 --time=4:00:00'

Runs are written to OUT/SETTING/seed-N, one after another, or as tasks of a Slurm job array. The
same command resumes a sweep that was stopped, and skips the runs that are done. Override other
values of the config as in train.py: --config.data.dir=data/msvd.

Every run is evaluated on validation, because settings are chosen there; evaluate on test with
--split test after that. The table at the end, also in OUT/scores.md, lists the best setting on
validation first. launch/compare.py tests whether two settings differ by more than chance.

--folds DIR cross-validates: a few dozen validation clips are too few to choose a setting, so every
train and validation clip is captioned by a run that was not trained on it. Tables pool the clips.

Exit codes are those of train.py: 75 means that the command should be started again.
"""

import sys

from absl import flags

from stg_jax.cli import app, config_flag
from stg_jax.errors import UserError

_CONFIG = config_flag.define()
_OUT = flags.DEFINE_string('out', None, 'Folder of the sweep, new or to be resumed.')
_SEEDS = flags.DEFINE_integer('seeds', 5, 'Runs of each setting.', 1)
_SET = flags.DEFINE_multi_string('set', [], 'Values to try: group.key=value,value; repeatable.')
_FOLDS = flags.DEFINE_string(
    'folds', None, 'Cross-validate: each seed takes the next data folder of prepare.py folds.'
)
_SPLIT = flags.DEFINE_string('split', 'val', 'Split to evaluate on.')
_SLURM = flags.DEFINE_string('slurm', None, 'Submit as a job array, with these options of sbatch.')
_JOB = flags.DEFINE_integer('job', None, 'Run only the run of this number, as array tasks do.', 0)


def main(args: list[str]) -> int:
    """Run the sweep, or submit it."""
    app.no_arguments(args)
    config, out = config_flag.required_config(_CONFIG), app.required(_OUT)
    # After the flags, so that --help is quick.
    from etils import epath

    from stg_jax.cluster.sweep import (
        check_runs,
        find_folds,
        make_runs,
        parse_settings,
        refuse_without_validation,
        write_scores,
    )
    from stg_jax.files import check_writable

    settings = parse_settings(_SET.value, config.to_dict())
    out = epath.Path(out)
    check_writable(out / 'scores.md')
    folds = []
    if _FOLDS.value:
        folds = find_folds(_FOLDS.value, _SEEDS.value, _SPLIT.value, settings)
    runs = make_runs(out, settings, _SEEDS.value, config.seed, folds)
    refuse_without_validation(runs, _SPLIT.value)
    chosen = _chosen(runs)
    check_runs(chosen, config_flag.typed_flags(sys.argv[1:]))
    if _SLURM.value is not None:
        from stg_jax.cluster.slurm_array import submit

        print(submit(out, len(runs), _without_slurm(sys.argv[1:]), _SLURM.value))
        return 0
    code = _run(chosen)
    if _JOB.value is None and not code:
        print(write_scores(runs, _SPLIT.value, out), end='')
    return code


def _chosen(runs: list) -> list:
    """Return the run of --job, or all runs."""
    if _JOB.value is None:
        return runs
    if _JOB.value >= len(runs):
        raise UserError(f'--job={_JOB.value}: the sweep has runs 0 to {len(runs) - 1}')
    return [runs[_JOB.value]]


def _run(runs: list) -> int:
    from stg_jax.cluster.sweep import run_all

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if run_all(runs, config_flag.typed_flags(sys.argv[1:]), _SPLIT.value, say):
        return 0
    say('asked to stop: the same command resumes')
    return app.RESTART


def _without_slurm(argv: list[str]) -> list[str]:
    """Return the arguments of an array task: those of this command without --slurm."""
    kept, rest = [], iter(argv)
    for arg in rest:
        name, equals, _ = arg.lstrip('-').partition('=')
        if arg.startswith('-') and name == 'slurm':
            if not equals:
                next(rest)
        else:
            kept.append(arg)
    return kept


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
