"""The flag --config with its overrides --config.GROUP.KEY=VALUE: read it, and explain mistakes."""

import difflib
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from stg_jax import configs
from stg_jax.config import flat
from stg_jax.errors import UserError, first_line


def define() -> flags.FlagHolder:
    """Define the flag --config of a command."""
    return config_flags.DEFINE_config_file(
        'config', None, 'Name of a config that comes with the project, or a file.'
    )


# The flag belongs to the command that calls `define`, whose help lists it.
flags.disclaim_key_flags()


def with_paths(argv: Sequence[str]) -> list[str]:
    """Replace the names of bundled configs in a command line by the paths of their files.

    Raises:
      UserError: --config names neither a file nor a bundled config.
    """
    found, rest = [], iter(argv)
    for arg in rest:
        name, equals, value = arg.partition('=')
        if name in ('-config', '--config'):
            value = value if equals else next(rest, None)
            arg = name if value is None else f'{name}={_path(value)}'
        found.append(arg)
        if arg == '--':
            break
    return [*found, *rest]


def _path(value: str) -> str:
    """Find the file of --config: a path as it is, or the name or the path of a bundled config."""
    name, colon, argument = value.partition(':')
    path = Path(name)
    # So that command lines of the documentation also work where there is no checkout.
    is_bundled = path.parent == Path('configs') and path.stem in configs.names()
    if path.is_file() or (not is_bundled and ('/' in name or path.suffix)):
        return value
    return f'{configs.path_of(path.stem)}{colon}{argument}'


def required_config(flag: flags.FlagHolder) -> Any:
    """Return the config of a config file flag, whose file is only read at its first use."""
    config = flag.value
    if config is None:
        raise UserError(f'--{flag.name} is missing (see --help)')
    try:
        config.keys()
    except OSError as error:
        path = config_flags.get_config_filename(flags.FLAGS[flag.name])
        if not Path(path).is_file():
            raise UserError(
                f'there is no config file {path}: those that come with the project are '
                f'{", ".join(configs.names())}'
            ) from None
        raise UserError(f'the config file {path} could not be read: {first_line(error)}') from None
    return config


def default_config(name: str) -> list[str]:
    """Return the flag of a default config for `app.run`, nothing if the user names one.

    As the default of the flag itself, a mistyped override would raise when the flag is defined,
    before `app.run` can report it.
    """
    named = any(_name(pair[0]) == 'config' for pair in _pairs(sys.argv[1:]))
    return [] if named else [f'--config={name}']


def typed_flags(argv: Sequence[str]) -> list[str]:
    """Return the flags of the config as they were typed, for another command to read again."""
    return [arg for pair in _pairs(argv) for arg in pair]


def read_config(args: Sequence[str]) -> Any:
    """Read --config and its overrides as a command does, without touching its own flags."""
    # Flags of its own: those of the process are parsed once and keep their values.
    values, argv = flags.FlagValues(), with_paths(['train.py', *args])
    holder = config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
    values(argv)
    return holder.value


def unknown_key(argv: Sequence[str]) -> UserError | None:
    """Name the first unknown --config.KEY of a command line, and the key that may be meant."""
    pairs = list(_pairs(argv))
    # Without overrides the file can be read, although the command line as a whole cannot.
    plain = [arg for pair in pairs for arg in pair if _name(pair[0]) == 'config']
    try:
        keys = list(flat(read_config(plain).to_dict()))
    except (AttributeError, KeyError):  # it is the config file that raises
        return None
    for name in (_name(pair[0]).removeprefix('config.') for pair in pairs):
        if name in ('config', *keys):
            continue
        hint = _closest(name, keys)
        return UserError(
            f'the config has no key {name}: '
            + (f'did you mean --config.{hint}?' if hint else 'configs/common.py lists all keys')
        )
    return None


def _closest(name: str, keys: Sequence[str]) -> str | None:
    """Find the key of the same last part, as in `lr` for `optim.lr`, or one spelt alike."""
    same_ending = [key for key in keys if key.split('.')[-1] == name.split('.')[-1]]
    groups = {key.partition('.')[0] for key in keys} - {name}
    alike = difflib.get_close_matches(name, [*keys, *groups], n=1)
    return next(iter(same_ending or alike), None)


def _pairs(argv: Sequence[str]) -> Iterator[list[str]]:
    """Yield each flag of the config with its value, which may be an argument of its own."""
    rest = iter(argv)
    for arg in rest:
        if arg.startswith('-') and (_name(arg) == 'config' or _name(arg).startswith('config.')):
            yield [arg] if '=' in arg else [arg, *itertools.islice(rest, 1)]


def _name(arg: str) -> str:
    return arg.lstrip('-').partition('=')[0]
