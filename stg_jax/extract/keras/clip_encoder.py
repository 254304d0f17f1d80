"""Embed motion with a video model of Keras Hub."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.errors import UserError
from stg_jax.extract.keras.preset import KerasProgram, import_keras_hub, load_preset, picture_format
from stg_jax.extract.letterbox import resize


class KerasClipEncoder:
    """A VideoPrism preset of Keras Hub, see `base.ClipEncoder`.

    The embedding is the pooled output of a preset with text, otherwise the mean over all tokens.
    A context has an odd number of frames, to be centred; a model for an even number ignores the
    last one.

    Args:
      preset: name or folder of a VideoPrism backbone.
      batch_size: contexts per call.
      dtype: 'float32' or 'bfloat16', of the computation.

    Raises:
      UserError: Keras Hub is missing, or the preset cannot be loaded or is not a VideoPrism.
    """

    def __init__(self, preset: str, *, batch_size: int, dtype: str):
        backbone: Any = load_preset('Backbone', preset, dtype)
        if not isinstance(backbone, import_keras_hub().models.VideoPrismBackbone):
            raise UserError(
                f"'{preset}' is a {type(backbone).__name__}, which describes no motion: name a "
                "preset of VideoPrism, or 'difference'"
            )
        import keras

        shape = (backbone.num_frames, *backbone.image_shape)
        # The backbone also reads text; the functional model is cut down to the vision part.
        frames = keras.Input(shape)
        model = keras.Model(frames, backbone.get_vision_embeddings(frames))
        self.context = backbone.num_frames | 1
        self._num_frames = backbone.num_frames
        self._format = picture_format(preset, backbone.image_shape)
        self._program = KerasProgram(model, self._format, _pool, batch_size=batch_size)
        ((self.width,),) = self._program.shapes(shape)

    def encode(self, contexts: Sequence[np.ndarray]) -> np.ndarray:
        """See `base.ClipEncoder`."""
        (embeddings,) = self._program.run(map(self._fit, contexts))
        return embeddings

    def _fit(self, context: np.ndarray) -> np.ndarray:
        """Cut and resize to the number and size of frames that the model was built for."""
        return np.stack([resize(frame, self._format.size) for frame in context[: self._num_frames]])


def _pool(features: jax.Array) -> tuple[jax.Array]:
    """Average tokens (B, frames, patches, width) to (B, width); pooled outputs stay as they are."""
    # The mean of thousands of bfloat16 tokens would lose most of its digits.
    features = features.astype(jnp.float32)
    return (features.reshape(len(features), -1, features.shape[-1]).mean(axis=1),)
