"""Exported models with random parameters, made without compiling anything."""

import numpy as np

from stg_jax.run.build import build_model, feature_shapes, param_shapes
from stg_jax.run.folder import RunFolder
from stg_jax.run.weights import NAME, write_weights
from tests.fakes import fake_run_folder
from tests.fakes.fake_network import random_params

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


def fake_model(path, seed=0, gain=1.0, **changes):
    """Write what an exported model holds, with random parameters of a size; return its folder."""
    run = fake_run_folder.create(path, **SIZES | changes)
    model = build_model(run.config, run.manifest, run.vocab)
    shapes = feature_shapes(run.config.data)
    batch = {name: np.zeros((1, *x.shape), x.dtype) for name, x in shapes.items()}
    tokens = np.zeros((1, 1, 2), np.int32)
    params = random_params(model, batch, tokens, train=False, seed=seed, gain=gain)
    write_weights(path / NAME, params, step=7, why='step 7, drawn at random')
    return RunFolder.open(path)
