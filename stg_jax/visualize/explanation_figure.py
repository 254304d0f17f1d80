"""The paper's picture of a clip: frames, objects, links in space and time, and the caption."""

import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stg_jax.errors import UserError
from stg_jax.visualize.jpeg import from_jpeg
from stg_jax.visualize.matplotlib import new_figure, save_figure
from stg_jax.visualize.page_data import Shown, lit_objects, strongest

SUFFIXES = ('.png', '.svg', '.pdf')
_MOST_FRAMES = 5  # of a clip, one behind the other: links in time join neighbours
_SHARE = 0.3  # of the links between drawn objects are drawn, the strongest
_TIME, _SPACE, _BOX = '#d0021b', '#1257d0', '#ffd24d'
_WIDTH, _PITCH = 2.1, 1.15  # inches of a frame; from one to the next, in frames
_LINE, _LETTER = 0.19, 0.075  # inches, of a line of text and of a letter of the title
_LONGEST = 40  # letters at an object
_KEY = 'red: alike in time, blue: overlap in space, yellow: speaks for the word'

Corners = Callable[[int, int], np.ndarray]


def write_figure(path: str | os.PathLike[str], shown: Sequence[Shown]) -> None:
    """Draw one row a clip: red arrows in time, blue lines in space, words at what speaks for them.

    Of a long clip the frames around the most relevant one are drawn.

    Raises:
      UserError: the suffix is none of `SUFFIXES`, or matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{path} must end in {", ".join(SUFFIXES)} to be a figure')
    width = _WIDTH * max(_columns(len(_drawn(each))) for each in shown)
    titles = [_title(each, width) for each in shown]
    heights = [_WIDTH * _ratio(each) for each in shown]
    total = sum(heights) + sum(map(_head, titles))
    figure = new_figure(width, total)
    figure.set_layout_engine('none')  # every place is known
    top = total
    for each, title, height in zip(shown, titles, heights, strict=True):
        top -= _head(title) + height
        wide = _WIDTH * _columns(len(_drawn(each))) / width
        axes = figure.add_axes((0, top / total, wide, height / total))
        _draw_clip(axes, each)
        axes.set_title(title, fontsize=9, loc='left', pad=5)
    save_figure(figure, path, dpi=150)


def _head(title: str) -> float:
    """Return the inches that a title takes."""
    return _LINE * (title.count('\n') + 1.6)


def _columns(num_frames: int) -> float:
    """Return the width of some frames with the gaps between them, in frames."""
    return _PITCH * (num_frames - 1) + 1


def _ratio(shown: Shown) -> float:
    height, width = from_jpeg(shown.frames[0]).shape[:2]
    return height / width


def _drawn(shown: Shown) -> range:
    """Return the frames to draw."""
    num_frames, relevance_LTN = len(shown.frames), shown.explanation.relevance_LTN
    drawn = min(num_frames, _MOST_FRAMES)
    if relevance_LTN is None or not len(relevance_LTN):
        return range(drawn)
    best = int(relevance_LTN.max((0, 2)).argmax())
    first = min(max(best - drawn // 2, 0), num_frames - drawn)
    return range(first, first + drawn)


def _draw_clip(axes: Any, shown: Shown) -> None:
    """Draw the frames side by side; x counts frames, y goes down, a frame is 1 wide."""
    ratio, drawn = _ratio(shown), _drawn(shown)
    for t in drawn:
        left = _PITCH * (t - drawn.start)
        axes.imshow(from_jpeg(shown.frames[t]), extent=(left, left + 1, ratio, 0), aspect='auto')

    def corners(t: int, n: int) -> np.ndarray:
        box_4 = shown.explanation.box_TN4[t, n] * (1, ratio, 1, ratio)
        return box_4 + (_PITCH * (t - drawn.start), 0) * 2

    at, _ = _places_of_words(shown, drawn)
    _draw_boxes(axes, shown, drawn, corners, at)
    _draw_links(axes, shown, drawn, corners)
    _draw_words(axes, at, corners)
    axes.set_xlim(0, _columns(len(drawn)))
    axes.set_ylim(ratio, 0)
    axes.set_axis_off()


def _places_of_words(
    shown: Shown, drawn: range
) -> tuple[dict[tuple[int, int], list[str]], list[str]]:
    """Return the words at each object that speaks for them most, and those of no drawn object."""
    at: dict[tuple[int, int], list[str]] = {}
    elsewhere = []
    rows = lit_objects(shown.explanation.relevance_LTN)
    for word, row in zip(shown.explanation.words, rows, strict=False):
        inside = [(t, n) for t, n, _ in row if t in drawn]
        if inside:
            at.setdefault(inside[0], []).append(word)
        elif row:
            elsewhere.append(word)
    return at, elsewhere


def _draw_boxes(axes: Any, shown: Shown, drawn: range, corners: Corners, at: dict) -> None:
    """Draw boxes of objects that words stand at in yellow, others thin."""
    for t, n in np.argwhere(shown.explanation.object_mask_TN):
        if t in drawn:
            is_labelled = (t, n) in at
            looks = (
                (('black', 3.6), (_BOX, 2.2)) if is_labelled else (('black', 1.6), ('white', 0.7))
            )
            for colour, width in looks:
                _draw_box(axes, corners(t, n), edgecolor=colour, linewidth=width)


def _draw_box(axes: Any, corners: np.ndarray, **look: Any) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = corners
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **look))


def _draw_links(axes: Any, shown: Shown, drawn: range, corners: Corners) -> None:
    from matplotlib.patheffects import withStroke

    links = shown.explanation.links
    if links is None:
        return
    casing = [withStroke(linewidth=3.2, foreground='white')]
    kinds = ((np.triu(links.iou_TNN), 0, '-', _SPACE), (links.cosine_TNN, 1, '-|>', _TIME))
    for strength_TNN, step, style, colour in kinds:
        inside = [
            row for row in strongest(strength_TNN) if row[0] in drawn and row[0] + step in drawn
        ]
        look = {'arrowstyle': style, 'color': colour, 'shrinkA': 0, 'shrinkB': 0}
        for t, i, j, _ in inside[: int(np.ceil(_SHARE * len(inside)))]:
            ends = [corners(u, n).reshape(2, 2).mean(0) for u, n in ((t, i), (t + step, j))]
            axes.annotate('', ends[1], ends[0], arrowprops=look | {'path_effects': casing})


def _draw_words(axes: Any, at: dict[tuple[int, int], list[str]], corners: Corners) -> None:
    """Write words above their boxes, each word once, inside the frame."""
    label = {'facecolor': _BOX, 'edgecolor': 'none', 'pad': 1.5}
    for place, words in at.items():
        x1, y1, x2, _ = corners(*place)
        is_right = x1 % _PITCH > 0.5
        side = {'ha': 'right' if is_right else 'left', 'va': 'bottom' if y1 > 0.1 else 'top'}
        said = _plain(' '.join(dict.fromkeys(words))[:_LONGEST])
        axes.text(x2 if is_right else x1, y1, said, fontsize=8, bbox=label, **side)


def _title(shown: Shown, width: float) -> str:
    """Return name and caption, what the colours say of whom, and words that could not be placed."""
    caption = (shown.captions[0][0] if shown.captions else '') or '(no words)'
    lines = [f'{shown.name}: {caption}']
    if shown.explanation.teacher:
        _, elsewhere = _places_of_words(shown, _drawn(shown))
        unseen = f'; in other frames: {" ".join(dict.fromkeys(elsewhere))}' if elsewhere else ''
        lines.append(f'{_KEY} (teacher: {shown.explanation.teacher} branch){unseen}')
    letters = max(20, int(width / _LETTER))
    return _plain('\n'.join(textwrap.fill(' '.join(line.split()), letters) for line in lines))


def _plain(text: str) -> str:
    """Keep a dollar sign from starting a formula."""
    return text.replace('$', r'\$')
