"""Draw a contact sheet: the sampled frames of clips with their object boxes, one row per clip."""

import json
import os
from collections.abc import Sequence

import cv2
import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.data.frame_sampling import sample_index
from stg_jax.files import write_file

NAME = 'contact_sheet.png'
MOST_FRAMES = 10  # of a row
_SIDE = 120  # pixels, the height of a frame
_WIDEST = 16 / 9  # aspect ratio; wider frames are scaled to this width
_GAP, _FOOTER, _WHITE = 4, 22, (255, 255, 255)
_TEXT = 0.4  # of OpenCV's letters, which are 22 pixels high
_INK = (30, 30, 30)
# RGB, by rank of the object; reused after the last.
_COLOURS = (
    *((230, 25, 75), (0, 130, 200), (245, 130, 48), (60, 160, 60)),
    *((145, 30, 180), (128, 96, 0), (0, 128, 128), (240, 50, 230)),
)


def draw_row(frames: np.ndarray, clip: Clip, title: str, *, side: int = _SIDE) -> np.ndarray:
    """Draw at most `MOST_FRAMES` frames of a clip side by side, above a line of text.

    Boxes are drawn in one colour per rank, with their scores unless these are 1.

    Args:
      frames: (T, h, w, 3) uint8 RGB, the frames from which the features were extracted.
      clip: with the boxes to draw.
      title: any text; characters that OpenCV cannot draw are escaped.
      side: height of a frame in pixels.

    Returns:
      (H, W, 3) uint8 RGB.
    """
    # A clip of a single frame is repeated to T frames; each is drawn once.
    shown = np.unique(sample_index(len(frames), min(len(frames), MOST_FRAMES)))
    pictures = [_draw_frame(frames[t], clip, t, side) for t in shown]
    picture = np.concatenate(pictures, axis=1)
    footer = np.full((_FOOTER, picture.shape[1], 3), 255, np.uint8)
    _write(footer, json.dumps(title)[1:-1], (_GAP, _FOOTER - 8), _INK)
    return np.concatenate([picture, footer])


def write_sheet(path: str | os.PathLike[str], rows: Sequence[np.ndarray]) -> None:
    """Write rows (H, W, 3) uint8 RGB of any widths below each other, as a PNG."""
    width = max(row.shape[1] for row in rows)
    padded = [
        cv2.copyMakeBorder(row, 0, 0, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=_WHITE)
        for row in rows
    ]
    # PNG, not JPEG: thin lines and small letters stay sharp. OpenCV expects BGR.
    _, png = cv2.imencode('.png', np.concatenate(padded)[..., ::-1])
    with write_file(path) as temporary:
        temporary.write_bytes(png.tobytes())


def _draw_frame(frame: np.ndarray, clip: Clip, t: int, side: int) -> np.ndarray:
    """Scale a frame and draw its boxes, with a white gap to the right."""
    height, width = frame.shape[:2]
    scale = min(side / height, side * _WIDEST / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # INTER_AREA averages the pixels that it merges; the others alias when they shrink.
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(np.ascontiguousarray(frame), size, interpolation=way)
    # The best object is drawn last, on top of the others.
    for rank in np.flatnonzero(clip.object_mask[t])[::-1].tolist():
        _draw_box(picture, clip.box[t, rank], clip.score[t, rank], _COLOURS[rank % len(_COLOURS)])
    below = side - picture.shape[0]
    return cv2.copyMakeBorder(picture, 0, below, 0, _GAP, cv2.BORDER_CONSTANT, value=_WHITE)


def _draw_box(picture: np.ndarray, box: np.ndarray, score: float, colour: Sequence[int]) -> None:
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = (box * [width, height, width, height]).astype(int).tolist()
    cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 1, cv2.LINE_AA)
    if score < 1:
        _write(picture, f'{score:.2f}'.lstrip('0'), (x1 + 2, max(y1 - 3, 10)), colour)


def _write(picture: np.ndarray, text: str, place: tuple[int, int], colour: Sequence[int]) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, _TEXT, colour, 1, cv2.LINE_AA)
