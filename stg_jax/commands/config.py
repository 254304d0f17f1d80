"""Print every value of a config, as the flag that overrides it, with what it means.

    stg config
    stg config msvd
    stg config ablations:spatial

The names are those of `--config`. A value that differs from the default is marked with *.
"""

import re

from stg_jax import configs
from stg_jax.cli import app
from stg_jax.config import flat
from stg_jax.errors import UserError

# A line of configs/common.py: a value, and the comment that explains it.
_LINE = re.compile(r'^    (\w+\.\w+) = .*?  # (.*)$', re.MULTILINE)
FIRST_WORDS = tuple(configs.names())


def run() -> None:
    """Run the command line of this process."""
    app.run(main)


def main(args: list[str]) -> None:
    """Print the config that the command line names."""
    if len(args) > 1:
        raise UserError('name one config (see --help)')
    defaults = flat(configs.get_config().to_dict())
    meanings = dict(_LINE.findall(configs.path_of('common').read_text(encoding='utf-8')))
    for key, value in flat(configs.get_config(*args).to_dict()).items():
        mark = ' ' if value == defaults[key] else '*'
        text = f'{mark} --config.{key}={value}'
        print(f'{text:<46}  {meanings[key]}' if key in meanings else text)
