"""How a command starts and ends: exit code 0, 2 for a user error, 75 to be restarted."""

import errno
import io
import math
import os
import select
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

from stg_jax.cli import config_flag, program, signals
from stg_jax.cli.help import help_text
from stg_jax.errors import UserError, did_you_mean

USER_ERROR = 2
INTERRUPTED = 130
RESTART = 75  # EX_TEMPFAIL: the run saved its state because it was asked to stop
_BROKEN_PIPE = 141  # what a shell reports of a process that SIGPIPE ended

# Advice for system errors that users can resolve. Some libraries keep only the text of the error.
_ADVICE = {
    errno.ENOSPC: 'make room and run the same command again',
    errno.EDQUOT: 'make room and run the same command again',
    errno.EROFS: 'name a folder that can be written',
    errno.EACCES: 'check the permissions, or name another path',
    errno.EPERM: 'check the permissions, or name another path',
    errno.ENAMETOOLONG: 'use a shorter name',
}


def run(main: Callable[[list[str]], int | None], defaults: Sequence[str] = ()) -> None:
    """Parse the command line, call `main` with the positional arguments, and exit.

    A `UserError`, an unknown flag, an unknown config key or a system error such as a full disk ends
    with one sentence on standard error and exit code 2.

    Args:
      main: takes the positional arguments and returns the exit code, None for 0.
      defaults: flags that are parsed before those that the user typed.
    """
    signals.resend_lost_signals()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be UTF-8; standard error escapes them by default.
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        arguments = _parse(main, [sys.argv[0], *defaults, *sys.argv[1:]])
        code = 0 if arguments is None else main(arguments) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        code = _BROKEN_PIPE
    except (Exception, KeyboardInterrupt) as error:
        code = report_error(error)
        if code is None:
            raise
    sys.exit(code)


def report_error(error: BaseException) -> int | None:
    """Print the one sentence that a user sees, and return the exit code that goes with it.

    Returns:
      None, and prints nothing, if the error is a bug: its traceback is needed.
    """
    if isinstance(error, KeyboardInterrupt):
        warn('interrupted')
        return INTERRUPTED
    sentence = str(error) if isinstance(error, UserError) else system_error(error)
    if sentence is None:
        return None
    warn(sentence)
    return USER_ERROR


def warn(sentence: str) -> None:
    """Print a sentence on standard error, preceded by the name of the program."""
    print(f'{program.name()}: {program.spelled(sentence)}', file=sys.stderr)


def system_error(error: BaseException) -> str | None:
    """Describe an error of the file system or of memory in one sentence; None for all others."""
    if isinstance(error, MemoryError):
        detail = f' ({_one_line(error)})' if str(error) else ''
        return f'memory ran out{detail}: use smaller batches or fewer workers'
    # With a file name the error concerns the user's files; without one it may be a bug.
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        advice = _ADVICE.get(error.errno or 0, 'check the path')
        return f'{os.fsdecode(error.filename)}: {error.strerror}: {advice}'
    # TensorStore and TensorFlow raise types of their own around the message of the system.
    for number, advice in _ADVICE.items():
        if os.strerror(number) in str(error):
            return f'{_one_line(error)}: {advice}'
    return None


def required(flag: flags.FlagHolder) -> Any:
    """Return the value of a flag that the command cannot do without."""
    if flag.value is None:
        raise UserError(f'--{flag.name} is missing (see --help)')
    return flag.value


def no_arguments(args: list[str]) -> None:
    """Refuse positional arguments, which are mostly mistyped flags."""
    if args:
        raise UserError(f'unexpected {" ".join(args)!r}: flags start with -- (see --help)')


def _parse(main: Callable, argv: list[str]) -> list[str] | None:
    """Return the positional arguments, or None after printing the help."""
    # absl's own help lists the flags of all libraries and exits with 1.
    if {'-h', '--help', '-help'} & set(argv[1:]):
        print(help_text(main.__module__))
        return None
    logging.set_verbosity(logging.WARNING)  # libraries below us are chatty at INFO
    try:
        arguments = flags.FLAGS(config_flag.with_paths(argv))[1:]
    except flags.UnrecognizedFlagError as error:
        hint = did_you_mean(f'--{error.flagname}', [f'--{name}' for name in flags.FLAGS])
        raise UserError(f'there is no flag --{error.flagname}: {hint}see --help') from None
    except flags.Error as error:
        raise UserError(f'{_one_line(error)} (see --help)') from None
    # ml_collections raises these for an unknown --config.key.
    except (AttributeError, KeyError) as error:
        raise config_flag.unknown_key(argv) or UserError(
            f'the config does not have this key: {_one_line(error)}'
        ) from None
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


def _stdout_is_closed() -> bool:
    """Find out whether the reader of standard output has gone, as with `--help | head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    closed = bool(poll.poll(0))
    if closed:
        # The interpreter flushes once more at exit, and would print what fails there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return closed


def _one_line(error: BaseException) -> str:
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]  # ml_collections wraps a KeyError, whose text would be quoted
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return ' '.join(text.split())
