"""Lines of text files that people have edited, exported and sent around."""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from stg_jax.errors import UserError

# Keeps the letters of files in which some lines are UTF-8 and others are Latin-1.
LATIN1 = 'stg_jax.latin1'
codecs.register_error(
    LATIN1, lambda error: (error.object[error.start : error.end].decode('latin-1'), error.end)
)


def numbered_lines(
    path: str | os.PathLike[str], *, errors: str = 'strict'
) -> Iterator[tuple[str, str]]:
    """Yield ('FILE line N', line) of every line of a UTF-8 file that is not blank.

    Raises:
      UserError: the file is not UTF-8, and `errors` is 'strict'.
    """
    try:
        # Not str.splitlines: it would also cut at separators inside of a caption.
        with Path(path).open(encoding='utf-8-sig', errors=errors) as lines:
            for count, line in enumerate(lines, 1):
                if line.strip():
                    yield f'{path} line {count}', line.rstrip('\n')
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is not UTF-8 text ({error}): save it as UTF-8') from None
