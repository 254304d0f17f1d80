"""The three pluggable parts of an extractor, as the rest of it sees them."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Detections:
    """The objects of one frame, best first.

    Attributes:
      box: (n, 4) float32, x1 y1 x2 y2 divided by frame width and height, in [0, 1], x1 < x2.
      score: (n,) float32, confidence in [0, 1], not increasing.
      label: (n,) int32, the detector's class.
    """

    box: np.ndarray
    score: np.ndarray
    label: np.ndarray


class Detector(Protocol):
    """Finds objects in frames.

    Attributes:
      class_names: of the classes by number, '' for one without; empty where unknown.
    """

    class_names: Sequence[str]

    def detect(self, frames: Sequence[np.ndarray], max_objects: int) -> list[Detections]:
        """Return the at most `max_objects` best objects of each of F frames.

        Args:
          frames: F frames (h, w, 3) uint8 RGB; sizes may differ from one to the next.
          max_objects: N.
        """


class FrameEncoder(Protocol):
    """Describes pictures.

    Attributes:
      width: channels of an embedding.
      map_width: channels of a feature map, 0 where the encoder has none.
    """

    width: int
    map_width: int

    def encode(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (F, width) float32 embeddings and (F, h, w, map_width) float32 maps, or None.

        A map covers the whole frame, stretched to the encoder's input size: cell (i, j) of (h, w)
        looks at rows i/h to (i+1)/h and columns j/w to (j+1)/w of the picture.
        """


class ClipEncoder(Protocol):
    """Describes motion.

    Attributes:
      width: channels of an embedding.
      window: number of consecutive frames that it looks at.
    """

    width: int
    window: int

    def encode(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """Return (P, width) float32 for P windows (window, h, w, 3) uint8 RGB of any sizes."""
