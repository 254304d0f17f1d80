"""The network that a config describes, the arrays that it reads, and its parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from stg_jax.config import Config, DataConfig
from stg_jax.data.manifest import Manifest
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from stg_jax.model.encoders import check_grid
from stg_jax.model.network import CaptioningModel

PyTree = Any


def build_model(config: Config, manifest: Manifest, vocab: Vocabulary) -> CaptioningModel:
    """Build the network for a data set, which decides the vocabulary size and feature scales."""
    scale = manifest.scale['appearance'], manifest.scale['motion'], manifest.scale['object']
    return build_model_without_data(config, len(vocab), scale, manifest.scale.get('grid', 1.0))


def build_model_without_data(
    config: Config,
    vocab_size: int,
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
    grid_scale: float = 1.0,
) -> CaptioningModel:
    """Build the network for features and words that do not exist, as benchmarks need it.

    Raises:
      UserError: the network reads a grid, and the config of the data has no square one.
    """
    if config.model.reads_grid:
        check_grid(config.data.grid_cells, config.model.grid_poolings)
    return CaptioningModel(config.model, config.data.max_words, vocab_size, scale, grid_scale)


def feature_shapes(data: DataConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of one clip's features, by the names that a batch uses.

    Raises:
      UserError: a width is left to a data folder that was not read.
    """
    for key in ('appearance_dim', 'motion_dim', 'object_dim'):
        if not getattr(data, key):
            raise UserError(
                f'config.data.{key} is 0, as wide as in the data folder: state it, as none is read'
            )
    T, N = data.frames, data.objects
    shapes = {
        'appearance': jax.ShapeDtypeStruct((T, data.appearance_dim), jnp.float16),
        'motion': jax.ShapeDtypeStruct((T, data.motion_dim), jnp.float16),
        'object': jax.ShapeDtypeStruct((T, N, data.object_dim), jnp.float16),
        'box': jax.ShapeDtypeStruct((T, N, 4), jnp.float32),
        'object_mask': jax.ShapeDtypeStruct((T, N), jnp.bool_),
    }
    if G := data.grid_cells:
        shapes['grid'] = jax.ShapeDtypeStruct((T, G, data.grid_dim), jnp.float16)
    return shapes


def init_params(model: CaptioningModel, data: DataConfig, seed: int) -> PyTree:
    """Draw the initial parameters."""
    batch = {key: jnp.zeros((1, *x.shape), x.dtype) for key, x in feature_shapes(data).items()}
    # Parameters depend on no size of the batch: one caption of two tokens is the least work.
    token_BKL = jnp.zeros((1, 1, 2), jnp.int32)
    # Jitted: without it, every operation of the network is compiled by itself.
    init = jax.jit(lambda rng: model.init(rng, batch, token_BKL, False)['params'])
    return init(jax.random.key(seed))


def param_shapes(model: CaptioningModel, data: DataConfig) -> PyTree:
    """Return the shapes of the parameters without drawing them."""
    return jax.eval_shape(lambda: init_params(model, data, 0))
