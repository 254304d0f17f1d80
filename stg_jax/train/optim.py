"""The optimizer: Adam with clipped gradients, a schedule, and an average of the weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stg_jax.config import Config, OptimConfig

PyTree = Any


def make_optimizer(config: Config, epoch_steps: int) -> optax.GradientTransformation:
    """Build the optimizer of a run with `epoch_steps` steps in each epoch."""
    optim = config.optim
    rate = _schedule(optim, epoch_steps, config.train.epochs)
    adam = optax.adam(rate)
    if optim.weight_decay:
        # Matrices only: biases and scales of normalization have no size to keep small.
        adam = optax.adamw(rate, weight_decay=optim.weight_decay, mask=_is_matrix)
    optimizer = optax.chain(optax.clip_by_global_norm(optim.clip), adam)
    return averaging(optimizer, config.train.ema) if config.train.ema else optimizer


def learning_rates(config: Config, epoch_steps: int) -> np.ndarray:
    """Compute the learning rate of every step of a run, on the host: reports need no device."""
    rate = _schedule(config.optim, epoch_steps, config.train.epochs)
    return np.asarray(jax.jit(rate)(jnp.arange(config.train.epochs * epoch_steps)))


def _schedule(config: OptimConfig, epoch_steps: int, epochs: int) -> optax.Schedule:
    """Build the schedule: a linear warm-up, then `config.decay`."""
    num_steps = epochs * epoch_steps
    warmup_steps = max(1, round(config.warmup * num_steps))

    def rate(step):
        # From 1, not 0, so that the first step counts, and fully without warm-up.
        warm = jnp.minimum(1.0, (step + 1) / warmup_steps)
        done = (step + 1 - warmup_steps) / max(1, num_steps - warmup_steps)
        left = {
            'none': lambda: 1.0,
            'cosine': lambda: (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1))) / 2,
            'linear': lambda: 1 - jnp.clip(done, 0, 1),
            'exponential': lambda: config.decay_rate ** (step // epoch_steps),
        }[config.decay]
        return config.lr * warm * left()

    return rate


def _is_matrix(params: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x.ndim > 1, params)


class AveragedState(NamedTuple):
    """State of `averaging`: that of the inner optimizer, the average, and the steps taken."""

    inner: optax.OptState
    average: PyTree
    count: jax.Array


def averaging(
    optimizer: optax.GradientTransformation, decay: float
) -> optax.GradientTransformation:
    """Keep an exponential moving average (EMA) of the weights beside an optimizer.

    After n steps the decay is at most (1 + n) / (10 + n), so that the initial weights are soon
    forgotten in a short run, too.
    """

    def init(params):
        # Copies: a step donates its state, and no buffer can be donated twice.
        return AveragedState(optimizer.init(params), jax.tree.map(jnp.array, params), jnp.int32(0))

    def update(updates, state, params: PyTree = None):
        updates, inner = optimizer.update(updates, state.inner, params)
        after = optax.apply_updates(params, updates)
        rate = 1 - jnp.minimum(decay, (1 + state.count) / (10 + state.count))
        average = jax.tree.map(lambda old, new: old + rate * (new - old), state.average, after)
        return updates, AveragedState(inner, average, state.count + 1)

    return optax.GradientTransformation(init, update)


def swap_average(params: PyTree, opt_state: PyTree) -> tuple[PyTree, PyTree]:
    """Exchange the weights and their average, where an optimizer keeps one; its own inverse.

    The first tree that it returns is evaluated and saved as the parameters of the run, so that
    nothing that loads a checkpoint has to know of averages.
    """
    if not isinstance(opt_state, AveragedState):
        return params, opt_state
    return opt_state.average, opt_state._replace(average=params)
