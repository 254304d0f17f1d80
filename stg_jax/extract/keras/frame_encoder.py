"""Embed frames with an image model of Keras Hub."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.errors import UserError
from stg_jax.extract.keras.preset import KerasProgram, import_keras_hub, load_preset, picture_format
from stg_jax.extract.letterbox import resize

if TYPE_CHECKING:
    import keras


class KerasFrameEncoder:
    """An image preset of Keras Hub, see `base.FrameEncoder`.

    For a convolutional network the map is the last feature map and the embedding its mean. For a
    transformer the map is the last layer's patch tokens; the embedding is the class token (DINOv2,
    DINOv3, ViT, DeiT), the projection into the space shared with text (CLIP), the pooled output
    (SigLIP), or else the mean of the map.

    Args:
      preset: name or folder of an image backbone.
      batch_size: pictures per call.
      dtype: 'float32' or 'bfloat16', of the computation.

    Raises:
      UserError: Keras Hub is missing, or the preset cannot be loaded or is not an image model.
    """

    def __init__(self, preset: str, *, batch_size: int, dtype: str):
        backbone = load_preset('Backbone', preset, dtype)
        model = _picture_model(backbone, preset)
        self._format = picture_format(preset, model.input_shape[1:])
        patch = getattr(getattr(backbone, 'vision_encoder', backbone), 'patch_size', None)
        height, width = self._format.size
        grid = (height // patch, width // patch) if patch else None

        def finish(outputs: Any) -> tuple[jax.Array, jax.Array]:
            # Keras unwraps a list of one output.
            return _embedding_and_map(jax.tree.leaves(outputs), grid)

        self._program = KerasProgram(model, self._format, finish, batch_size=batch_size)
        (self.width,), (*_, self.map_width) = self._program.shapes((*self._format.size, 3))

    def encode(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """See `base.FrameEncoder`."""
        # Stretched, never cropped or padded: a map must cover the whole frame and nothing else.
        embeddings, maps = self._program.run(resize(frame, self._format.size) for frame in frames)
        return embeddings, maps


def _picture_model(backbone: Any, preset: str) -> 'keras.Model':
    """Build the model from a picture to its features and, if it has one, its embedding."""
    import keras

    models = import_keras_hub().models
    if isinstance(backbone, models.CLIPBackbone):
        encoder = backbone.vision_encoder
        embedding = backbone.vision_projection(backbone.vision_pooler(encoder.output))
        return keras.Model(encoder.inputs[0], [encoder.output, embedding])
    if isinstance(backbone, models.SigLIPBackbone):
        encoder = backbone.vision_encoder
        return keras.Model(encoder.inputs[0], [encoder.post_layer_norm.output, encoder.output])
    # A picture in and a map out are both (batch, height, width, channels).
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
    """Derive embeddings (B, width) and maps (B, h, w, map_width), float32, from a model's outputs.

    Args:
      outputs: a map, or tokens: a class token and registers, if any, then the patches. Then the
        embedding, if the model computes one itself.
      grid: rows and columns of patches, if there are tokens.
    """
    features, *embedding = (output.astype(jnp.float32) for output in outputs)
    class_token = []
    # Tokens: whatever precedes the patches are class and register tokens.
    if features.ndim == 3:
        assert grid is not None  # transformers have a patch size
        first = features.shape[1] - grid[0] * grid[1]
        class_token = [features[:, 0]] if first else []
        features = features[:, first:].reshape(len(features), *grid, -1)
    candidates = [*embedding, *class_token, features.mean(axis=(1, 2))]
    return candidates[0], features
