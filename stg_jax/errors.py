"""The exception for errors that a user can resolve, and the parts of its sentence."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A usage error, in one sentence: what is wrong, where, and what to do.

    `stg_jax.cli.app.run` prints the sentence without a traceback and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the name of its type if it has no message."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Write 'did you mean X? ' of the known name that is spelled most alike; '' if none is."""
    alike = difflib.get_close_matches(name, list(known), n=1)
    return f'did you mean {alike[0]}? ' if alike else ''
