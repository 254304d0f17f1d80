"""Describe motion by what it changes in the description of a frame."""

from collections.abc import Sequence

import numpy as np

from stg_jax.extract.base import FrameEncoder


class FrameDifference:
    """The embedding of a window's last frame minus that of its first; it needs no weights.

    Attributes:
      width: channels, those of the frame encoder.
      window: frames of a window.

    Args:
      frame_encoder: describes the two frames.
    """

    window = 3

    def __init__(self, frame_encoder: FrameEncoder):
        self._encoder = frame_encoder
        self.width = frame_encoder.width

    def encode(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """Return (P, width) float32, see `parts.ClipEncoder`."""
        first, _ = self._encoder.encode([window[0] for window in windows])
        last, _ = self._encoder.encode([window[-1] for window in windows])
        return last - first
