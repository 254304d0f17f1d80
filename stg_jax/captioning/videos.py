"""Which videos a command line means."""

from collections.abc import Iterable
from pathlib import Path

from stg_jax.data.ids import VIDEO_SUFFIXES
from stg_jax.errors import UserError


def list_videos(names: Iterable[str]) -> list[Path]:
    """Return the files of a command line; a folder stands for the videos below it, by name.

    Raises:
      UserError: a folder holds no video.
    """
    paths: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        paths |= dict.fromkeys(_below(path) if path.is_dir() else [path])
    return list(paths)


def _below(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob('*')) if path.suffix.lower() in VIDEO_SUFFIXES]
    found = [path for path in found if path.is_file() and not path.name.startswith('.')]
    if not found:
        raise UserError(f'{folder} holds no video file ({" ".join(sorted(VIDEO_SUFFIXES))})')
    return found
