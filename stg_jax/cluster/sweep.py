"""Whether every run of a sweep has a config that means something, asked before the first starts."""

import dataclasses
import itertools
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from etils import epath

from stg_jax.cli import app
from stg_jax.cli.config_flag import read_config
from stg_jax.errors import UserError
from stg_jax.files import read_json, write_json
from stg_jax.model.losses import LossSpec
from stg_jax.model.network import ModelSpec
from stg_jax.run.config_checks import check_limits

_BASE = 'base'  # the folder of a sweep over seeds alone
_NOT_IN_NAMES = re.compile(r'[^A-Za-z0-9._=+-]')


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
      workdir: folder of the run, OUT/SETTING/seed-N.
      flags: of train.py, besides those of the sweep's config.
    """

    workdir: epath.Path
    flags: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return how the run is called within the sweep."""
        return f'{self.workdir.parent.name}/{self.workdir.name}'


def parse_settings(texts: Sequence[str], config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Read `group.key=value,value,...` of the command line: {key: values}.

    Args:
      texts: as they are typed.
      config: nested, to know which keys there are.

    Raises:
      UserError: a key is unknown, comes twice, is the seed, or has no or equal values.
    """
    settings = {}
    for text in texts:
        key, _, listed = text.partition('=')
        values = listed.split(',')
        if not _has(config, key) or key == 'seed':
            raise UserError(f'--set {text}: the config has no such value to change: {key!r}')
        if key in settings:
            raise UserError(f'--set {key} comes twice: list all its values once')
        if '' in values or len(set(values)) < len(values):
            raise UserError(f'--set {text}: expected {key}=value,value,... with different values')
        settings[key] = values
    return settings


def make_jobs(
    out: epath.Path, settings: Mapping[str, Sequence[str]], num_seeds: int, first_seed: int
) -> list[Job]:
    """Return the runs, all settings of one seed before those of the next.

    Raises:
      UserError: two settings would share a folder.
    """
    combined = [
        dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())
    ]
    names = {_name(values): values for values in combined}
    if len(names) < len(combined):
        raise UserError('--set: two values differ only in signs that folder names cannot hold')
    return [
        Job(
            out / name / f'seed-{seed}',
            (
                *(f'--config.{key}={value}' for key, value in values.items()),
                f'--config.seed={seed}',
            ),
        )
        for seed in range(first_seed, first_seed + num_seeds)
        for name, values in names.items()
    ]


def _name(values: Mapping[str, str]) -> str:
    name = '+'.join(f'{key}={_NOT_IN_NAMES.sub("_", value)}' for key, value in values.items())
    return name or _BASE


def _has(config: Mapping[str, Any], key: str) -> bool:
    for part in key.split('.'):
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return not isinstance(config, Mapping)


_LAUNCH = Path(__file__).parents[2] / 'launch'
_DONE = 'sweep.json'  # in the folder of a run: by which flags it was trained and evaluated
_STOPPED = (app.RESTART, app.INTERRUPTED, -signal.SIGTERM, 128 + signal.SIGTERM)


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


def check_jobs(jobs: Sequence[Job], typed_flags: Sequence[str]) -> None:
    """Read the config of each run as train.py will, and describe its network and loss.

    Args:
      jobs: the runs.
      typed_flags: those of the config that all runs share.

    Raises:
      UserError: a value is refused; it names the run.
    """
    for job in jobs:
        try:
            config = read_config([*typed_flags, *job.flags])
            check_limits(config)
            # The vocabulary and the scales come from the data, which are not asked here.
            data = {'max_words': config.data.max_words, 'vocab_size': 1, 'scale': (1.0, 1.0, 1.0)}
            ModelSpec(**config.model, **data)
            LossSpec(**config.loss, **config.kd)
        except (UserError, flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
            reason = ' '.join(str(error).split())
            raise UserError(f'{job.name} cannot start, and none was started: {reason}') from None
