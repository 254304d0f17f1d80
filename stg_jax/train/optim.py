"""The optimizer: Adam with clipped gradients and a linear warm-up."""

import jax.numpy as jnp
import optax

from stg_jax.config import OptimConfig


def make_optimizer(config: OptimConfig, num_steps: int) -> optax.GradientTransformation:
    """Build Adam with clipped gradients and linear warm-up for a run of `num_steps` steps."""
    warmup_steps = max(1, round(config.warmup * num_steps))

    def rate(step):
        # From 1, not 0, so that the first step counts, and fully without warm-up.
        return config.lr * jnp.minimum(1.0, (step + 1) / warmup_steps)

    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
