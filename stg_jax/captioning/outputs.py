"""What can be told of an output before the work that would fill it begins."""

import os
from collections.abc import Sequence
from pathlib import Path

from stg_jax.errors import UserError


def check_output(flag: str, name: str, suffixes: Sequence[str]) -> None:
    """Refuse a file that could not be written at the end, or that nobody would open.

    Args:
      flag: that names the file, for the message.
      name: of the file; folders that do not exist will be made.
      suffixes: one of which it must have.

    Raises:
      UserError: see above.
    """
    path = Path(name)
    if path.suffix.lower() not in suffixes:
        raise UserError(f'{flag} {name} must end in {", ".join(suffixes)}')
    if path.is_dir():
        raise UserError(f'{flag} {name} is a folder: name a file')
    if '://' in name:
        return  # what a bucket allows shows itself when it is written
    folder = next(each for each in path.absolute().parents if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f'{flag} {name} cannot be written, as {folder} is no folder to write in')
