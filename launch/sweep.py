"""Train and evaluate a grid of settings, each with several seeds.

    python launch/sweep.py --config configs/msvd.py --out runs/branches --seeds 5 \
        --set model.branches=scene,full --set optim.lr=1e-4,3e-4
    python launch/sweep.py --config configs/msvd.py --out /shared/runs/branches --seeds 5 \
        --set model.branches=scene,full --slurm '--partition=gpu --gpus=1 --time=4:00:00'

Runs go to OUT/SETTING/seed-N, one after another, or as tasks of a Slurm job array; the same command
goes on where an earlier one stopped, and leaves out what is done. Other values of the config are
changed as in train.py: --config.data.dir=data/msvd.

Every run is evaluated on validation, for settings are chosen there; with --split test, once that is
done. The table at the end, also in OUT/scores.md, has the best setting on validation first.
launch/compare.py tells whether two settings differ by more than chance.

Exit codes are those of train.py: 75 means that the command should be started again.
"""

import sys

from absl import flags
from ml_collections import config_flags

from stg_jax.cli import app, config_flag

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, such as configs/msvd.py.')
_OUT = flags.DEFINE_string('out', None, 'Folder of the sweep, new or to be continued.')
_SEEDS = flags.DEFINE_integer('seeds', 5, 'Runs of each setting.', 1)
_SET = flags.DEFINE_multi_string('set', [], 'Values to try: group.key=value,value; repeatable.')
_SPLIT = flags.DEFINE_string('split', 'val', 'Split to evaluate on.')
_SLURM = flags.DEFINE_string('slurm', None, 'Submit as a job array, with these options of sbatch.')
_JOB = flags.DEFINE_integer('job', None, 'Run only the run of this number, as array tasks do.', 0)


def main(args: list[str]) -> int:
    """Run the sweep, or submit it."""
    app.no_arguments(args)
    config, out = config_flag.required_config(_CONFIG), app.required(_OUT)
    from etils import epath

    from stg_jax.cluster.sweep import check_jobs, make_jobs, parse_settings
    from stg_jax.errors import UserError
    from stg_jax.evaluate.evaluate import HELD_OUT
    from stg_jax.files import check_writable

    settings = parse_settings(_SET.value, config.to_dict())
    out = epath.Path(out)
    check_writable(out / 'scores.md')
    jobs = make_jobs(out, settings, _SEEDS.value, config.seed)
    if _SPLIT.value == HELD_OUT and len(jobs) > _SEEDS.value:
        _refuse_without_validation(jobs)
    check_jobs(
        jobs if _JOB.value is None else jobs[_JOB.value :][:1],
        config_flag.typed_flags(sys.argv[1:]),
    )
    if _SLURM.value is not None:
        from stg_jax.cluster.slurm_array import submit

        print(submit(out, len(jobs), _without_slurm(sys.argv[1:]), _SLURM.value))
        return 0
    if _JOB.value is None:
        return _run(jobs) or _report(jobs, out)
    if _JOB.value >= len(jobs):
        raise UserError(f'--job={_JOB.value}: the sweep has runs 0 to {len(jobs) - 1}')
    return _run([jobs[_JOB.value]])


def _refuse_without_validation(jobs: list) -> None:
    """Refuse the test scores of several settings before validation could choose among them."""
    from stg_jax.errors import UserError

    lacking = [
        job.name for job in jobs if not (job.workdir / 'eval' / 'val' / 'scores.json').exists()
    ]
    if lacking:
        raise UserError(
            f'--split=test would choose a setting on the test split: {len(lacking)} of {len(jobs)} '
            f'runs have no scores on val ({lacking[0]}): run the same command without --split first'
        )


def _run(jobs: list) -> int:
    from stg_jax.cluster.sweep import run_jobs

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if run_jobs(jobs, config_flag.typed_flags(sys.argv[1:]), _SPLIT.value, say):
        return 0
    say('asked to stop: the same command goes on')
    return app.RESTART


def _report(jobs: list, out) -> int:
    """Print a table of all settings, the best first."""
    from stg_jax.evaluate.compare.systems import load_system
    from stg_jax.evaluate.compare.tables import made_with_line, scores_table
    from stg_jax.evaluate.evaluate import HELD_OUT
    from stg_jax.files import write_text

    folders = dict.fromkeys(job.workdir.parent for job in jobs)
    systems = [load_system(str(folder), _SPLIT.value) for folder in folders]
    validated = []
    if _SPLIT.value == HELD_OUT and len(systems) > 1:
        validated = [load_system(str(folder), 'val') for folder in folders]
    if _SPLIT.value == 'val' or validated:
        by_val = [system.corpus('CIDEr').mean() for system in validated or systems]
        order = sorted(range(len(systems)), key=lambda i: -by_val[i])
        systems, validated = ([each[i] for i in order if each] for each in (systems, validated))
    text = scores_table(systems, validated) + made_with_line(systems)
    print(text, end='')
    write_text(out / 'scores.md', text)
    return 0


def _without_slurm(argv: list[str]) -> list[str]:
    kept, rest = [], iter(argv)
    for arg in rest:
        name, equals, _ = arg.lstrip('-').partition('=')
        if arg.startswith('-') and name == 'slurm':
            if not equals:
                next(rest)
        else:
            kept.append(arg)
    return kept


if __name__ == '__main__':
    app.run(main)
