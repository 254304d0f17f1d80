r"""Rehearse a run on many hosts: several processes on this machine, each with CPU devices.

    python launch/rehearse.py --processes 2 --devices 2 -- \
        launch/train.py --config configs/toy.py --workdir runs/pod
    python launch/rehearse.py --processes 4 --dry-run -- launch/evaluate.py --workdir runs/pod

The command after -- is started once for each process, with the flags of --multihost. Every line
that it prints begins with the number of its process. When one process is lost, the others are
stopped. With --restarts, the job is restarted after it saved and stopped (75) or lost a process.

Exit codes: 0 finished, 2 a user error, 75 saved and stopped, 1 a process was lost.
"""

from absl import flags

from stg_jax.cli import app
from stg_jax.cluster.local_pod import Pod, Supervisor
from stg_jax.errors import UserError

_PROCESSES = flags.DEFINE_integer('processes', 2, 'Number of processes.', 1)
_DEVICES = flags.DEFINE_integer('devices', 1, 'CPU devices of each process.', 1)
_RESTARTS = flags.DEFINE_integer('restarts', 0, 'Maximum number of restarts.', 0)
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print the commands and run nothing.')
flags.DEFINE_alias('dry-run', 'dry_run')


def main(args: list[str]) -> int:
    """Run the command as a pod."""
    if not args:
        raise UserError('no command: write it after --, as in -- launch/train.py --config ...')
    pod = Pod(args, _PROCESSES.value, _DEVICES.value)
    if _DRY_RUN.value:
        print('\n'.join(pod.shell_lines()))
        return 0
    return Supervisor(pod).run(_RESTARTS.value)


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
