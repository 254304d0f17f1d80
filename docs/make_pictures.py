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

_FOLDER = Path(__file__).parent / 'images'
_CLIPS, _FRAMES, _ZOOM = (0, 2, 5), 6, 2
_BOX_COLOUR = (20, 20, 20)
_QUALITY = (cv2.IMWRITE_JPEG_QUALITY, 80)


def main() -> None:
    """Write images/toy.jpg: sampled frames of toy clips with the boxes found in their pixels."""
    with tempfile.TemporaryDirectory() as folder:
        films = list(toy.render(Path(folder), seed=0, num_clips={'train': max(_CLIPS) + 1}))
        rows = [row(films[i]) for i in _CLIPS]
    _FOLDER.mkdir(exist_ok=True)
    cv2.imwrite(str(_FOLDER / 'toy.jpg'), np.concatenate(rows)[..., ::-1], _QUALITY)


def row(film: toy.ToyClip) -> np.ndarray:
    """Return the frames of a clip side by side above its first caption (H, W, 3)."""
    clip = PixelExtractor(_FRAMES, 6).extract(film.path)
    frames = read_frames(film.path, _FRAMES).frames
    pictures = [
        with_boxes(frame, clip.box[t][clip.object_mask[t]]) for t, frame in enumerate(frames)
    ]
    picture = np.concatenate(pictures, axis=1)
    footer = np.full((30, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(
        footer,
        film.captions[0],
        (8, 20),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.5,
        (30, 30, 30),
        1,
        cv2.LINE_AA,
    )
    return np.concatenate([picture, footer])


def with_boxes(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return a frame, enlarged, with boxes (n, 4) drawn on it and a white gap to the right."""
    picture = cv2.resize(frame, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_CUBIC)
    height, width = picture.shape[:2]
    for x1, y1, x2, y2 in (box * [width, height, width, height]).astype(int).tolist():
        cv2.rectangle(picture, (x1, y1), (x2, y2), _BOX_COLOUR, 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(picture, 0, 0, 0, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))


if __name__ == '__main__':
    main()
