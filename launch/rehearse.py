"""Rehearse a run on many hosts: several processes on this machine, each with CPU devices.

    python launch/rehearse.py --processes 2 --devices 2 -- \
        launch/train.py --config configs/toy.py --workdir runs/pod
    python launch/rehearse.py --processes 4 --dry-run -- launch/evaluate.py --workdir runs/pod

The command after -- is started once for each process with the flags of --multihost, and its lines
come with the number of the process. When one is lost the others are ended. With --restarts the job
starts again after it saved and stopped (75) or lost a process. --chaos kills processes on purpose,
by SIGTERM and SIGKILL, during steps, validation and the writing of checkpoints: the parameters,
whose digest a training prints at its end, must be those of a run left in peace.

Exit codes: 0 finished, 2 something to mend, 75 saved and stopped, 1 a process was lost.
"""

from absl import flags

from stg_jax.cli import app
from stg_jax.cluster.local_pod import Pod, Supervisor
from stg_jax.errors import UserError

_PROCESSES = flags.DEFINE_integer('processes', 2, 'Number of processes.', 1)
_DEVICES = flags.DEFINE_integer('devices', 1, 'CPU devices of each process.', 1)
_RESTARTS = flags.DEFINE_integer('restarts', 0, 'How often to start again.', 0)
_CHAOS = flags.DEFINE_integer('chaos', 0, 'How often to kill a process.', 0)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the moments and victims of --chaos.', 0)
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print the commands and run nothing.')
flags.DEFINE_alias('dry-run', 'dry_run')


def main(args: list[str]) -> int:
    """Run the command as a pod."""
    if not args:
        raise UserError('no command: write it after --, as in -- launch/train.py --config ...')
    pod = Pod(args, _PROCESSES.value, _DEVICES.value)
    if _DRY_RUN.value:
        print('\n'.join(pod.described()))
        return 0
    supervisor = Supervisor(pod, _PROCESSES.value)
    if _CHAOS.value:
        return supervisor.chaos(_CHAOS.value, _SEED.value)
    return supervisor.run(_RESTARTS.value)


if __name__ == '__main__':
    app.run(main)
