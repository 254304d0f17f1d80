"""Describe motion by a video model of Keras Hub."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.errors import UserError
from stg_jax.extract.keras.backend import import_keras_hub
from stg_jax.extract.keras.preset import KerasProgram, compute_in, load_preset, picture_format
from stg_jax.extract.letterbox import resize


class KerasClipEncoder:
    """A clip encoder (see `parts.ClipEncoder`) from a VideoPrism preset of Keras Hub.

    The embedding is the pooled output of a preset with text, else the mean over all tokens. A
    window holds one frame more than the model takes where that number is even; the last frame is
    left out then.

    Args:
      preset: name or folder of a VideoPrism backbone.
      batch_size: windows that the model sees at once.
      dtype: 'float32' or 'bfloat16', of the computation.

    Raises:
      UserError: Keras Hub is missing, or the preset cannot be loaded or is no VideoPrism.
    """

    def __init__(self, preset: str, *, batch_size: int, dtype: str):
        backbone = load_preset('Backbone', preset)
        if not isinstance(backbone, import_keras_hub().models.VideoPrismBackbone):
            raise UserError(
                f"'{preset}' is a {type(backbone).__name__}, which describes no motion: name a "
                "preset of VideoPrism, or 'difference'"
            )
        compute_in(dtype, backbone)
        import keras

        shape = (backbone.num_frames, *backbone.image_shape)
        window = keras.Input(shape)
        model = keras.Model(window, backbone.get_vision_embeddings(window))
        self.window = backbone.num_frames | 1
        self._num_frames = backbone.num_frames
        self._format = picture_format(preset, backbone.image_shape)
        self._program = KerasProgram(model, self._format, _pool, batch_size=batch_size)
        ((self.width,),) = self._program.shapes(shape)

    def encode(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """See `parts.ClipEncoder`."""
        (embeddings,) = self._program.run(map(self._fit, windows))
        return embeddings

    def _fit(self, window: np.ndarray) -> np.ndarray:
        """Return as many frames as the model takes, of the size that it takes."""
        return np.stack([resize(frame, self._format.size) for frame in window[: self._num_frames]])


def _pool(features: jax.Array) -> tuple[jax.Array]:
    """Return (B, width) float32 from (B, width), or from tokens (B, frames, patches, width)."""
    features = features.astype(jnp.float32)
    return (features.reshape(len(features), -1, features.shape[-1]).mean(axis=1),)
