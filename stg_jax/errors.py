"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """Report a mistake of the user in one sentence: what is wrong, where, what to do.

    `stg_jax.cli.run` prints the sentence without a traceback and exits with code 2.
    """
