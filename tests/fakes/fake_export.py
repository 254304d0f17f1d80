"""Exported models with random parameters, made without compiling anything."""

import jax
import numpy as np

from stg_jax.run.build import build_model, param_shapes
from stg_jax.run.folder import RunFolder
from stg_jax.run.weights import NAME, write_weights
from tests.fakes import fake_run_folder

SIZES = {
    'data.appearance_dim': 8,
    'data.motion_dim': 6,
    'data.object_dim': 5,
    'model.width': 8,
    'model.heads': 2,
    'model.feedforward': 12,
    'model.encoder_layers': 1,
    'model.decoder_layers': 1,
    'model.graph_layers': 1,
}


def shapes_of(run):
    """Return the shapes of a run's parameters."""
    return param_shapes(build_model(run.config, run.manifest, run.vocab), run.config.data)


def fake_model(path, seed=0, gain=0.3, **changes):
    """Write what an exported model holds, with random parameters of a size; return its folder."""
    run = fake_run_folder.create(path, **SIZES, **changes)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda x: (gain * rng.normal(size=x.shape)).astype(x.dtype), shapes_of(run)
    )
    write_weights(path / NAME, params, step=7, why='step 7, drawn at random')
    return RunFolder.open(path)
