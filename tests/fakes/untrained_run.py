"""Run folders that hold random parameters: they caption as a trained run does, only worse."""

import jax
import numpy as np
from etils import epath

from stg_jax.config import parse_config
from stg_jax.run.build import init_params
from stg_jax.run.checkpoint import Checkpoints
from stg_jax.run.folder import RunFolder
from stg_jax.train.plan import make_plan


def untrained_run(workdir, config, seed=0, params=None):
    """Save a run of `config` with random parameters as its only checkpoint; return its folder."""
    config = parse_config(config)
    plan = make_plan(config)
    if params is None:
        params = init_params(plan.model, config.data, seed)
    run = RunFolder(epath.Path(workdir), config, plan.manifest, plan.vocab)
    run.claim()
    with Checkpoints(run.checkpoints) as checkpoints:
        checkpoints.save(7, jax.device_get(params), {'count': np.zeros(1)}, {}, None)
    return workdir
