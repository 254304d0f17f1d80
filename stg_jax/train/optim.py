"""The optimiser: Adam with a linear warm-up and gradient clipping."""

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def make_optimizer(config: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """Return the chain that `config.optim` describes for a run of `num_steps` steps."""
    warmup_steps = max(1, round(config.warmup * num_steps))

    def rate(step):
        # From 1, not 0: the first step moves too, and without warm-up it moves fully.
        return config.lr * jnp.minimum(1.0, (step + 1) / warmup_steps)

    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
