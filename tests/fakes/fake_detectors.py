"""Detectors in ONNX files that find one object, in the layouts of YOLOX and YOLOv8."""

import numpy as np

from stg_jax.extract.onnx.boxes import grid_cells
from stg_jax.extract.onnx.detector import OnnxDetector

# On a canvas of 64 x 64, x y w h of the object of a frame of 40 x 80 that is placed in the corner
# or in the centre.
CORNER, CENTRE = [32, 24, 32, 16], [32, 40, 32, 16]  # x y w h on the canvas
NUM_CELLS = 64 + 16 + 4


def detector(path, *, min_score=0.3, batch_size=2):
    return OnnxDetector(path, min_score=min_score, batch_size=batch_size)


def spread_table(columns, anchors=1):
    """Return a table of boxes of confidence zero around the cells of the grids."""
    corner, stride = grid_cells((64, 64), NUM_CELLS)
    table = np.zeros((NUM_CELLS, columns), np.float32)
    table[:, :2], table[:, 2:4] = (corner + 0.5) * stride, 8
    return np.tile(table, (anchors, 1))


def yolox(objectness=0.9):
    table = np.zeros((NUM_CELLS, 5 + 4), np.float32)
    # The cell (column 4, row 3) of the finest grid starts at (32, 24), as the object's centre does.
    table[3 * 8 + 4] = [0, 0, np.log(32 / 8), np.log(16 / 8), objectness, 0, 0, 0.5, 0.1]
    # So does, three quarters of a cell further down, the right one of the top row of the coarsest.
    table[64 + 16 + 1] = [0, 0.75, np.log(32 / 32), np.log(16 / 32), 0.8, 0, 0, 0.5, 0.1]
    return {'output': table}


def yolov8():
    table = np.delete(spread_table(5 + 4), 4, axis=1)
    table[5] = [*CENTRE, 0, 0, 0.45, 0.1]
    return {'output0': table.T}
