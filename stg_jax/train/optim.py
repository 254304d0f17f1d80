"""The optimizer: Adam with clipped gradients and a linear warm-up."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from stg_jax.config import OptimConfig


def make_optimizer(config: OptimConfig, num_steps: int) -> optax.GradientTransformation:
    """Build Adam with clipped gradients for a run of `num_steps` steps."""
    rate = _learning_rate(config, num_steps)
    adam = optax.adam(rate)
    if config.weight_decay:
        # Matrices only: biases and scales of normalization have no size to keep small.
        adam = optax.adamw(rate, weight_decay=config.weight_decay, mask=_is_matrix)
    return optax.chain(optax.clip_by_global_norm(config.clip), adam)


def _learning_rate(config: OptimConfig, num_steps: int) -> optax.Schedule:
    """Build the schedule: a linear warm-up, then constant or half a cosine down to zero."""
    warmup_steps = max(1, round(config.warmup * num_steps))

    def rate(step):
        # From 1, not 0, so that the first step counts, and fully without warm-up.
        warm = jnp.minimum(1.0, (step + 1) / warmup_steps)
        if config.decay == 'none':
            return config.lr * warm
        done = (step + 1 - warmup_steps) / max(1, num_steps - warmup_steps)
        return config.lr * warm * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1))) / 2

    return rate


def _is_matrix(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)
