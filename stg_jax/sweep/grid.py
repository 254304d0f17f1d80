"""The runs of a sweep: every combination of values, each with several seeds."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from stg_jax.errors import UserError

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
