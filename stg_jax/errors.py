"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """Report a mistake of the user in one sentence: what is wrong, where, what to do.

    `stg_jax.cli.app.run` prints the sentence without a traceback and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
