"""A sweep as a job array of Slurm: one task for each run, queued again when it is preempted."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stg_jax.cli import app
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
# In the background, so that bash passes SIGTERM on while it waits.
{command} --job="$SLURM_ARRAY_TASK_ID" &
trap 'kill -TERM $!' TERM
wait $!
code=$?
while kill -0 $! 2>/dev/null; do wait $!; code=$?; done
# Saved because the time was over, or preempted.
((code == {restart})) && scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
exit "$code"
"""


def submit(out: Path, num_jobs: int, args: Sequence[str], options: str) -> str:
    """Write OUT/sweep.sbatch and submit it; return what sbatch says.

    The script holds the options too: it may be submitted by hand, now or again.

    Args:
      out: folder of the sweep, which all nodes must share.
      num_jobs: tasks of the array.
      args: the arguments of sweep.py that each task runs with.
      options: of sbatch, such as '--partition=gpu --gpus=1'.

    Raises:
      UserError: there is no sbatch, or it refused, or the options are none.
    """
    script = out / 'sweep.sbatch'
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise UserError(f'--slurm={options} is no list of options ({error})') from None
    text = _SCRIPT.format(
        last=num_jobs - 1,
        options=f'#SBATCH {shlex.join(words)}\n' if words else '',
        logs=shlex.quote(str(out / 'task-%a.log')),
        folder=shlex.quote(str(Path.cwd())),
        command=shlex.join([sys.executable, str(Path(sys.argv[0]).resolve()), *args]),
        restart=app.RESTART,
    )
    write_text(script, text)
    if shutil.which('sbatch') is None:
        raise UserError(f'there is no sbatch here: submit {script} where there is one')
    done = subprocess.run(['sbatch', str(script)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f'sbatch refused {script}: {" ".join(done.stderr.split())}')
    return done.stdout.strip()
