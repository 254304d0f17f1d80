"""The paper's picture of a clip: frames, objects, links in space and time, and the caption."""

import dataclasses
import math
import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stg_jax.errors import UserError
from stg_jax.visualize.jpeg import from_jpeg
from stg_jax.visualize.matplotlib import new_figure, save_figure
from stg_jax.visualize.page_data import LEAST, ReportEntry, lit_objects, strongest

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
_HEAT, _HEAT_KEY = '#00c2d1', 'tinted: cells that speak for words; each word is at its best cell'
_HOTTEST = 0.6  # opacity of the most relevant cell

Place = tuple[int, int]  # frame, object or cell
Corners = Callable[[int, int], np.ndarray]  # (t, n) -> x1 y1 x2 y2 on the drawing


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row of frames: the objects of the teacher, or the grid cells of the student.

    Attributes:
      entry: the clip.
      drawn: its frames that are drawn.
      is_grid: whether words are placed at cells.
      words_at: the words at each object or cell.
      title: lines above the row.
    """

    entry: ReportEntry
    drawn: range
    is_grid: bool
    words_at: dict[Place, list[str]]
    title: str

    @property
    def ratio(self) -> float:
        """Height / width of a frame."""
        height, width = from_jpeg(self.entry.frames[0]).shape[:2]
        return height / width

    @property
    def columns(self) -> float:
        """Width of the row with its gaps, in frames."""
        return _PITCH * (len(self.drawn) - 1) + 1

    @property
    def head(self) -> float:
        """Height of the title in inches."""
        return _LINE * (self.title.count('\n') + 1.6)


def write_figure(path: str | os.PathLike[str], entries: Sequence[ReportEntry]) -> None:
    """Draw a row of frames for each clip, and a second one if its student reads a grid.

    Red arrows link objects in time, blue lines in space, and each word is written at the object
    that speaks for it most. In the row of a grid, cells that speak for words are tinted. Of a long
    clip those frames are drawn in which most words are placed.

    Raises:
      UserError: the suffix is not in `SUFFIXES`, or Matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{path} must end in {", ".join(SUFFIXES)} to be a figure')
    drawn = max(min(len(each.frames), _MOST_FRAMES) for each in entries)
    width = _WIDTH * (_PITCH * (drawn - 1) + 1)
    rows = [row for entry in entries for row in _rows(entry, width)]
    heights = [_WIDTH * row.ratio for row in rows]
    total = sum(heights) + sum(row.head for row in rows)
    figure = new_figure(width, total)
    figure.set_layout_engine('none')  # every position is computed here
    top = total
    for row, height in zip(rows, heights, strict=True):
        top -= row.head + height
        wide = _WIDTH * row.columns / width
        axes = figure.add_axes((0, top / total, wide, height / total))
        _draw_row(axes, row)
        axes.set_title(row.title, fontsize=9, loc='left', pad=5)
    save_figure(figure, path, dpi=150)


def _rows(entry: ReportEntry, width: float) -> list[_Row]:
    """Compose the rows of a clip for a figure of this width in inches."""
    explanation = entry.explanation
    caption = (entry.captions[0][0] if entry.captions else '') or '(no words)'
    named = f'{entry.name}: {caption}'
    rows = []
    if explanation.teacher or explanation.relevance_LTG is None:
        drawn = _drawn(entry, explanation.relevance_LTN)
        words_at, elsewhere = _place_words(entry, explanation.relevance_LTN, drawn)
        key = f'{_KEY} (teacher: {explanation.teacher} branch){elsewhere}'
        lines = [named, key] if explanation.teacher else [named]
        rows.append(_Row(entry, drawn, False, words_at, _title(lines, width)))
    if explanation.relevance_LTG is not None:
        drawn = _drawn(entry, explanation.relevance_LTG)
        words_at, elsewhere = _place_words(entry, explanation.relevance_LTG, drawn)
        key = f'{_HEAT_KEY} (student: {explanation.student} branch){elsewhere}'
        lines = [key] if rows else [named, key]
        rows.append(_Row(entry, drawn, True, words_at, _title(lines, width)))
    return rows


def _drawn(entry: ReportEntry, relevance_LTM: np.ndarray | None) -> range:
    """Choose the frames to draw: those in which most words have their best object or cell."""
    num_frames = len(entry.frames)
    drawn = min(num_frames, _MOST_FRAMES)
    best = [row[0][0] for row in lit_objects(relevance_LTM) if row]
    if relevance_LTM is None or not best:
        return range(drawn)
    # Of equally good choices, the one around the most relevant object of any word.
    middle = int(relevance_LTM.max((0, 2)).argmax()) - drawn // 2

    def quality(first: int) -> tuple[int, int]:
        return sum(first <= t < first + drawn for t in best), -abs(first - middle)

    first = max(range(num_frames - drawn + 1), key=quality)
    return range(first, first + drawn)


