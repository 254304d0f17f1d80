"""The optimizer, and a digest of parameters to compare runs at a glance."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stg_jax.config import OptimConfig


def make_optimizer(config: OptimConfig, num_steps: int) -> optax.GradientTransformation:
    """Build Adam with clipped gradients and linear warm-up for a run of `num_steps` steps."""
    warmup_steps = max(1, round(config.warmup * num_steps))

    def rate(step):
        # From 1, not 0, so that the first step counts, and fully without warm-up.
        return config.lr * jnp.minimum(1.0, (step + 1) / warmup_steps)

    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))


def digest(tree: Any) -> str:
    """Hash every bit of every array to twelve hexadecimal digits."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        total.update(np.asarray(leaf).tobytes())
    return total.hexdigest()[:12]
