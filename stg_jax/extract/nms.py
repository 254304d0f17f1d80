"""Non-maximum suppression: from a detector's raw boxes to the objects of a frame."""

import cv2
import numpy as np

from stg_jax.extract.base import Detections

MAX_OVERLAP = 0.6  # intersection over union


def best_detections(
    box: np.ndarray,
    score: np.ndarray,
    label: np.ndarray,
    *,
    min_score: float,
    max_objects: int,
    max_overlap: float | None = MAX_OVERLAP,
) -> Detections:
    """Select the best objects of one frame, clipped to it and without duplicates.

    Boxes that are not finite or entirely outside of the frame are dropped. Equal scores keep the
    order of the input.

    Args:
      box: (K, 4) x1 y1 x2 y2 divided by frame width and height, may reach outside of the frame.
      score: (K,) confidences.
      label: (K,) classes.
      min_score: lowest confidence that is kept.
      max_objects: most boxes that are kept.
      max_overlap: of two boxes of one class whose IoU exceeds it, the one with the lower score is
        dropped. None keeps both, for set-prediction detectors, which do not repeat themselves.
    """
    # Best first and stable: the result does not depend on how a library sorts ties.
    order = np.argsort(-score, kind='stable')
    order = order[np.isfinite(box[order]).all(axis=-1) & (score[order] >= min_score)]
    # Clipped before duplicates are compared, since only the visible parts can overlap.
    box, score, label = np.clip(box[order], 0, 1), score[order], label[order]
    kept = np.flatnonzero((box[:, :2] < box[:, 2:]).all(axis=-1))
    if max_overlap is not None and len(kept):
        kept = kept[_suppress(box[kept], score[kept], label[kept], max_overlap)]
    kept = kept[:max_objects]
    return Detections(
        box[kept].astype(np.float32), score[kept].astype(np.float32), label[kept].astype(np.int32)
    )


def _suppress(
    box: np.ndarray, score: np.ndarray, label: np.ndarray, max_overlap: float
) -> np.ndarray:
    """Return the indices of the boxes that survive suppression within each class."""
    corner_size = np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=-1)
    # OpenCV keeps scores above its threshold and not those at it: -inf lets every box through.
    kept = cv2.dnn.NMSBoxesBatched(
        corner_size.tolist(), score.tolist(), label.tolist(), float('-inf'), max_overlap
    )
    return np.asarray(kept, np.intp)
