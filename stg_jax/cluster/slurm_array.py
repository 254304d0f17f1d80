"""Submit a sweep as a Slurm job array: one task a run, requeued when it is preempted."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from stg_jax.cli import app, program
from stg_jax.errors import UserError
from stg_jax.files import write_text

_SCRIPT = """#!/usr/bin/env bash
#SBATCH --job-name=stg_jax_sweep
#SBATCH --array=0-{last}
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={logs}
{options}cd {folder} || exit 2
# In the background: bash runs a trap only after a foreground command has ended.
{command} --job="$SLURM_ARRAY_TASK_ID" &
trap 'kill -TERM $!' TERM
wait $!
code=$?
while kill -0 $! 2>/dev/null; do wait $!; code=$?; done
# The run saved its state because its time was over or it was preempted.
((code == {restart})) && scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
exit "$code"
"""


def submit(out: epath.Path, num_runs: int, args: Sequence[str], options: str) -> str:
    """Write OUT/sweep.sbatch, submit it, and return the answer of sbatch.

    The script holds the options too, so that it can also be submitted by hand.

    Args:
      out: folder of the sweep, on a file system that all nodes share.
      num_runs: tasks of the array.
      args: the arguments of sweep.py that each task runs with.
      options: of sbatch, such as '--partition=gpu --gpus=1'.

    Raises:
      UserError: there is no sbatch, it refused the script, or the options cannot be parsed.
    """
    script = out / 'sweep.sbatch'
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise UserError(f'--slurm={options} is no list of options ({error})') from None
    text = _SCRIPT.format(
        last=num_runs - 1,
        options=f'#SBATCH {shlex.join(words)}\n' if words else '',
        logs=shlex.quote(str(out / 'task-%a.log')),
        folder=shlex.quote(str(Path.cwd())),
        command=shlex.join([*program.command('sweep'), *args]),
        restart=app.RESTART,
    )
    write_text(script, text)
    # After the script is written: it may be submitted from another machine.
    if shutil.which('sbatch') is None:
        raise UserError(f'there is no sbatch here: submit {script} where there is one')
    done = subprocess.run(['sbatch', str(script)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f'sbatch refused {script}: {" ".join(done.stderr.split())}')
    return done.stdout.strip()
