"""What an explanation of one caption holds, in plain NumPy."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Links:
    """The object graph before its softmaxes, which leave it nearly flat.

    Attributes:
      iou_TNN: overlap of two objects of a frame, in [0, 1]; symmetric, zero on the diagonal.
      cosine_TNN: [t, i, j] is the likeness of object i of frame t and j of frame t + 1, in
        [-1, 1]; one frame shorter.
    """

    iou_TNN: np.ndarray
    cosine_TNN: np.ndarray


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What two branches looked at for each of the L words of a caption, over T frames.

    Fields that belong to a branch which the run does not have are None.

    Attributes:
      words: the caption's words, without BOS and EOS.
      box_TN4: x1 y1 x2 y2 in [0, 1].
      score_TN: the detector's confidence.
      label_TN: the detector's class, -1 without one.
      object_mask_TN: True where an object exists.
      teacher: the branch that reads objects; `links` and `relevance_LTN` explain it.
      student: the branch that reads frames; `saliency_LT` explains it.
      log_p: by branch, (L,) log-probability of each word after those before it.
      attention: by branch, (L, T) cross-attention over frames, the mean of layers and heads; each
        row sums to 1. What is attended to are encoded frames, which know of their neighbours.
      links: strengths of the object graph's links.
      relevance_LTN: gradient times input of the word's log-probability at each object; positive
        where the object speaks for the word, zero where absent.
      saliency_LT: log-probability that the word loses when the frame is hidden.
      saliency_LTN: likewise when a cell of a frame is, where the objects are cells of a grid whose
        mean is what the student sees of the frame; else None.
      disagreement_L: KL(student || teacher) of the distributions over the next word, in nats.
    """

    words: tuple[str, ...]
    box_TN4: np.ndarray
    score_TN: np.ndarray
    label_TN: np.ndarray
    object_mask_TN: np.ndarray
    teacher: str | None
    student: str | None
    log_p: Mapping[str, np.ndarray]
    attention: Mapping[str, np.ndarray]
    links: Links | None
    relevance_LTN: np.ndarray | None
    saliency_LT: np.ndarray | None
    saliency_LTN: np.ndarray | None
    disagreement_L: np.ndarray | None
