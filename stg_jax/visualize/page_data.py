"""What a report shows of one clip, as data: the input of pages and figures, and its JSON."""

import dataclasses
import itertools
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from stg_jax.explain import Explanation

LINKS_PER_OBJECT = 3  # the strongest of each kind
# An object stands out for a word if its relevance reaches the share LIT of the word's most relevant
# object, and LEAST of the caption's: otherwise a word without support would light up noise.
LIT, LEAST = 0.3, 0.05
HEAT_LEVELS = 36  # of the heat map, one digit each
_BRANCH_FIELDS = ('log_p', 'attention')

Link = tuple[int, int, int, float]  # frame, object, other object, strength


@dataclasses.dataclass(frozen=True)
class ReportEntry:
    """One clip, or one segment of a video, with its explained caption.

    Attributes:
      name: file name or clip id (untrusted text).
      frames: T JPEG files (see `jpeg.to_jpeg`), one for each time step of the explanation. Raw
        pictures of a whole film would fill the memory.
      captions: n-best captions (untrusted text) with their scores, best first.
      explanation: of the best caption.
      seconds: T times of the frames in the video; empty if unknown.
      label_names: the detector's class names by number; empty if unknown.
    """

    name: str
    frames: Sequence[bytes]
    captions: Sequence[tuple[str, float]]
    explanation: Explanation
    seconds: Sequence[float] = ()
    label_names: Sequence[str] = ()

    def __post_init__(self):
        """Check that frames and explanation are of the same time steps."""
        num_frames = len(self.explanation.box_TN4)
        if len(self.frames) != num_frames or len(self.seconds) not in (0, num_frames):
            raise ValueError(
                f'{self.name}: the explanation has {num_frames} frames, the entry another number'
            )


def page_data(entry: ReportEntry) -> dict[str, Any]:
    """Collect boxes, links and what explains each word, as the page's script reads them."""
    explanation = entry.explanation
    links = explanation.links
    return {
        'words': explanation.words,
        'teacher': explanation.teacher,
        'student': explanation.student,
        'objects': _objects(entry),
        'space': strongest(np.triu(links.iou_TNN)) if links else [],
        'time': strongest(links.cosine_TNN) if links else [],
        'lit': lit_objects(explanation.relevance_LTN),
        'saliency': _rounded(explanation.saliency_LT),
        'cells': _rounded(explanation.saliency_LTN),
        'heat': heat_map(explanation.relevance_LTG),
        'disagreement': _rounded(explanation.disagreement_L),
        **{
            field: {name: _rounded(x_L) for name, x_L in getattr(explanation, field).items()}
            for field in _BRANCH_FIELDS
        },
    }


def strongest(strength_TNN: np.ndarray) -> list[Link]:
    """Find each object's strongest links above zero, sorted by strength."""
    # Ranked by object, so that each keeps its own best links; the strongest overall would leave
    # most objects without any.
    rank_TNN = (-strength_TNN).argsort(-1, kind='stable').argsort(-1)
    kept = np.argwhere((rank_TNN < LINKS_PER_OBJECT) & (strength_TNN > 0))
    strength = strength_TNN[tuple(kept.T)]
    order = (-strength).argsort(kind='stable')
    found = [(*kept[i].tolist(), float(strength[i])) for i in order]
    return [(t, i, j, round(value, 3)) for t, i, j, value in found]


def lit_objects(relevance_LTN: np.ndarray | None) -> list[list[tuple[int, int, float]]]:
    """Find the objects that stand out for each word: (t, n, relevance), best first."""
    if relevance_LTN is None:
        return []
    least = LEAST * relevance_LTN.max(initial=0)
    rows = []
    for relevance_TN in relevance_LTN:
        enough = max(LIT * relevance_TN.max(initial=0), least)
        places = np.argwhere((relevance_TN > 0) & (relevance_TN >= enough))
        order = (-relevance_TN[tuple(places.T)]).argsort(kind='stable')
        rows.append([(int(t), int(n), _short(relevance_TN[t, n])) for t, n in places[order]])
    return rows


