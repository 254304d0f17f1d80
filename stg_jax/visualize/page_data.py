"""The numbers of a clip that the page's script reads, as short as they can be."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from stg_jax.explain import Explanation


@dataclasses.dataclass(frozen=True)
class Shown:
    """One clip, or one window of a video, as a page or a figure shows it.

    Attributes:
      name: file name or id (untrusted text).
      frames: T pictures as JPEG files, see `pictures.to_jpeg`, one for each time step of the
        explanation; pictures of a whole film would fill the memory.
      captions: n best with their scores, best first (untrusted text).
      explanation: of the best caption.
      seconds: T times of the frames in the video; empty where unknown.
      label_names: names of the detector's classes by number; empty where unknown.
    """

    name: str
    frames: Sequence[bytes]
    captions: Sequence[tuple[str, float]]
    explanation: Explanation
    seconds: Sequence[float] = ()
    label_names: Sequence[str] = ()

    def __post_init__(self):
        """Refuse frames that are not those of the explanation."""
        num_frames = len(self.explanation.box_TN4)
        if len(self.frames) != num_frames or len(self.seconds) not in (0, num_frames):
            raise ValueError(f'{self.name}: {num_frames} frames are explained, and others shown')


LINKS_PER_OBJECT = 3  # of each kind, the strongest
LIT = 0.3  # an object stands out from this share of the word's most relevant one
LEAST = 0.05  # and of the caption's: a word that no object speaks for lights none
_BRANCH_FIELDS = ('log_p', 'attention')


def numbers(shown: Shown) -> dict[str, Any]:
    """Return boxes, links and what explains each word, ready for `as_script`."""
    explanation = shown.explanation
    links = explanation.links
    return {
        'words': explanation.words,
        'teacher': explanation.teacher,
        'student': explanation.student,
        'objects': _objects(shown),
        'space': strongest(np.triu(links.iou_TNN)) if links else [],
        'time': strongest(links.cosine_TNN) if links else [],
        'lit': lit_objects(explanation.relevance_LTN),
        'saliency': _rounded(explanation.saliency_LT),
        'cells': _rounded(explanation.saliency_LTN),
        'disagreement': _rounded(explanation.disagreement_L),
        **{
            field: {name: _rounded(x_L) for name, x_L in getattr(explanation, field).items()}
            for field in _BRANCH_FIELDS
        },
    }


def strongest(strength_TNN: np.ndarray) -> list[list[float]]:
    """Return [t, i, j, strength] of each object's strongest links above zero, strongest first."""
    rank_TNN = (-strength_TNN).argsort(-1, kind='stable').argsort(-1)
    kept = np.argwhere((rank_TNN < LINKS_PER_OBJECT) & (strength_TNN > 0))
    strength = strength_TNN[tuple(kept.T)]
    order = (-strength).argsort(kind='stable')
    return [[*map(int, kept[i]), round(float(strength[i]), 3)] for i in order]


def lit_objects(relevance_LTN: np.ndarray | None) -> list[list[list[float]]]:
    """Return for each word [t, n, relevance] of the objects that stand out, best first."""
    if relevance_LTN is None:
        return []
    least = LEAST * relevance_LTN.max(initial=0)
    rows = []
    for relevance_TN in relevance_LTN:
        enough = max(LIT * relevance_TN.max(initial=0), least)
        places = np.argwhere((relevance_TN > 0) & (relevance_TN >= enough))
        order = (-relevance_TN[tuple(places.T)]).argsort(kind='stable')
        rows.append([[int(t), int(n), _short(relevance_TN[t, n])] for t, n in places[order]])
    return rows


def strongest_links(shown: Shown, number: int) -> list[tuple[str, str, str, float]]:
    """Return the kind, both ends and strength of some links, as many of each kind as there are."""
    links, side = shown.explanation.links, cells_in_row(shown)
    if links is None:
        return []

    def rows(kind: str, strength_TNN: np.ndarray, step: int) -> list[tuple[str, str, str, float]]:
        return [
            (
                kind,
                f'{object_name(shown, t, i, side)} in frame {t + 1}',
                f'{object_name(shown, t + step, j, side)} in frame {t + step + 1}',
                strength,
            )
            for t, i, j, strength in strongest(strength_TNN)[:number]
        ]

    in_time = rows('alike', links.cosine_TNN, 1)
    in_space = rows('overlap', np.triu(links.iou_TNN), 0)
    pairs = itertools.zip_longest(in_time, in_space)
    return sorted([row for pair in pairs for row in pair if row][:number], key=lambda row: row[0])


def as_script(value: Any) -> str:
    """Return JSON that may stand in a script element: no text of it can end or open one."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(',', ':'))
    for character in '<>&':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return text


def object_name(shown: Shown, t: int, n: int, side: int) -> str:
    """Return what a page calls an object: its place in a grid, its class, or its number.

    Args:
      shown: the clip.
      t: frame.
      n: number of the object.
      side: cells in a row, see `cells_in_row`.
    """
    if side:
        column, row = (shown.explanation.box_TN4[t, n, :2] * side).round().astype(int) + 1
        return f'row {row}, column {column}'
    label = int(shown.explanation.label_TN[t, n])
    names = shown.label_names[label : label + 1] if label >= 0 else ()
    return ''.join(names) or f'object {n + 1}'


def cells_in_row(shown: Shown) -> int:
    """Return how many cells make a row where the objects are those of a regular grid, else 0."""
    box_M4 = shown.explanation.box_TN4[shown.explanation.object_mask_TN]
    if not len(box_M4):
        return 0
    side = round(1 / max(float(np.ptp(box_M4[0, ::2])), 1e-3))
    cell_M4 = box_M4 * side  # whole numbers in a grid, up to what 16 bits keep
    is_grid = np.allclose(cell_M4, cell_M4.round(), atol=0.01) and np.allclose(
        cell_M4[:, 2:] - cell_M4[:, :2], 1, atol=0.02
    )
    return side if side > 1 and is_grid else 0


def _objects(shown: Shown) -> list[list[list[Any]]]:
    """Return for each frame [number, name, x1, y1, x2, y2] of its objects."""
    box_TN4, side = shown.explanation.box_TN4, cells_in_row(shown)
    return [
        [
            [int(n), object_name(shown, t, n, side), *_rounded(box_TN4[t, n])]
            for n in np.flatnonzero(mask_N)
        ]
        for t, mask_N in enumerate(shown.explanation.object_mask_TN)
    ]


def _rounded(value: np.ndarray | None) -> Sequence | None:
    return None if value is None else np.vectorize(_short, otypes=[float])(value).tolist()


def _short(value: float) -> float:
    return float(f'{value:.4g}')
