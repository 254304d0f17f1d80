"""Matplotlib, an optional package: figures that appear whole or not at all, and its font."""

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


def font_file() -> Path:
    """Find DejaVu Sans, which Matplotlib ships: the one font that is there on every machine."""
    return Path(import_matplotlib().get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
