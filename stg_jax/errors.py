"""The exception for errors that a user can resolve."""


class UserError(Exception):
    """A usage error, in one sentence: what is wrong, where, and what to do.

    `stg_jax.cli.app.run` prints the sentence without a traceback and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the name of its type if it has no message."""
    return next(iter(str(error).splitlines()), type(error).__name__)
