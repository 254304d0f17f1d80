"""Describe frames, motion and regions by small numbers taken from the pixels.

Colours are OpenCV's 8-bit Lab, flow is in pixels between the two neighbours of a frame. Every
value is of order 1, so that no part of a descriptor drowns the others in a cosine.
"""

import cv2
import numpy as np

from stg_jax.extract.toy_pixels.contrast import distance
from stg_jax.extract.toy_pixels.regions import Region

GRID = 6  # cells a side in which a frame is seen
HUES = 12
EDGES = 8  # directions of an edge, over half a turn
SILHOUETTE = 8  # cells a side in which an object's outline is seen

WIDTHS = {
    'appearance': 3 * GRID**2 + HUES + 3 + HUES * EDGES,
    'motion': 3 * GRID**2,
    'object': SILHOUETTE**2 + HUES + 3 + 5 + 4 + 3,
}

_NEUTRAL = 128  # of the a and b channels
_GREY = 12  # chroma below this has no hue worth counting
_CHANGE = 20  # 8-bit levels between two frames that are more than grain


def _hue_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return countable chroma, lower hue bin and share of the upper one for each 8-bit (a, b)."""
    a, b = np.meshgrid(*[np.arange(256, dtype=np.float32) - _NEUTRAL] * 2, indexing='ij')
    position = np.arctan2(b, a) / (2 * np.pi) * HUES % HUES
    lower = position.astype(np.intp)
    chroma = np.maximum(np.hypot(a, b) - _GREY, 0)
    return chroma.ravel(), (lower % HUES).ravel(), (position - lower).ravel()


# Looked up, because an arc tangent for each pixel was a quarter of the time of an extraction.
_CHROMA, _LOWER_HUE, _UPPER_SHARE = _hue_tables()


def describe_frame(
    lab: np.ndarray, ground: np.ndarray, contrast: np.ndarray | None = None
) -> np.ndarray:
    """Return layout, hues, ground colour and edges by hue of a (h, w, 3) uint8 frame, (C2,).

    It tells what is in the picture and roughly where; which outline is where, it does not.
    `contrast` is that to the ground, see `contrast.distance`, where it is known already.
    """
    if contrast is None:
        (contrast,) = distance(lab[None], ground)
    layout = cv2.resize(lab.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA) - ground
    pixels = lab.reshape(-1, 3)
    # Hues and edges count by chroma, which most pixels of a frame do not have.
    coloured = np.flatnonzero(_CHROMA[_hue_index(pixels)])
    hues = _hue_histogram(pixels[coloured], len(pixels))
    edges = _edge_histogram(pixels[coloured], *edges_of(contrast, coloured), len(pixels))
    parts = layout.ravel() / 25, 2 * hues, (ground - _NEUTRAL) / 100, edges
    return np.concatenate(parts).astype(np.float32)


def describe_motion(flow: np.ndarray, moving: np.ndarray, side: int = GRID) -> np.ndarray:
    """Return direction and amount of motion in each cell of a frame, (side ** 2 * 3,).

    Args:
      flow: (h, w, 2) float32, see `optical_flow`.
      moving: (h, w) bool, see `moving_pixels`.
      side: cells a side.
    """
    # Flow spreads into plain ground around a moving thing, where nothing moves.
    x, y = cv2.split(flow * moving[..., None])
    layers = cv2.merge([x, y, cv2.magnitude(x, y)])
    return cv2.resize(layers, (side, side), interpolation=cv2.INTER_AREA).ravel() / 2


def describe_region(
    region: Region, lab: np.ndarray, ground: np.ndarray, flow: np.ndarray
) -> np.ndarray:
    """Return colour, outline, place and motion of a region of a frame, (Co,) float32.

    Args:
      region: its mask tells which pixels are described.
      lab: (h, w, 3) uint8, the whole frame.
      ground: (3,), see `contrast.ground_colour`.
      flow: (h, w, 2) float32, motion of the whole frame.
    """
    x, y = region.corner
    height, width = region.mask.shape
    pixels = lab[y : y + height, x : x + width][region.mask]
    motion = flow[y : y + height, x : x + width][region.mask].mean(axis=0)
    outline = cv2.resize(
        region.mask.astype(np.float32), (SILHOUETTE, SILHOUETTE), interpolation=cv2.INTER_AREA
    )
    colour = (pixels.mean(axis=0) - ground) / 50
    x1, y1, x2, y2 = region.box
    parts = [
        (outline.ravel() - 0.5) / 2,
        _hue_histogram(pixels, len(pixels)),
        colour,
        _shape_numbers(region.mask),
        [x1 + x2 - 1, y1 + y2 - 1, 4 * (x2 - x1), 4 * (y2 - y1)],
        motion / 2,
        [np.linalg.norm(motion) / 2],
    ]
    return np.concatenate(parts).astype(np.float32)


def optical_flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the dense motion between two (h, w, 3) uint8 Lab frames, (h, w, 2) in pixels."""
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return method.calc(before[..., 0], after[..., 0], None)


