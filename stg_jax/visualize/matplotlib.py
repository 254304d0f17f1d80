"""Matplotlib, an optional package: figures that appear whole or not at all, and its font."""

import functools
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from stg_jax.errors import UserError
from stg_jax.files import write_file


def import_matplotlib() -> ModuleType:
    """Import Matplotlib; commands call this before hours of work that end in a figure.

    Raises:
      UserError: Matplotlib is not installed.
    """
    try:
        import matplotlib.figure
    except ImportError:
        raise UserError(
            "figures, and captions burned into videos, need matplotlib: pip install -e '.[plot]'"
        ) from None
    return matplotlib


def new_figure(width: float, height: float) -> Any:
    """Create an empty `matplotlib.figure.Figure`; its size is in inches."""
    # Not pyplot: it would pick a window system and keep every figure alive.
    return import_matplotlib().figure.Figure((width, height), layout='constrained')


def save_figure(figure: Any, path: str | os.PathLike[str], *, dpi: int) -> None:
    """Write a figure in the format named by the suffix of `path`."""
    # The temporary name has no suffix that Matplotlib could choose a format by.
    with write_file(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:].lower(), dpi=dpi)


def font_file(text: str = '') -> Path:
    """Find a font that has every character of a text.

    DejaVu Sans where it will do: Matplotlib ships it, so that it is there on every machine. It has
    no Chinese, Japanese, Korean or Indic characters; for these an installed font is looked for.

    Raises:
      UserError: no font has them all.
    """
    dejavu = Path(import_matplotlib().get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    wanted = {ord(character) for character in text if not character.isspace()}
    if _has_all(dejavu, wanted):
        return dejavu
    # Imported late: it lists the fonts of the machine, which takes seconds the first time.
    from matplotlib import font_manager

    for path in sorted({Path(font.fname) for font in font_manager.fontManager.ttflist}):
        # Last Resort has every character, as a box that names its script.
        if 'LastResort' not in path.name and _has_all(path, wanted):
            return path
    missing = ''.join(map(chr, sorted(wanted)))
    raise UserError(
        f'no installed font can write {missing!r}: install one that has these characters, such as '
        'Noto Sans CJK (package fonts-noto-cjk)'
    )


@functools.lru_cache(maxsize=1024)
def _characters(path: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (OSError, RuntimeError):  # bitmap fonts, and files that are gone
        return frozenset()


def _has_all(path: Path, wanted: set[int]) -> bool:
    return wanted <= _characters(path)
