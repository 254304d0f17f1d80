"""A sweep: a grid of settings and seeds, checked as a whole, then trained and evaluated in turn."""

import dataclasses
import itertools
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags
from etils import epath

from stg_jax.cli import app, signals
from stg_jax.cli.child import Child
from stg_jax.cli.config_flag import read_config
from stg_jax.config import flat, parse_config
from stg_jax.errors import UserError, did_you_mean
from stg_jax.evaluate.compare.systems import load_system
from stg_jax.evaluate.compare.tables import made_with_line, scores_table
from stg_jax.evaluate.evaluate import HELD_OUT
from stg_jax.files import read_json, write_json, write_text

_BASE = 'base'  # name of the only setting when nothing but the seed changes
_NOT_IN_NAMES = re.compile(r'[^A-Za-z0-9._=+-]')
_ROUNDS = 2_000  # samples of the bootstrap: tenths of a point of an interval
_DONE = 'sweep.json'  # in the folder of a finished run: its flags, and the split evaluated
# Exit codes of a run that was stopped by a signal, rather than by a failure of its own.
_STOPPED = (app.RESTART, app.INTERRUPTED, -signal.SIGTERM, 128 + signal.SIGTERM)


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: a setting with a seed.

    Attributes:
      workdir: folder of the run, OUT/SETTING/seed-N.
      flags: of train.py, besides those of the sweep's config.
    """

    workdir: epath.Path
    flags: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the run within the sweep, SETTING/seed-N."""
        return f'{self.workdir.parent.name}/{self.workdir.name}'