def moving_pixels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return where two (h, w, 3) uint8 Lab frames differ, or nearly so, (h, w) bool."""
    lightness, a, b = cv2.split(cv2.absdiff(before, after))
    differs = cv2.max(cv2.max(lightness, a), b) > _CHANGE
    return cv2.dilate(differs.view(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)


def _hue_histogram(pixels: np.ndarray, total: int) -> np.ndarray:
    """Return how much colour of each hue (P, 3) of `total` Lab pixels hold, (HUES,)."""
    return np.sqrt(count_hues(pixels) / total) / 4


def edges_of(contrast: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return strength and direction bin of the edges at some pixels.

    Args:
      contrast: (h, w) float32, see `contrast.distance`.
      where: (P,) flat indices of pixels.
    """
    dx, dy = (cv2.Sobel(contrast, cv2.CV_32F, *axis).ravel()[where] for axis in ((1, 0), (0, 1)))
    # Rounded, not cut: upright and level edges lie in the middle of a bin.
    direction = np.rint(np.arctan2(dy, dx) / np.pi * EDGES).astype(np.intp) % EDGES
    return np.hypot(dx, dy) / 400, direction


def _edge_histogram(
    pixels: np.ndarray, strength: np.ndarray, direction: np.ndarray, total: int
) -> np.ndarray:
    """Return how strong the edges of each hue and direction are in a frame, (HUES * EDGES,)."""
    return np.sqrt(count_hues(pixels, strength, direction, EDGES) / total) * 2


def count_hues(
    pixels: np.ndarray,
    weight: np.ndarray | float = 1.0,
    group: np.ndarray | int = 0,
    num_groups: int = 1,
) -> np.ndarray:
    """Add up the weighted chroma of (P, 3) Lab pixels by hue and group, (HUES * num_groups,)."""
    index = _hue_index(pixels)
    lower, share, amount = _LOWER_HUE[index], _UPPER_SHARE[index], weight * _CHROMA[index]
    size = HUES * num_groups
    # Linear interpolation between two bins: a hue near a border does not jump.
    upper = (lower + 1) % HUES
    total = np.bincount(lower * num_groups + group, amount * (1 - share), size)
    return total + np.bincount(upper * num_groups + group, amount * share, size)


def _hue_index(pixels: np.ndarray) -> np.ndarray:
    """Return where the hue tables have (P, 3) Lab pixels."""
    return pixels[:, 1].astype(np.intp) * 256 + pixels[:, 2]


def _shape_numbers(mask: np.ndarray) -> np.ndarray:
    """Return extent, solidity, share of holes, roundness and elongation of a mask, (5,)."""
    outer, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(outer, key=len)
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), [contour], -1, 1, cv2.FILLED).sum()
    hull = cv2.convexHull(contour)
    convex = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), hull, 1).sum()
    perimeter = max(cv2.arcLength(contour, closed=True), 1)
    height, width = mask.shape
    return np.array(
        [
            mask.mean(),
            filled / convex,
            1 - mask.sum() / max(filled, mask.sum()),
            4 * np.pi * filled / perimeter**2,
            np.log(width / height),
        ]
    )
