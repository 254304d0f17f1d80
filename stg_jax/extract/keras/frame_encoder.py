"""Describe pictures by an image model of Keras Hub."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.errors import UserError
from stg_jax.extract.keras.backend import import_keras_hub
from stg_jax.extract.keras.preset import KerasProgram, compute_in, load_preset, picture_format
from stg_jax.extract.letterbox import resize

if TYPE_CHECKING:
    import keras


class KerasFrameEncoder:
    """A frame encoder (see `parts.FrameEncoder`) from a Keras Hub preset.

    The map of a convolutional network is its last feature map and the embedding the mean of that;
    the map of a transformer is its last patch tokens and the embedding its class token (DINOv2,
    DINOv3, ViT, DeiT), the projection into the space shared with text (CLIP), the pooled output
    (SigLIP), or the mean of the map where there is nothing of these.

    Args:
      preset: name or folder of an image backbone.
      batch_size: pictures that the model sees at once.
      dtype: 'float32' or 'bfloat16', of the computation.

    Raises:
      UserError: Keras Hub is missing, or the preset cannot be loaded or describes no pictures.
    """

    def __init__(self, preset: str, *, batch_size: int, dtype: str):
        backbone = load_preset('Backbone', preset)
        compute_in(dtype, backbone)
        model = _picture_model(backbone, preset)
        self._format = picture_format(preset, model.input_shape[1:])
        patch = getattr(getattr(backbone, 'vision_encoder', backbone), 'patch_size', None)
        grid = patch and tuple(np.array(self._format.size) // patch)

        def finish(outputs: Any) -> tuple[jax.Array, jax.Array]:
            # Keras takes a list of one output apart.
            return _embedding_and_map(jax.tree.leaves(outputs), grid)

        self._program = KerasProgram(model, self._format, finish, batch_size=batch_size)
        (self.width,), (*_, self.map_width) = self._program.shapes((*self._format.size, 3))

    def encode(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """See `parts.FrameEncoder`."""
        # Never cropped or padded: a map has to cover the whole frame and nothing else.
        embeddings, maps = self._program.run(resize(frame, self._format.size) for frame in frames)
        return embeddings, maps


def _picture_model(backbone: 'keras.Model', preset: str) -> 'keras.Model':
    """Return the part from one picture to its features, and to its embedding where it has one."""
    import keras

    models = import_keras_hub().models
    if isinstance(backbone, models.CLIPBackbone):
        encoder = backbone.vision_encoder
        embedding = backbone.vision_projection(backbone.vision_pooler(encoder.output))
        return keras.Model(encoder.inputs[0], [encoder.output, embedding])
    if isinstance(backbone, models.SigLIPBackbone):
        encoder = backbone.vision_encoder
        return keras.Model(encoder.inputs[0], [encoder.post_layer_norm.output, encoder.output])
    ranks = [len(tensor.shape) for tensor in (*backbone.inputs, *backbone.outputs)]
    with_tokens = (
        *(models.DINOV2Backbone, models.DINOV3Backbone),
        *(models.ViTBackbone, models.DeiTBackbone),
    )
    if ranks != [4, 4] and not isinstance(backbone, with_tokens):
        raise UserError(
            f"'{preset}' is a {type(backbone).__name__}, which turns no picture into a feature "
            'map: name a preset of ResNet or another convolutional network, CLIP, SigLIP, DINOv2, '
            'DINOv3, ViT or DeiT'
        )
    return keras.Model(backbone.inputs[0], backbone.outputs)


def _embedding_and_map(
    outputs: list[jax.Array], grid: tuple[int, int] | None
) -> tuple[jax.Array, jax.Array]:
    """Return (B, width) and (B, h, w, map_width) float32 from features and perhaps an embedding.

    Args:
      outputs: a map, or tokens of the patches after any number of others, the first of them the
        class token; then the embedding where the model makes one itself.
      grid: patches in a column and in a row, where there are tokens.
    """
    features, *embedding = (output.astype(jnp.float32) for output in outputs)
    class_token = []
    if features.ndim == 3:
        first = features.shape[1] - grid[0] * grid[1]
        class_token = [features[:, 0]] if first else []
        features = features[:, first:].reshape(len(features), *grid, -1)
    candidates = [*embedding, *class_token, features.mean(axis=(1, 2))]
    return candidates[0], features
