"""Matplotlib figures, for those who installed it, that appear whole or not at all."""

import os
from pathlib import Path
from typing import Any

from stg_jax.errors import UserError
from stg_jax.files import write_file


def figure_class() -> type:
    """Return `matplotlib.figure.Figure`; also a way to ask early whether there will be figures.

    Raises:
      UserError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("figures need matplotlib: pip install -e '.[plot]'") from None
    return Figure


def new_figure(width: float, height: float) -> Any:
    """Return an empty `matplotlib.figure.Figure` of a size in inches.

    Raises:
      UserError: Matplotlib is not installed.
    """
    return figure_class()((width, height), layout='constrained')


def save_figure(figure: Any, path: str | os.PathLike[str], *, dpi: int) -> None:
    """Write a figure in the format that the suffix of `path` names."""
    with write_file(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:].lower(), dpi=dpi)
