"""Motion without weights: how a frame encoder's embedding changes."""

from collections.abc import Sequence

import numpy as np

from stg_jax.extract.base import ClipEncoder, FrameEncoder, ModelLibrary, ModelOptions


class FrameDifference:
    """A clip encoder: the embedding of the context's last frame minus that of its first.

    Args:
      frame_encoder: describes the two frames.
    """

    # The frames before and after: motion is centred on the described frame.
    context = 3

    def __init__(self, frame_encoder: FrameEncoder):
        self._encoder = frame_encoder
        self.width = frame_encoder.width

    def encode(self, contexts: Sequence[np.ndarray]) -> np.ndarray:
        """See `base.ClipEncoder`."""
        first, _ = self._encoder.encode([context[0] for context in contexts])
        last, _ = self._encoder.encode([context[-1] for context in contexts])
        return last - first


class DifferenceLibrary(ModelLibrary):
    """The clip encoder named 'difference', which needs no model of its own."""

    example = 'difference'
    needs_model = False

    def clip_encoder(
        self, model: str, options: ModelOptions, frame_encoder: FrameEncoder
    ) -> ClipEncoder:
        """See `ModelLibrary`."""
        return FrameDifference(frame_encoder)
