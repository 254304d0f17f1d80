"""Describe frames, motion and regions by numbers computed from the pixels.

Colours are in OpenCV's 8-bit Lab; flow is in pixels, from the frame before to the frame after.
Every value is of order 1, so that no part of a descriptor dominates a cosine.
"""

import cv2
import numpy as np

from stg_jax.extract.toy_pixels.regions import Region, distance

# Cells per side of the layout of a frame.
GRID = 6
HUES = 12
# Directions of an edge, over half a turn.
EDGES = 8
# Cells per side of the outline of an object.
SILHOUETTE = 8

WIDTHS = {
    'appearance': 3 * GRID**2 + HUES + 3 + HUES * EDGES,
    'motion': 3 * GRID**2,
    'object': SILHOUETTE**2 + HUES + 3 + 5 + 4 + 3,
}

# Value of the a and b channels that is grey.
_NEUTRAL = 128
# Chroma below which the hue is noise.
_GREY = 12
# 8-bit levels between two frames that are more than grain.
_CHANGE = 20


def _hue_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tabulate chroma above grey, lower hue bin and share of the upper bin by 8-bit (a, b)."""
    a, b = np.meshgrid(*[np.arange(256, dtype=np.float32) - _NEUTRAL] * 2, indexing='ij')
    position = np.arctan2(b, a) / (2 * np.pi) * HUES % HUES
    lower = position.astype(np.intp)
    chroma = np.maximum(np.hypot(a, b) - _GREY, 0)
    return chroma.ravel(), (lower % HUES).ravel(), (position - lower).ravel()


# A table, because an arc tangent for each pixel took a quarter of the time of an extraction.
_CHROMA, _LOWER_HUE, _UPPER_SHARE = _hue_tables()


def describe_frame(
    lab: np.ndarray, ground: np.ndarray, contrast: np.ndarray | None = None
) -> np.ndarray:
    """Compute layout, hues, ground colour and edges by hue of a (h, w, 3) uint8 frame, (C2,).

    The descriptor says what is in the picture and roughly where, but not which outline is where.
    `contrast` is the distance from the ground, see `contrast.distance`; computed if it is None.
    """
    seen: np.ndarray = distance(lab[None], ground)[0] if contrast is None else contrast
    layout = _shrink(lab.astype(np.float32), GRID) - ground
    pixels = lab.reshape(-1, 3)
    # Hues and edges count by chroma, which most pixels of a frame do not have.
    coloured = np.flatnonzero(_CHROMA[_hue_index(pixels)])
    hues = _hue_histogram(pixels[coloured], len(pixels))
    edges = _edge_histogram(pixels[coloured], *edges_of(seen, coloured), len(pixels))
    parts = layout.ravel() / 25, 2 * hues, (ground - _NEUTRAL) / 100, edges
    return np.concatenate(parts).astype(np.float32)


def describe_motion(motion: np.ndarray, side: int = GRID) -> np.ndarray:
    """Compute direction and amount of motion in each cell of a frame, (side ** 2 * 3,).

    Args:
      motion: (h, w, 3), see `motion_of`.
      side: cells a side.
    """
    return _shrink(motion, side).ravel() / 2


def motion_of(flow: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Compute motion to the right, motion down and speed of each pixel, (h, w, 3) float32.

    Args:
      flow: (h, w, 2) float32, see `optical_flow`.
      moving: (h, w) bool, see `moving_pixels`.
    """
    # Optical flow smooths across edges: it moves the plain ground around a moving thing, too.
    x, y = cv2.split(flow * moving[..., None])
    # Not cv2.magnitude, whose last bit depends on where in memory its arguments are.
    return cv2.merge([x, y, np.sqrt(x * x + y * y)])


def describe_region(
    region: Region, lab: np.ndarray, ground: np.ndarray, flow: np.ndarray
) -> np.ndarray:
    """Compute outline, hues, colour, shape, place and motion of a region, (Co,) float32.

    Args:
      region: its mask selects the pixels.
      lab: (h, w, 3) uint8, the whole frame.
      ground: (3,), see `regions.ground_colour`.
      flow: (h, w, 2) float32, motion of the whole frame.
    """
    x, y = region.corner
    height, width = region.mask.shape
    pixels = lab[y : y + height, x : x + width][region.mask]
    motion = flow[y : y + height, x : x + width][region.mask].mean(axis=0)
    outline = _shrink(region.mask.astype(np.float32), SILHOUETTE)
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
    """Estimate dense motion between two (h, w, 3) uint8 Lab frames, (h, w, 2) in pixels."""
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    # OpenCV allocates the flow if it gets none, which its stubs do not know.
    return method.calc(before[..., 0], after[..., 0], None)  # pyright: ignore[reportArgumentType, reportCallIssue]


def moving_pixels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mark where two (h, w, 3) uint8 Lab frames differ, with a margin, (h, w) bool."""
    lightness, a, b = cv2.split(cv2.absdiff(before, after))
    differs = cv2.max(cv2.max(lightness, a), b) > _CHANGE
    return cv2.dilate(differs.view(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)


def _hue_histogram(pixels: np.ndarray, total: int) -> np.ndarray:
    """Compute the amount of each hue in (P, 3) Lab pixels, relative to `total` pixels, (HUES,)."""
    return np.sqrt(count_hues(pixels) / total) / 4


def edges_of(contrast: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute strength and direction bin of the edges at some pixels.

    Args:
      contrast: (h, w) float32, see `contrast.distance`.
      where: (P,) flat indices of pixels.
    """
    dx, dy = (cv2.Sobel(contrast, cv2.CV_32F, *axis).ravel()[where] for axis in ((1, 0), (0, 1)))
    # Rounded and not truncated: upright and level edges are in the middle of a bin.
    direction = np.rint(np.arctan2(dy, dx) / np.pi * EDGES).astype(np.intp) % EDGES
    return np.hypot(dx, dy) / 400, direction


def _edge_histogram(
    pixels: np.ndarray, strength: np.ndarray, direction: np.ndarray, total: int
) -> np.ndarray:
    """Compute the strength of edges by hue and direction in a frame, (HUES * EDGES,)."""
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
    # Interpolated between two bins, so that a hue near a border does not jump.
    upper = (lower + 1) % HUES
    total = np.bincount(lower * num_groups + group, amount * (1 - share), size)
    return total + np.bincount(upper * num_groups + group, amount * share, size)


def _shrink(picture: np.ndarray, side: int) -> np.ndarray:
    """Average a picture over `side` x `side` cells."""
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def _hue_index(pixels: np.ndarray) -> np.ndarray:
    """Compute the index of (P, 3) Lab pixels into the hue tables."""
    return pixels[:, 1].astype(np.intp) * 256 + pixels[:, 2]


def _shape_numbers(mask: np.ndarray) -> np.ndarray:
    """Compute extent, solidity, share of holes, roundness and elongation of a mask, (5,)."""
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
