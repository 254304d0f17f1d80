"""Train and evaluate one run after another, each in a process of its own."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from stg_jax import cli
from stg_jax.errors import UserError
from stg_jax.files import read_json, write_json
from stg_jax.sweep.grid import Job

_LAUNCH = Path(__file__).parents[2] / 'launch'
_DONE = 'sweep.json'  # in the folder of a run: by which flags it was trained and evaluated
_STOPPED = (cli.RESTART, cli.INTERRUPTED, -signal.SIGTERM, 128 + signal.SIGTERM)


def run_jobs(
    jobs: Sequence[Job], config_flags: Sequence[str], split: str, say: Callable[[str], None]
) -> bool:
    """Train and evaluate all runs that are not done; a run that fails does not stop the others.

    Returns:
      True when all are done, False when SIGTERM or Ctrl-C came: the present run has saved, and the
      same call goes on there.

    Raises:
      UserError: runs failed; it names them.
    """
    failed = []
    with _Child() as child:
        for number, job in enumerate(jobs, 1):
            flags = [*config_flags, *job.flags]
            if _is_done(job, flags, split):
                say(f'[{number}/{len(jobs)}] {job.name} is done')
                continue
            say(f'[{number}/{len(jobs)}] {job.name}')
            commands = (
                ['train.py', *flags, f'--workdir={job.workdir}'],
                ['evaluate.py', f'--workdir={job.workdir}', f'--split={split}'],
            )
            code = next(filter(None, map(child.run, commands)), 0)
            if child.asked or code in _STOPPED:
                return False
            if code == 0:
                write_json(job.workdir / _DONE, {'flags': flags, 'split': split})
            else:
                failed.append(job.name)
    if failed:
        raise UserError(
            f'{len(failed)} of {len(jobs)} runs failed, see above: {", ".join(failed)}; '
            'mend it and run the same command again'
        )
    return True


def _is_done(job: Job, flags: Sequence[str], split: str) -> bool:
    path = job.workdir / _DONE
    return path.exists() and read_json(path) == {'flags': list(flags), 'split': split}


class _Child:
    """The one process that runs at a time; it gets the signals that are meant to end all.

    Attributes:
      asked: whether such a signal came.
    """

    def __enter__(self) -> '_Child':
        self._process, self.asked = None, False
        self._before = {
            number: signal.signal(number, self._pass_on)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *unused) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str]) -> int:
        """Run a command of launch/ to its end and return its exit code."""
        name, *args = command
        # A session of its own: Ctrl-C reaches it once, through this process.
        with subprocess.Popen(
            [sys.executable, str(_LAUNCH / name), *args], start_new_session=True
        ) as self._process:
            if self.asked:  # before there was a process to pass it on to
                self._process.terminate()
            return self._process.wait()

    def _pass_on(self, *unused) -> None:
        self.asked = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