def _draw_row(axes: Any, row: _Row) -> None:
    """Draw the frames side by side, in units of a frame's width, y downwards."""
    entry, ratio, drawn = row.entry, row.ratio, row.drawn
    for t in drawn:
        left = _PITCH * (t - drawn.start)
        axes.imshow(from_jpeg(entry.frames[t]), extent=(left, left + 1, ratio, 0), aspect='auto')
    box_TM4 = _cell_boxes(entry) if row.is_grid else entry.explanation.box_TN4

    def corners(t: int, n: int) -> np.ndarray:
        return box_TM4[t, n] * (1, ratio, 1, ratio) + (_PITCH * (t - drawn.start), 0) * 2

    if row.is_grid:
        _draw_heat(axes, row, corners)
    else:
        _draw_boxes(axes, entry, drawn, corners, row.words_at)
        _draw_links(axes, entry, drawn, corners)
    _draw_words(axes, row.words_at, corners, _HEAT if row.is_grid else _BOX)
    axes.set_xlim(0, row.columns)
    axes.set_ylim(ratio, 0)
    axes.set_axis_off()


def _cell_boxes(entry: ReportEntry) -> np.ndarray:
    """Compute x1 y1 x2 y2 of the cells of the grid, (T, G, 4)."""
    assert entry.explanation.relevance_LTG is not None  # rows of a grid have one
    _, num_frames, num_cells = entry.explanation.relevance_LTG.shape
    side = math.isqrt(num_cells)
    y_G, x_G = np.indices((side, side)).reshape(2, -1)
    box_G4 = np.stack([x_G, y_G, x_G + 1, y_G + 1], axis=-1) / side
    return np.broadcast_to(box_G4, (num_frames, num_cells, 4))


def _place_words(
    entry: ReportEntry, relevance_LTM: np.ndarray | None, drawn: range
) -> tuple[dict[Place, list[str]], str]:
    """Assign each word to the drawn object or cell that is most relevant for it.

    Returns:
      The words at each place, and a remark on the words whose places are in frames not drawn.
    """
    words_at: dict[Place, list[str]] = {}
    elsewhere = []
    for word, row in zip(entry.explanation.words, lit_objects(relevance_LTM), strict=False):
        inside = [(t, n) for t, n, _ in row if t in drawn]
        if inside:
            words_at.setdefault(inside[0], []).append(word)
        elif row:
            elsewhere.append(word)
    unseen = f'; in other frames: {" ".join(dict.fromkeys(elsewhere))}' if elsewhere else ''
    return words_at, unseen


def _draw_heat(axes: Any, row: _Row, corners: Corners) -> None:
    """Tint each cell by its relevance for the word that it speaks for most."""
    from matplotlib.patches import Rectangle

    relevance_LTG = row.entry.explanation.relevance_LTG
    assert relevance_LTG is not None
    heat_TG = relevance_LTG.max(0, initial=0)
    share_TG = heat_TG / max(heat_TG.max(initial=0), np.finfo(np.float32).tiny)
    for t, n in np.argwhere(share_TG > LEAST):
        if t in row.drawn:
            x1, y1, x2, y2 = corners(t, n)
            look = {'facecolor': _HEAT, 'alpha': _HOTTEST * share_TG[t, n] ** 0.5, 'linewidth': 0}
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))


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


def _draw_words(axes: Any, words_at: dict[Place, list[str]], corners: Corners, colour: str) -> None:
    """Write the words above their boxes, but inside the frame; each word once."""
    label = {'facecolor': colour, 'edgecolor': 'none', 'pad': 1.5}
    for place, words in words_at.items():
        x1, y1, x2, _ = corners(*place)
        # Labels grow towards the centre of their frame, so that none leaves it.
        is_right = x1 % _PITCH > 0.5
        side = {'ha': 'right' if is_right else 'left', 'va': 'bottom' if y1 > 0.1 else 'top'}
        said = _plain(' '.join(dict.fromkeys(words))[:_LONGEST])
        axes.text(x2 if is_right else x1, y1, said, fontsize=8, bbox=label, **side)


def _title(lines: Sequence[str], width: float) -> str:
    """Wrap the lines of a title to the width of the figure in inches."""
    # Matplotlib does not wrap text; widths of letters are estimated, not measured.
    letters = max(20, int(width / _LETTER))
    return _plain('\n'.join(textwrap.fill(' '.join(line.split()), letters) for line in lines))


def _plain(text: str) -> str:
    """Escape dollar signs: Matplotlib would typeset what is between two of them as a formula."""
    return text.replace('$', r'\$')