def heat_map(relevance_LTG: np.ndarray | None) -> list[list[str]] | None:
    """Write the relevance of grid cells as a string of digits for each word and frame.

    Cells are listed row by row. The digits, 0 to 9 and a to z, are shares of the relevance of the
    caption's most relevant cell; cells that speak against a word get 0.
    """
    if relevance_LTG is None:
        return None
    most = max(relevance_LTG.max(initial=0), np.finfo(np.float32).tiny)
    # Numbers would take six times the space, and a film has hundreds of segments.
    level_LTG = np.round(relevance_LTG.clip(0) / most * (HEAT_LEVELS - 1)).astype(int)
    digits = np.array(list(string.digits + string.ascii_lowercase))
    return [[''.join(digits[level_G]) for level_G in level_TG] for level_TG in level_LTG]


def strongest_links(entry: ReportEntry, number: int) -> list[tuple[str, str, str, float]]:
    """Describe the strongest links in words, taking turns between the two kinds.

    Returns:
      At most `number` rows of kind, both ends and strength.
    """
    links, side = entry.explanation.links, cells_in_row(entry)
    if links is None:
        return []

    def rows(kind: str, strength_TNN: np.ndarray, step: int) -> list[tuple[str, str, str, float]]:
        return [
            (
                kind,
                f'{object_name(entry, t, i, side)} in frame {t + 1}',
                f'{object_name(entry, t + step, j, side)} in frame {t + step + 1}',
                strength,
            )
            for t, i, j, strength in strongest(strength_TNN)[:number]
        ]

    in_time = rows('alike', links.cosine_TNN, 1)
    in_space = rows('overlap', np.triu(links.iou_TNN), 0)
    # The two strengths have different scales and cannot be compared: each kind gets its share.
    pairs = itertools.zip_longest(in_time, in_space)
    return sorted([row for pair in pairs for row in pair if row][:number], key=lambda row: row[0])


def object_name(entry: ReportEntry, t: int, n: int, side: int) -> str:
    """Name an object by its place in a grid, else by its class, else by its number.

    Args:
      entry: the clip.
      t: frame.
      n: object.
      side: cells in a row of the grid, 0 without one; see `cells_in_row`.
    """
    if side:
        column, row = (entry.explanation.box_TN4[t, n, :2] * side).round().astype(int) + 1
        return f'row {row}, column {column}'
    label = int(entry.explanation.label_TN[t, n])
    names = entry.label_names[label : label + 1] if label >= 0 else ()
    return ''.join(names) or f'object {n + 1}'


def cells_in_row(entry: ReportEntry) -> int:
    """Count the cells in a row if the objects are those of a regular grid, else return 0."""
    # A grid is recognised by its boxes: reports of old runs do not say how nodes were chosen.
    box_M4 = entry.explanation.box_TN4[entry.explanation.object_mask_TN]
    if not len(box_M4):
        return 0
    side = round(1 / max(float(np.ptp(box_M4[0, ::2])), 1e-3))
    cell_M4 = box_M4 * side  # whole numbers in a grid, within the precision of float16
    is_grid = np.allclose(cell_M4, cell_M4.round(), atol=0.01) and np.allclose(
        cell_M4[:, 2:] - cell_M4[:, :2], 1, atol=0.02
    )
    return side if side > 1 and is_grid else 0


def _objects(entry: ReportEntry) -> list[list[list[Any]]]:
    """List (number, name, x1, y1, x2, y2) of the objects of each frame."""
    box_TN4, side = entry.explanation.box_TN4, cells_in_row(entry)
    return [
        [
            [n, object_name(entry, t, n, side), *map(_short, box_TN4[t, n])]
            for n in np.flatnonzero(mask_N).tolist()
        ]
        for t, mask_N in enumerate(entry.explanation.object_mask_TN)
    ]


def _rounded(value: np.ndarray | None) -> Sequence | None:
    return None if value is None else np.vectorize(_short, otypes=[float])(value).tolist()


# More digits than a screen can show would only make the page larger.
def _short(value: float) -> float:
    return float(f'{value:.4g}')