def parse_settings(texts: Sequence[str], config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Parse values of --set, `group.key=value,value,...`, into {key: values}.

    Args:
      texts: as they are typed.
      config: nested, to check that the keys exist.

    Raises:
      UserError: a key is unknown, is repeated, is the seed, or has no or equal values.
    """
    settings = {}
    for text in texts:
        key, _, listed = text.partition('=')
        values = listed.split(',')
        if not _is_value(config, key) or key == 'seed':
            hint = did_you_mean(key, flat(config)).strip() or 'configs/common.py lists all'
            raise UserError(f'--set {text}: the config does not have this value: {key!r}: {hint}')
        if key in settings:
            raise UserError(f'--set {key} comes twice: list all its values once')
        if '' in values or len(set(values)) < len(values):
            raise UserError(f'--set {text}: expected {key}=value,value,... with different values')
        settings[key] = values
    return settings


def _is_value(config: Mapping[str, Any], key: str) -> bool:
    found: Any = config
    for part in key.split('.'):
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return not isinstance(found, Mapping)


def make_runs(
    out: epath.Path,
    settings: Mapping[str, Sequence[str]],
    num_seeds: int,
    first_seed: int,
    folds: Sequence[str] = (),
) -> list[SweepRun]:
    """List the runs, all settings of one seed before those of the next.

    In that order a sweep that is cut short still compares all settings.

    Args:
      out: folder of the sweep.
      settings: values of each key that varies.
      num_seeds: runs of each setting.
      first_seed: the others follow it.
      folds: data folders of a cross-validation, of which each seed takes the next one.

    Raises:
      UserError: two settings would share a folder.
    """
    combined = [
        dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())
    ]
    names = {_setting_name(values): values for values in combined}
    if len(names) < len(combined):
        raise UserError('--set: two values differ only in signs that folder names cannot hold')
    return [
        SweepRun(
            out / name / f'seed-{seed}',
            (
                *(f'--config.{key}={value}' for key, value in values.items()),
                f'--config.seed={seed}',
                *(f'--config.data.dir={fold}' for fold in _fold_of(seed - first_seed, folds)),
            ),
        )
        for seed in range(first_seed, first_seed + num_seeds)
        for name, values in names.items()
    ]


def _fold_of(number: int, folds: Sequence[str]) -> list[str]:
    return [folds[number % len(folds)]] if folds else []


def find_folds(folder: str, num_seeds: int, split: str, settings: Mapping[str, Any]) -> list[str]:
    """List the data folders that `prepare.py folds` wrote.

    Raises:
      UserError: there are none, or they do not fit the seeds, the split or the settings.
    """
    path = epath.Path(folder)
    number = len(list(path.glob('fold-*'))) if path.is_dir() else 0
    if not number:
        raise UserError(f'--folds={folder} holds no folds: write them with launch/prepare.py folds')
    if split != 'val' or 'data.dir' in settings:
        raise UserError('--folds validates on its own data: leave out --split and --set data.dir')
    if num_seeds % number:
        raise UserError(
            f'--seeds={num_seeds} would leave clips out: take a multiple of the {number} folds'
        )
    return [f'{folder}/fold-{fold}' for fold in range(number)]


def _setting_name(values: Mapping[str, str]) -> str:
    # The name is the setting itself, so that a folder explains itself years later.
    name = '+'.join(f'{key}={_NOT_IN_NAMES.sub("_", value)}' for key, value in values.items())
    return name or _BASE


def check_runs(runs: Sequence[SweepRun], typed_flags: Sequence[str]) -> None:
    """Check the config of every run before the first one starts.

    A sweep can take days; a mistyped value of its last setting must not be found only then.

    Args:
      runs: to check.
      typed_flags: those of the config that all runs share.

    Raises:
      UserError: a value is refused; the message names the run.
    """
    for run in runs:
        try:
            parse_config(read_config([*typed_flags, *run.flags]))
        except (UserError, flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
            reason = ' '.join(str(error).split())
            raise UserError(f'{run.name} cannot start, and none was started: {reason}') from None


def run_all(
    runs: Sequence[SweepRun], config_flags: Sequence[str], split: str, say: Callable[[str], None]
) -> bool:
    """Train and evaluate all unfinished runs; a run that fails does not stop the others.

    Returns:
      True when all runs are done, False after SIGTERM or Ctrl-C: the current run has saved its
      state, and the same call resumes it.

    Raises:
      UserError: runs failed; the message names them.
    """
    failed = []
    child = Child()
    with signals.on_stop(child.stop):
        for number, run in enumerate(runs, 1):
            flags = [*config_flags, *run.flags]
            if _is_done(run, flags, split):
                say(f'[{number}/{len(runs)}] {run.name} is done')
                continue
            say(f'[{number}/{len(runs)}] {run.name}')
            commands = (
                ['train', *flags, f'--workdir={run.workdir}'],
                ['evaluate', f'--workdir={run.workdir}', f'--split={split}'],
            )
            # Lazy: evaluation starts only if training ended with 0.
            code = next(filter(None, map(child.run, commands)), 0)
            if child.asked or code in _STOPPED:
                return False
            if code == 0:
                # Written last, so that a run that was stopped during evaluation is evaluated again.
                write_json(run.workdir / _DONE, {'flags': flags, 'split': split})
            else:
                # A setting that diverges is a result of a sweep; the others still have to run.
                failed.append(run.name)
    if failed:
        raise UserError(
            f'{len(failed)} of {len(runs)} runs failed, see above: {", ".join(failed)}; '
            'mend it and run the same command again'
        )
    return True


def _is_done(run: SweepRun, flags: Sequence[str], split: str) -> bool:
    path = run.workdir / _DONE
    # Compared with the flags: the same folder name with another base config is another run.
    return path.exists() and read_json(path) == {'flags': list(flags), 'split': split}


def refuse_without_validation(runs: Sequence[SweepRun], split: str) -> None:
    """Refuse to score several settings on test before validation has chosen among them."""
    if split != HELD_OUT or len({run.workdir.parent for run in runs}) == 1:
        return
    lacking = [
        run.name for run in runs if not (run.workdir / 'eval' / 'val' / 'scores.json').exists()
    ]
    if lacking:
        raise UserError(
            f'--split=test would choose a setting on the test split: {len(lacking)} of {len(runs)} '
            f'runs have no scores on val ({lacking[0]}): run the same command without --split first'
        )


def write_scores(runs: Sequence[SweepRun], split: str, out: epath.Path) -> str:
    """Write OUT/scores.md, a table of all settings with the best on validation first."""
    folders = dict.fromkeys(run.workdir.parent for run in runs)
    systems = [load_system(str(folder), split) for folder in folders]
    validated = []
    if split == HELD_OUT and len(systems) > 1:
        validated = [load_system(str(folder), 'val') for folder in folders]
    # Sorted by validation even if test scores are shown: picking the best test score is tuning on
    # it.
    if split == 'val' or validated:
        by_val = [system.corpus('CIDEr').mean() for system in validated or systems]
        order = sorted(range(len(systems)), key=lambda i: -by_val[i])
        systems, validated = ([each[i] for i in order if each] for each in (systems, validated))
    table = scores_table(systems, validated, rounds=_ROUNDS, seed=0)
    text = table + made_with_line(systems)
    write_text(out / 'scores.md', text)
    return text
