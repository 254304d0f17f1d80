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
from stg_jax.visualize.page_data import ReportEntry, lit_objects, strongest

SUFFIXES = ('.png', '.svg', '.pdf')
# Frames drawn of a clip. They are consecutive, because links in time join neighbours only.
_MOST_FRAMES = 5
# Share of the links that is drawn, the strongest: all of them would hide the picture.
_SHARE = 0.3
_TIME, _SPACE, _BOX = '#d0021b', '#1257d0', '#ffd24d'
# Width of a frame in inches; distance of two frames, in frames.
_WIDTH, _PITCH = 2.1, 1.15
# Inches: height of a line of text, width of a letter of the title.
_LINE, _LETTER = 0.19, 0.075
# Letters of the words at an object.
_LONGEST = 40
_KEY = 'red: alike in time, blue: overlap in space, yellow: speaks for the word'

Corners = Callable[[int, int], np.ndarray]  # (t, n) -> x1 y1 x2 y2 on the drawing


def write_figure(path: str | os.PathLike[str], entries: Sequence[ReportEntry]) -> None:
    """Draw one row of frames for each clip.

    Red arrows link objects in time, blue lines in space, and each word is written at the object
    that speaks for it most. For a long clip the frames around the most relevant one are drawn.

    Raises:
      UserError: the suffix is not in `SUFFIXES`, or Matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{path} must end in {", ".join(SUFFIXES)} to be a figure')
    width = _WIDTH * max(_columns(len(_drawn(each))) for each in entries)
    titles = [_title(each, width) for each in entries]
    heights = [_WIDTH * _ratio(each) for each in entries]
    total = sum(heights) + sum(map(_head, titles))
    figure = new_figure(width, total)
    figure.set_layout_engine('none')  # every position is computed here
    top = total
    for each, title, height in zip(entries, titles, heights, strict=True):
        top -= _head(title) + height
        wide = _WIDTH * _columns(len(_drawn(each))) / width
        axes = figure.add_axes((0, top / total, wide, height / total))
        _draw_clip(axes, each)
        axes.set_title(title, fontsize=9, loc='left', pad=5)
    save_figure(figure, path, dpi=150)


def _head(title: str) -> float:
    """Compute the height of a title in inches."""
    return _LINE * (title.count('\n') + 1.6)


def _columns(num_frames: int) -> float:
    """Compute the width of a row of frames with its gaps, in frames."""
    return _PITCH * (num_frames - 1) + 1


def _ratio(entry: ReportEntry) -> float:
    """Compute height / width of a frame."""
    height, width = from_jpeg(entry.frames[0]).shape[:2]
    return height / width


def _drawn(entry: ReportEntry) -> range:
    """Choose the frames to draw."""
    num_frames, relevance_LTN = len(entry.frames), entry.explanation.relevance_LTN
    drawn = min(num_frames, _MOST_FRAMES)
    if relevance_LTN is None or not len(relevance_LTN):
        return range(drawn)
    # Centred on the single most relevant object of any word, which is what readers look for.
    best = int(relevance_LTN.max((0, 2)).argmax())
    first = min(max(best - drawn // 2, 0), num_frames - drawn)
    return range(first, first + drawn)


def _draw_clip(axes: Any, entry: ReportEntry) -> None:
    """Draw the frames side by side, in units of a frame's width, y downwards."""
    ratio, drawn = _ratio(entry), _drawn(entry)
    for t in drawn:
        left = _PITCH * (t - drawn.start)
        axes.imshow(from_jpeg(entry.frames[t]), extent=(left, left + 1, ratio, 0), aspect='auto')

    def corners(t: int, n: int) -> np.ndarray:
        box_4 = entry.explanation.box_TN4[t, n] * (1, ratio, 1, ratio)
        return box_4 + (_PITCH * (t - drawn.start), 0) * 2

    words_at, _ = _place_words(entry, drawn)
    _draw_boxes(axes, entry, drawn, corners, words_at)
    _draw_links(axes, entry, drawn, corners)
    _draw_words(axes, words_at, corners)
    axes.set_xlim(0, _columns(len(drawn)))
    axes.set_ylim(ratio, 0)
    axes.set_axis_off()


def _place_words(
    entry: ReportEntry, drawn: range
) -> tuple[dict[tuple[int, int], list[str]], list[str]]:
    """Assign each word to its most relevant drawn object.

    Returns:
      The words at each object (t, n), and the words whose objects are in frames not drawn.
    """
    words_at: dict[tuple[int, int], list[str]] = {}
    elsewhere = []
    rows = lit_objects(entry.explanation.relevance_LTN)
    for word, row in zip(entry.explanation.words, rows, strict=False):
        inside = [(t, n) for t, n, _ in row if t in drawn]
        if inside:
            words_at.setdefault(inside[0], []).append(word)
        elif row:
            elsewhere.append(word)
    return words_at, elsewhere


def _draw_boxes(
    axes: Any, entry: ReportEntry, drawn: range, corners: Corners, words_at: dict
) -> None:
    """Draw the boxes of objects with words in yellow, others thin and white."""
    # Two strokes each, a wider dark one below: visible on any picture.
    for t, n in np.argwhere(entry.explanation.object_mask_TN):
        if t in drawn:
            is_labelled = (t, n) in words_at
            looks = (
                (('black', 3.6), (_BOX, 2.2)) if is_labelled else (('black', 1.6), ('white', 0.7))
            )
            for colour, width in looks:
                _draw_box(axes, corners(t, n), edgecolor=colour, linewidth=width)


def _draw_box(axes: Any, corners: np.ndarray, **look: Any) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = corners
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **look))


def _draw_links(axes: Any, entry: ReportEntry, drawn: range, corners: Corners) -> None:
    from matplotlib.patheffects import withStroke

    links = entry.explanation.links
    if links is None:
        return
    # A white casing keeps lines apart where they cross.
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


def _draw_words(axes: Any, words_at: dict[tuple[int, int], list[str]], corners: Corners) -> None:
    """Write the words above their boxes, but inside the frame; each word once."""
    label = {'facecolor': _BOX, 'edgecolor': 'none', 'pad': 1.5}
    for place, words in words_at.items():
        x1, y1, x2, _ = corners(*place)
        # Labels grow towards the centre of their frame, so that none leaves it.
        is_right = x1 % _PITCH > 0.5
        side = {'ha': 'right' if is_right else 'left', 'va': 'bottom' if y1 > 0.1 else 'top'}
        said = _plain(' '.join(dict.fromkeys(words))[:_LONGEST])
        axes.text(x2 if is_right else x1, y1, said, fontsize=8, bbox=label, **side)


def _title(entry: ReportEntry, width: float) -> str:
    """Compose the title: name, caption, the key to the colours, words in frames not drawn."""
    caption = (entry.captions[0][0] if entry.captions else '') or '(no words)'
    lines = [f'{entry.name}: {caption}']
    if entry.explanation.teacher:
        _, elsewhere = _place_words(entry, _drawn(entry))
        unseen = f'; in other frames: {" ".join(dict.fromkeys(elsewhere))}' if elsewhere else ''
        lines.append(f'{_KEY} (teacher: {entry.explanation.teacher} branch){unseen}')
    # Matplotlib does not wrap text; widths of letters are estimated, not measured.
    letters = max(20, int(width / _LETTER))
    return _plain('\n'.join(textwrap.fill(' '.join(line.split()), letters) for line in lines))


def _plain(text: str) -> str:
    """Escape dollar signs: Matplotlib would typeset what is between two of them as a formula."""
    return text.replace('$', r'\$')
