"""Draw the pictures of the documentation from the toy world.

python docs/make_pictures.py
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np

from stg_jax.data import toy
from stg_jax.extract.pixels import PixelExtractor
from stg_jax.extract.video import read_frames
from stg_jax.prepare.contact_sheet import draw_row

_FOLDER = Path(__file__).parent / 'images'
_CLIPS, _FRAMES, _OBJECTS, _SIDE = (0, 2, 5), 6, 6, 224
_QUALITY = (cv2.IMWRITE_JPEG_QUALITY, 80)


def main() -> None:
    """Write images/toy.jpg: sampled frames of toy clips with the boxes found in their pixels."""
    with tempfile.TemporaryDirectory() as folder:
        films = list(toy.render(Path(folder), seed=0, num_clips={'train': max(_CLIPS) + 1}))
        rows = [_row(films[i]) for i in _CLIPS]
    _FOLDER.mkdir(exist_ok=True)
    cv2.imwrite(str(_FOLDER / 'toy.jpg'), np.concatenate(rows)[..., ::-1], _QUALITY)


def _row(film: toy.ToyClip) -> np.ndarray:
    clip = PixelExtractor(_FRAMES, _OBJECTS).extract(film.path)
    return draw_row(read_frames(film.path, _FRAMES).frames, clip, film.captions[0], side=_SIDE)


if __name__ == '__main__':
    main()
