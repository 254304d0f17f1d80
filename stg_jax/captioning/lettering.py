"""Captions as pictures, in letters of most alphabets."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from stg_jax.errors import UserError

_SHARE, SMALLEST = 1 / 16, 10  # letters, of the picture's height, and in pixels
_BAND = (0, 0, 0, 150)  # RGBA
_INK = (255, 255, 255, 255)


class Lettering:
    """Draws captions across pictures of one size.

    Raises:
      UserError: Matplotlib is not installed, which brings DejaVu Sans.
    """

    def __init__(self, height: int, width: int):
        self._size = height, width
        self._font = dejavu(max(SMALLEST, round(height * _SHARE)))

    def write(self, picture: np.ndarray, text: str) -> None:
        """Write text (untrusted) on a dark band at the foot of `picture` (h, w, 3) uint8 RGB."""
        band = self._band(text)
        if len(band):
            foot = picture[-len(band) :]
            share = band[..., 3:] / 255
            foot[:] = np.round(foot * (1 - share) + band[..., :3] * share)

    @functools.lru_cache(maxsize=2)  # noqa: B019 - a lettering lives as long as its video
    def _band(self, text: str) -> np.ndarray:
        """Return (b, w, 4) uint8 RGBA, b at most the height of the picture."""
        from PIL import Image, ImageDraw

        height, width = self._size
        lines = self._lines(' '.join(text.split()))
        leading = sum(self._font.getmetrics())
        margin = leading // 4
        size = width, (len(lines) * leading + 2 * margin) * bool(lines)
        band = Image.new('RGBA', size, _BAND)
        draw = ImageDraw.Draw(band)
        for number, line in enumerate(lines):
            place = width / 2, margin + number * leading
            draw.text(place, line, _INK, self._font, anchor='ma')
        return np.asarray(band)[:height]

    def _lines(self, text: str) -> list[str]:
        """Break text between words, as late as the width allows."""
        lines: list[str] = []
        for word in text.split():
            longer = f'{lines[-1]} {word}' if lines else word
            if lines and self._font.getlength(longer) < 0.96 * self._size[1]:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines


def dejavu(pixels: int) -> Any:
    """Return the font that Matplotlib brings, so high.

    Raises:
      UserError: Matplotlib is not installed.
    """
    try:
        import matplotlib
        from PIL import ImageFont
    except ImportError:
        raise UserError(
            "writing on videos needs matplotlib's font: pip install -e '.[plot]'"
        ) from None
    font = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    return ImageFont.truetype(font, pixels)
