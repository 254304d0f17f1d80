"""How a command starts and how it ends: exit code 0, 2 for a user's mistake, 75 to be restarted."""

import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags, logging

from stg_jax.cli import signals
from stg_jax.errors import UserError

USER_ERROR = 2
INTERRUPTED = 130
RESTART = 75  # EX_TEMPFAIL: the run saved its state because it was asked to stop


def run(main: Callable[[list[str]], int | None]) -> None:
    """Parse the command line, call `main` with the positional arguments, and exit.

    A `UserError`, an unknown flag or an unknown config key ends with one sentence on standard
    error and exit code 2.
    """
    signals.send_again()
    try:
        sys.exit(main(_parse(sys.argv)) or 0)
    except (UserError, KeyboardInterrupt) as error:
        sys.exit(explain(error))


def explain(error: UserError | KeyboardInterrupt) -> int:
    """Print the one sentence that a user sees, and return the exit code that goes with it."""
    command = Path(sys.argv[0]).name
    if isinstance(error, UserError):
        print(f'{command}: {error}', file=sys.stderr)
        return USER_ERROR
    print(f'{command}: interrupted', file=sys.stderr)
    return INTERRUPTED


def required(flag: flags.FlagHolder) -> Any:
    """Return the value of a flag that the command cannot do without."""
    if flag.value is None:
        raise UserError(f'--{flag.name} is missing (see --help)')
    return flag.value


def required_config(flag: flags.FlagHolder) -> Any:
    """Return the config of a config file flag, whose file is only read at its first use."""
    config = required(flag)
    try:
        config.keys()
    except OSError as error:
        from ml_collections import config_flags

        path = config_flags.get_config_filename(flags.FLAGS[flag.name])
        if not Path(path).is_file():
            raise UserError(
                f'there is no config file {path}: those that come with the project are configs/*.py'
            ) from None
        raise UserError(f'the config file {path} could not be read: {_one_line(error)}') from None
    return config


def no_arguments(args: list[str]) -> None:
    """Refuse positional arguments, which are mostly mistyped flags."""
    if args:
        raise UserError(f'unexpected {" ".join(args)!r}: flags start with -- (see --help)')


def _parse(argv: list[str]) -> list[str]:
    """Return the positional arguments; print the help and exit when asked for it."""
    if {'-h', '--help', '-help'} & set(argv[1:]):
        print(_help())
        sys.exit(0)
    logging.set_verbosity(logging.WARNING)  # libraries below us are chatty at INFO
    try:
        arguments = flags.FLAGS(_as_defined(argv))[1:]
    except flags.Error as error:
        raise UserError(f'{_one_line(error)} (see --help)') from None
    except (AttributeError, KeyError) as error:  # so does ml_collections refuse a --config.key
        raise UserError(f'the config has no such key: {_one_line(error)}') from None
    # A value of another type, or a config file that Python refuses.
    except (TypeError, ValueError, SyntaxError, ImportError, NameError) as error:
        raise UserError(f'the config was refused: {_one_line(error)}') from None
    _check_finite()
    return arguments


def _check_finite() -> None:
    """Refuse NaN, which passes all bounds of absl, and Inf."""
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f'--{name} is {value}: it must be a number')


def _as_defined(argv: list[str]) -> list[str]:
    """Return a command line in which `--dry-run` and `--dry_run` are the name that is defined."""
    defined = {name.replace('-', '_'): name for name in flags.FLAGS}
    found, args = argv[:1], iter(argv[1:])
    for arg in args:
        if arg == '--':
            return [*found, arg, *args]
        dashes, name, equals, value = _split(arg)
        # Names with a dot, which are keys of a config, are never found here.
        name = defined.get(name.replace('-', '_'), name)
        no, positive = name[:2], name[2:].replace('-', '_')
        if name not in flags.FLAGS and no == 'no' and positive in defined:
            name = f'{no}{defined[positive]}'
        found.append(f'{dashes}{name}{equals}{value}')
        if dashes and not equals and name in flags.FLAGS and not flags.FLAGS[name].boolean:
            found += itertools.islice(args, 1)  # its value, however that begins
    return found


def _split(arg: str) -> tuple[str, str, str, str]:
    """Return the dashes, the name, the = and the value of a flag; all is value where it is none."""
    name, equals, value = arg.lstrip('-').partition('=')
    dashes = arg[: len(arg) - len(arg.lstrip('-'))]
    return (dashes, name, equals, value) if dashes else ('', '', '', arg)


def _one_line(error: Exception) -> str:
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]  # ml_collections wraps a KeyError, whose text would be quoted
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return ' '.join(text.split())


def _help() -> str:
    main = sys.modules['__main__']
    return f'{(main.__doc__ or "").strip()}\n\nFlags:{flags.FLAGS.main_module_help()}'
