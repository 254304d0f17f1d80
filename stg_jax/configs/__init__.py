"""The configs that come with the project: `--config msvd`, or `get_config('msvd')` in Python.

A checkout has them in configs/, at its top. The wheel has the same files beside this one.
"""

import importlib
from pathlib import Path
from typing import Any

from stg_jax.errors import UserError, did_you_mean

_HERE = Path(__file__).parent
_FOLDER = _HERE if (_HERE / 'common.py').is_file() else _HERE.parents[1] / 'configs'
# `from stg_jax.configs import common` finds the file in both places.
__path__ = [str(_FOLDER)]


def names() -> list[str]:
    """List the bundled configs."""
    return sorted(path.stem for path in _FOLDER.glob('*.py') if path.stem != '__init__')


def path_of(name: str) -> Path:
    """Find the file of a bundled config.

    Raises:
      UserError: there is no config of this name.
    """
    if name not in names():
        hint = did_you_mean(name, names())
        raise UserError(
            f'there is no config {name}: {hint}name a file, or one of {", ".join(names())}'
        )
    return _FOLDER / f'{name}.py'


def get_config(name: str = 'common') -> Any:
    """Build a bundled config, e.g. 'msvd', or 'ablations:spatial' with an argument: a ConfigDict.

    Raises:
      UserError: there is no config of this name.
    """
    name, _, argument = name.partition(':')
    path_of(name)
    module = importlib.import_module(f'{__name__}.{name}')
    return module.get_config(argument) if argument else module.get_config()
