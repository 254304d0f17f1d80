"""Parameters in twelve letters, to compare runs at a glance."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict


def make_optimizer(config: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """Return the chain that `config.optim` describes for a run of `num_steps` steps."""
    warmup_steps = max(1, round(config.warmup * num_steps))

    def rate(step):
        # From 1, not 0: the first step moves too, and without warm-up it moves fully.
        return config.lr * jnp.minimum(1.0, (step + 1) / warmup_steps)

    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))


def digest(tree: Any) -> str:
    """Return a hash of every bit of every array."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        total.update(np.asarray(leaf).tobytes())
    return total.hexdigest()[:12]
