"""The paper's picture of a clip: frames, objects, links in space and time, and the caption."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stg_jax.errors import UserError
from stg_jax.figures import new_figure, save_figure
from stg_jax.report.numbers import lit_objects, strongest
from stg_jax.report.pictures import from_jpeg
from stg_jax.report.shown import Shown

SUFFIXES = ('.png', '.svg', '.pdf')
_MOST_FRAMES = 5  # of a clip, one behind the other: links in time join neighbours
_SHARE = 0.3  # of the links are drawn, the strongest
_TIME, _SPACE, _BOX = '#d0021b', '#1257d0', '#ffd24d'
_WIDTH, _TITLE = 2.1, 0.45  # inches, of a frame and of a title's height


def write_figure(path: str | os.PathLike[str], shown: Sequence[Shown]) -> None:
    """Draw one row a clip: red arrows in time, blue lines in space, words at what speaks for them.

    Of a long clip the frames around the most relevant one are drawn.

    Raises:
      UserError: the suffix is none of `SUFFIXES`, or matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{path} must end in {", ".join(SUFFIXES)} to be a figure')
    figure = _figure_for(shown)
    rows = {'height_ratios': [_ratio(each) for each in shown]}
    grid = figure.subplots(len(shown), 1, squeeze=False, gridspec_kw=rows)
    for axes, each in zip(grid[:, 0], shown, strict=True):
        _draw_clip(axes, each)
    save_figure(figure, path, dpi=150)


def _figure_for(shown: Sequence[Shown]) -> Any:
    num_frames = max(min(len(each.frames), _MOST_FRAMES) for each in shown)
    heights = [_TITLE + _WIDTH * _ratio(each) for each in shown]
    return new_figure(_WIDTH * num_frames, sum(heights))


def _ratio(shown: Shown) -> float:
    height, width = from_jpeg(shown.frames[0]).shape[:2]
    return height / width


def _draw_clip(axes: Any, shown: Shown) -> None:
    """Draw the frames side by side; x counts frames, y goes down, a frame is 1 wide."""
    ratio = _ratio(shown)
    first, last = _frames_to_draw(shown)
    for t in range(first, last):
        left = 1.15 * (t - first)
        axes.imshow(from_jpeg(shown.frames[t]), extent=(left, left + 1, ratio, 0))

    def corners(t: int, n: int) -> np.ndarray:
        box_4 = shown.explanation.box_TN4[t, n] * (1, ratio, 1, ratio)
        return box_4 + (1.15 * (t - first), 0) * 2

    inside = range(first, last)
    _draw_boxes(axes, shown, inside, corners)
    _draw_links(axes, shown, inside, corners)
    _draw_words(axes, shown, inside, corners)
    axes.set_xlim(0, 1.15 * (last - first) - 0.15)
    axes.set_ylim(ratio, 0)
    axes.set_axis_off()
    _draw_title(axes, shown)


def _frames_to_draw(shown: Shown) -> tuple[int, int]:
    num_frames, relevance_LTN = len(shown.frames), shown.explanation.relevance_LTN
    drawn = min(num_frames, _MOST_FRAMES)
    if relevance_LTN is None or not len(relevance_LTN):
        return 0, drawn
    best = int(relevance_LTN.max((0, 2)).argmax())
    first = min(max(best - drawn // 2, 0), num_frames - drawn)
    return first, first + drawn


def _draw_boxes(axes: Any, shown: Shown, inside: range, corners: Any) -> None:
    from matplotlib.patches import Rectangle

    for t, n in np.argwhere(shown.explanation.object_mask_TN):
        if t in inside:
            x1, y1, x2, y2 = corners(t, n)
            axes.add_patch(
                Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=_BOX, linewidth=1.5)
            )


def _draw_links(axes: Any, shown: Shown, inside: range, corners: Any) -> None:
    links = shown.explanation.links
    if links is None:
        return
    kinds = ((np.triu(links.iou_TNN), 0, '-', _SPACE), (links.cosine_TNN, 1, '-|>', _TIME))
    for strength_TNN, step, style, colour in kinds:
        drawn = strongest(strength_TNN)
        for t, i, j, _ in drawn[: int(np.ceil(_SHARE * len(drawn)))]:
            if t in inside and t + step in inside:
                ends = [corners(u, n).reshape(2, 2).mean(0) for u, n in ((t, i), (t + step, j))]
                arrow = {'arrowstyle': style, 'color': colour, 'shrinkA': 0, 'shrinkB': 0}
                axes.annotate('', ends[1], ends[0], arrowprops=arrow)


def _draw_words(axes: Any, shown: Shown, inside: range, corners: Any) -> None:
    """Write each word at the object that speaks for it most, where one stands out."""
    at: dict[tuple[int, int], list[str]] = {}
    rows = lit_objects(shown.explanation.relevance_LTN)
    for word, row in zip(shown.explanation.words, rows, strict=False):
        if row and row[0][0] in inside:
            at.setdefault(tuple(row[0][:2]), []).append(word)
    for place, words in at.items():
        x1, y1, _, _ = corners(*place)
        label = {'facecolor': _BOX, 'edgecolor': 'none', 'pad': 1.5}
        axes.text(x1, y1, _plain(' '.join(words)), fontsize=8, va='bottom', bbox=label)


def _draw_title(axes: Any, shown: Shown) -> None:
    teacher = shown.explanation.teacher
    explained = f' (links and words: teacher, {teacher} branch)' if teacher else ''
    caption = shown.captions[0][0] if shown.captions else ''
    axes.set_title(_plain(f'{shown.name}: {caption}{explained}'), fontsize=9, loc='left')


def _plain(text: str) -> str:
    """Keep a dollar sign from starting a formula."""
    return text.replace('$', r'\$')
