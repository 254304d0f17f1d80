"""Whether a file can be written, asked before the minutes of work that it is meant to hold."""

import os

from etils import epath

from stg_jax.errors import UserError


def check_destination(path: str | os.PathLike[str]) -> None:
    """Write and remove an empty file beside `path`, as its writer will do.

    Raises:
      UserError: that fails, or there is a folder of this name.
    """
    path = epath.Path(path)
    probe = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        if path.is_dir():
            raise UserError(f'{path} is a folder: name a file in it')
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f'{path} cannot be written ({error.strerror or error}): name a file elsewhere'
        ) from None
