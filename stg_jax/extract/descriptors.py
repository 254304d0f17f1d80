"""Describe frames, motion and regions by small numbers taken from the pixels.

Colours are OpenCV's 8-bit Lab, flow is in pixels between the two neighbours of a frame. Every
value is of order 1, so that no part of a descriptor drowns the others in a cosine.
"""

import cv2
import numpy as np

from stg_jax.extract.regions import Region

GRID = 6  # cells a side in which a frame is seen
HUES = 12
SILHOUETTE = 8  # cells a side in which an object's outline is seen

WIDTHS = {
    'appearance': 3 * GRID**2 + HUES + 3,
    'motion': 3 * GRID**2,
    'object': SILHOUETTE**2 + HUES + 3 + 5 + 4 + 3,
}

_NEUTRAL = 128  # of the a and b channels
_GREY = 12  # chroma below this has no hue worth counting
_AREA = {'interpolation': cv2.INTER_AREA}


def ground_colour(lab: np.ndarray) -> np.ndarray:
    """Return the commonest colour of a (h, w, 3) uint8 frame, (3,) float32."""
    return np.median(lab, axis=(0, 1)).astype(np.float32)


def describe_frame(lab: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Return the colour layout, hues and ground colour of a (h, w, 3) uint8 frame, (C2,)."""
    layout = cv2.resize(lab.astype(np.float32), (GRID, GRID), **_AREA) - ground
    hues = _hue_histogram(lab.reshape(-1, 3))
    return np.float32(np.concatenate([layout.ravel() / 25, 2 * hues, (ground - _NEUTRAL) / 100]))


def describe_motion(flow: np.ndarray) -> np.ndarray:
    """Return direction and amount of the motion in each cell of a (h, w, 2) flow, (C3,)."""
    speed = np.linalg.norm(flow, axis=-1, keepdims=True)
    layout = cv2.resize(np.concatenate([flow, speed], axis=-1), (GRID, GRID), **_AREA)
    return layout.ravel() / 2


def describe_region(
    region: Region, lab: np.ndarray, ground: np.ndarray, flow: np.ndarray
) -> np.ndarray:
    """Return colour, outline, place and motion of a region of a frame, (Co,) float32.

    Args:
      region: its mask tells which pixels are described.
      lab: (h, w, 3) uint8, the whole frame.
      ground: (3,), the frame's commonest colour.
      flow: (h, w, 2) float32, motion of the whole frame.
    """
    x, y = region.corner
    height, width = region.mask.shape
    pixels = lab[y : y + height, x : x + width][region.mask]
    motion = flow[y : y + height, x : x + width][region.mask].mean(axis=0)
    outline = cv2.resize(region.mask.astype(np.float32), (SILHOUETTE, SILHOUETTE), **_AREA)
    colour = (pixels.mean(axis=0) - ground) / 50
    x1, y1, x2, y2 = region.box
    return np.float32(
        np.concatenate(
            [
                (outline.ravel() - 0.5) / 2,
                _hue_histogram(pixels),
                colour,
                _shape_numbers(region.mask),
                [x1 + x2 - 1, y1 + y2 - 1, 4 * (x2 - x1), 4 * (y2 - y1)],
                motion / 2,
                [np.linalg.norm(motion) / 2],
            ]
        )
    )


def optical_flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the dense motion between two (h, w, 3) uint8 Lab frames, (h, w, 2) in pixels."""
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return method.calc(before[..., 0], after[..., 0], None)


def _hue_histogram(pixels: np.ndarray) -> np.ndarray:
    """Return how much colour of each hue (P, 3) Lab pixels hold, (HUES,); grey holds none."""
    a, b = pixels[:, 1].astype(np.float32) - _NEUTRAL, pixels[:, 2].astype(np.float32) - _NEUTRAL
    weight = np.maximum(np.hypot(a, b) - _GREY, 0)
    position = np.arctan2(b, a) / (2 * np.pi) * HUES % HUES
    lower = position.astype(np.intp)
    share = position - lower
    # Linear interpolation between two bins: a hue near a border does not jump.
    amount = np.bincount(lower % HUES, weight * (1 - share), HUES)
    amount += np.bincount((lower + 1) % HUES, weight * share, HUES)
    return np.sqrt(amount / len(pixels)) / 4


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
