"""The network that a run's config describes, and the arrays it reads."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from stg_jax.data.manifest import Manifest
from stg_jax.data.vocab import Vocabulary
from stg_jax.model.network import CaptioningModel, ModelSpec

PyTree = Any


def build_model(config: ConfigDict, manifest: Manifest, vocab: Vocabulary) -> CaptioningModel:
    """Build the network of a config; vocabulary size and feature scales come from the data."""
    scale = tuple(manifest.scale[kind] for kind in ('appearance', 'motion', 'object'))
    return CaptioningModel(
        ModelSpec(
            **config.model,
            max_words=config.data.max_words,
            vocab_size=len(vocab),
            scale=scale,
            grid_cells=config.data.get('grid_cells', 0),
            grid_scale=manifest.scale.get('grid', 1.0),
        )
    )


def feature_shapes(config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """Return what the network reads of one clip, by name."""
    data = config.data
    T, N = data.frames, data.objects
    shapes = {
        'appearance': jax.ShapeDtypeStruct((T, data.appearance_dim), jnp.float16),
        'motion': jax.ShapeDtypeStruct((T, data.motion_dim), jnp.float16),
        'object': jax.ShapeDtypeStruct((T, N, data.object_dim), jnp.float16),
        'box': jax.ShapeDtypeStruct((T, N, 4), jnp.float32),
        'object_mask': jax.ShapeDtypeStruct((T, N), jnp.bool_),
    }
    if G := data.get('grid_cells', 0):
        shapes['grid'] = jax.ShapeDtypeStruct((T, G, data.grid_dim), jnp.float16)
    return shapes


def init_params(model: CaptioningModel, config: ConfigDict, seed: int) -> PyTree:
    """Draw the initial parameters."""
    batch = {key: jnp.zeros((1, *x.shape), x.dtype) for key, x in feature_shapes(config).items()}
    token_BKL = jnp.zeros((1, 1, 2), jnp.int32)
    init = jax.jit(lambda rng: model.init(rng, batch, token_BKL, False)['params'])
    return init(jax.random.key(seed))


def param_shapes(model: CaptioningModel, config: ConfigDict) -> PyTree:
    """Return the shapes of the parameters without drawing them."""
    return jax.eval_shape(lambda: init_params(model, config, 0))
