"""What a training left behind: its last parameters and its log."""

import json

import jax
import numpy as np

from stg_jax.run.build import build_model, param_shapes
from stg_jax.run.checkpoint import restore_params
from stg_jax.run.folder import RunFolder


def final_params(workdir):
    """Return the latest parameters and their step."""
    run = RunFolder.open(workdir)
    shapes = param_shapes(build_model(run.config, run.manifest, run.vocab), run.config.data)
    return restore_params(run.checkpoints, shapes, 'latest')


def assert_same(left, right):
    """Compare results of `final_params`, bit for bit."""
    assert left[1] == right[1], 'the runs ended at different steps'
    jax.tree.map(np.testing.assert_array_equal, left[0], right[0])


def log(workdir):
    """Return the records of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
