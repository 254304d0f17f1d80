"""The optimiser: Adam with a linear warm-up and gradient clipping."""

import optax
from ml_collections import ConfigDict


def make_optimizer(config: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """Return the chain that `config.optim` describes for a run of `num_steps` steps."""
    warmup_steps = round(config.warmup * num_steps)
    rate = optax.warmup_constant_schedule(0.0, config.lr, warmup_steps)
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
