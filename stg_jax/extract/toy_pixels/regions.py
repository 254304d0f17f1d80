"""Propose object boxes: connected regions of one colour that stand out or move (OpenCV)."""

import dataclasses

import cv2
import numpy as np

# Distance in 8-bit Lab from the background that makes a pixel foreground.
STAND_OUT = 22.0
# Shares of the picture: smaller regions are fringes and grain, larger ones are the background.
MIN_AREA, MAX_AREA = 0.003, 0.8
# Share of the picture's side; thinner regions are fringes.
MIN_SIDE = 0.04
# Colours of a clip's foreground.
MAX_COLOURS = 8
# IoU above which the weaker of two boxes is dropped.
MAX_OVERLAP = 0.6
# Lab units per cell of the chroma histogram.
_BIN = 8


def ground_colour(lab: np.ndarray) -> np.ndarray:
    """Compute the median colour of a (h, w, 3) uint8 frame, (3,) float32: mostly background."""
    # The median from a histogram: sorting the pixels takes ten times as long.
    half = lab.shape[0] * lab.shape[1] / 2
    colour = []
    for channel in range(3):
        below = np.cumsum(cv2.calcHist([lab], [channel], None, [256], [0, 256]))
        middle = np.searchsorted(below, half), np.searchsorted(below, half, side='right')
        colour.append(sum(middle) / 2)
    return np.array(colour, np.float32)


def distance(lab: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Compute the distance in Lab of each pixel from a colour or picture, (T, h, w) float32.

    Args:
      lab: (T, h, w, 3) uint8.
      reference: float or uint8, broadcasts to the shape of `lab`.
    """
    difference = lab.astype(np.float32)
    difference -= reference
    difference *= difference
    # OpenCV adds the channels four times as fast as a sum over the last axis does.
    rows = difference.reshape(-1, lab.shape[2], 3)
    return np.sqrt(cv2.transform(rows, np.ones((1, 3), np.float32))).reshape(lab.shape[:-1])


@dataclasses.dataclass(frozen=True)
class Region:
    """One proposed object of one frame.

    Attributes:
      box: (4,) float32, x1 y1 x2 y2 divided by width and height.
      score: in (0, 1], grows with contrast and size of the region.
      mask: (h, w) bool, the region's pixels within its box.
      corner: (x, y) pixel of the mask's upper left corner.
    """

    box: np.ndarray
    score: float
    mask: np.ndarray
    corner: tuple[int, int]


def find_regions(
    lab: np.ndarray, max_regions: int, still: np.ndarray | None = None
) -> list[list[Region]]:
    """Propose at most `max_regions` regions in every frame, best first.

    Touching things are separated if their colours differ.

    Args:
      lab: (T, h, w, 3) uint8, frames of one clip in OpenCV's 8-bit Lab.
      max_regions: N.
      still: (T, h, w) float32, distance of each pixel from its frame's median colour; computed if
        it is None.

    Returns:
      T lists of regions, empty for frames without foreground.
    """
    if still is None:
        still = distance(lab, np.stack(list(map(ground_colour, lab)))[:, None, None])
    contrast = np.maximum(still, _moving_contrast(lab, still))
    foreground = contrast > STAND_OUT
    labels = _colour_labels(lab, foreground)
    return [
        _suppress(_components(frame, strength), max_regions)
        for frame, strength in zip(labels, contrast, strict=True)
    ]


def _moving_contrast(lab: np.ndarray, still: np.ndarray) -> np.ndarray:
    """Compute each pixel's distance from the background behind moving things, (T, h, w)."""
    # The frame in which a pixel is closest to plain ground. A median over time would contain slow
    # things themselves, and leave ghosts where they were.
    emptiest = still.argmin(axis=0)[None, ..., None]
    return distance(lab, np.take_along_axis(lab, emptiest, axis=0))


def _colour_labels(lab: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Number the foreground pixels by the nearest peak of the clip's chroma histogram.

    Returns:
      (T, h, w) uint8, 0 for background, 1..MAX_COLOURS for the clip's own colours.
    """
    cell = lab[..., 1:] // _BIN
    side = 256 // _BIN
    flat = cell[..., 0].astype(np.intp) * side + cell[..., 1]
    histogram = np.bincount(flat[foreground], minlength=side * side).reshape(side, side)
    palette = _peaks(cv2.GaussianBlur(histogram.astype(np.float32), (0, 0), 0.8))
    grid = np.stack(np.meshgrid(range(side), range(side), indexing='ij'), axis=-1)
    distance = np.linalg.norm(grid[:, :, None] - palette, axis=-1)
    nearest = (distance.argmin(axis=-1) + 1).astype(np.uint8)
    return np.where(foreground, nearest.ravel()[flat], np.uint8(0))


def _peaks(histogram: np.ndarray) -> np.ndarray:
    """Find the cells of the highest local maxima, (at most MAX_COLOURS, 2)."""
    highest = cv2.dilate(histogram, np.ones((5, 5), np.uint8))
    cells = np.argwhere(histogram >= highest)
    order = np.argsort(-histogram[tuple(cells.T)], kind='stable')
    return cells[order[:MAX_COLOURS]]


def _components(labels: np.ndarray, strength: np.ndarray) -> list[Region]:
    """Find the connected regions of each colour that have a plausible size."""
    height, width = labels.shape
    # Compression leaves a seam of a third colour between two; the median closes it.
    labels = cv2.medianBlur(labels, 3)
    found = []
    for colour in np.unique(labels[labels > 0]):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((labels == colour).view(np.uint8))
        # Component 0 is everything else.
        for part, (x, y, w, h, area) in enumerate(stats[1:].tolist(), start=1):
            thick = min(w / width, h / height) >= MIN_SIDE
            if thick and MIN_AREA <= area / (height * width) <= MAX_AREA:
                mask = parts[y : y + h, x : x + w] == part
                box = np.array(
                    [x / width, y / height, (x + w) / width, (y + h) / height], np.float32
                )
                score = _score(strength[y : y + h, x : x + w][mask])
                found.append(Region(box, score, mask, (x, y)))
    return found


def _score(strength: np.ndarray) -> float:
    """Score a region in (0, 1] by its contrast and, more slowly, by its number of pixels."""
    return float(np.tanh(strength.mean() / 100) * strength.size / (strength.size + 50))


def _suppress(regions: list[Region], max_regions: int) -> list[Region]:
    """Keep the best regions and drop those that mostly overlap a better one."""
    if not regions:
        return []
    corners = np.stack([region.box for region in regions])
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=-1)
    scores = [region.score for region in regions]
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores, 0.0, MAX_OVERLAP)
    return [regions[i] for i in np.ravel(kept)[:max_regions]]
