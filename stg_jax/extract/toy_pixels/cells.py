"""Describe the cells of a regular grid over a frame by small numbers taken from the pixels.

The frame descriptors say which colors, edges and outlines are in a picture, but not which belong
together. A cell has them in one place.
"""

import cv2
import numpy as np

from stg_jax.extract.toy_pixels.descriptors import EDGES, HUES, count_hues, edges_of

SIDE = 7  # cells a side
OUTLINE = 4  # parts a side in which a cell sees what stands out
WIDTH = 3 + HUES + EDGES + OUTLINE**2

_GRAIN = 10  # distance in 8-bit Lab from the background that is no more than grain
_SOLID = 50  # distance at which a pixel surely stands out
_FAINT = 0.1  # strength below which an edge is no more than grain


def describe_cells(lab: np.ndarray, ground: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return mean color, hues, edges and outline of each cell, (T, SIDE ** 2, WIDTH) float32.

    Args:
      lab: (T, h, w, 3) uint8; both sides are multiples of SIDE * OUTLINE.
      ground: (T, 3), see `contrast.ground_colour`.
      contrast: (T, h, w) float32, distance of each pixel from the ground.
    """
    num_frames, height, width = contrast.shape
    row, column = (np.arange(side) * SIDE // side for side in (height, width))
    cell = (row[:, None] * SIDE + column).ravel()
    of_frames = [_hues_and_edges(*frame, cell) for frame in zip(lab, contrast, strict=True)]
    mean = np.stack([cv2.resize(f, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for f in lab])
    color = (mean.reshape(num_frames, -1, 3) - ground[:, None]) / 25
    parts = color, np.stack(of_frames), _outline(contrast)
    return np.concatenate(parts, axis=-1).astype(np.float32)


def _hues_and_edges(lab: np.ndarray, contrast: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the hues and the edge directions of the cells of one frame, (G, HUES + EDGES)."""
    num_cells, pixels = SIDE**2, lab.reshape(-1, 3)
    seen = np.flatnonzero(contrast > _GRAIN)
    hues = count_hues(pixels[seen], 1.0, cell[seen], num_cells).reshape(HUES, num_cells).T
    strength, direction = edges_of(contrast, seen)
    strength = np.where(strength > _FAINT, strength, 0)
    edges = np.bincount(cell[seen] * EDGES + direction, strength, num_cells * EDGES)
    size = len(cell) / num_cells
    return np.concatenate(
        [np.sqrt(hues / size) / 2, 2 * np.sqrt(edges.reshape(num_cells, EDGES) / size)], axis=-1
    )


def _outline(contrast: np.ndarray) -> np.ndarray:
    """Return how much of each part of each cell stands out, (T, G, OUTLINE ** 2)."""
    share = ((contrast - _GRAIN) / (_SOLID - _GRAIN)).clip(0, 1)
    side = SIDE * OUTLINE
    parts = np.stack([cv2.resize(f, (side, side), interpolation=cv2.INTER_AREA) for f in share])
    parts = parts.reshape(-1, SIDE, OUTLINE, SIDE, OUTLINE).swapaxes(2, 3)
    return parts.reshape(len(contrast), SIDE**2, OUTLINE**2)
