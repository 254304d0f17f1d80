"""The training step: loss, gradient and update of one batch, the same on one device or on many.

A step is a pure function of its state and batch, so a resumed run repeats it bit for bit.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stg_jax.config import LossConfig
from stg_jax.data.vocab import PAD
from stg_jax.model.losses import Words, objective
from stg_jax.model.network import CaptioningModel, DeviceBatch
from stg_jax.ops.packing import Packing
from stg_jax.ops.platform import is_for_cpu
from stg_jax.parallel.mapped import over_devices
from stg_jax.parallel.sharding import AXIS
from stg_jax.train.augment import Augmentation

PyTree = Any
Metrics = dict[str, jax.Array]


@struct.dataclass
class TrainState:
    """What a step changes.

    `finite` turns False at the first step whose loss is NaN or infinite. From then on no step
    changes anything: the host looks at the metrics one step late, and must still find the state
    from before the bad step.
    """

    step: jax.Array
    params: PyTree
    opt_state: optax.OptState
    finite: jax.Array


def init_state(params: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    """Build the state before the first step."""
    return TrainState(jnp.int32(0), params, optimizer.init(params), jnp.bool_(True))


def make_train_step(
    model: CaptioningModel,
    loss: LossConfig,
    optimizer: optax.GradientTransformation,
    **options: Any,
) -> Callable[[TrainState, DeviceBatch], tuple[TrainState, Metrics]]:
    """Build `train_step(state, batch) -> (state, metrics)`, to be mapped over the axis `AXIS`.

    Args:
      model: the network.
      loss: weights and variants of the loss.
      optimizer: turns the mean gradient per real token into updates.
      **options: of `make_gradient`.
    """
    mean_gradient = make_gradient(model, loss, **options)

    def train_step(state: TrainState, batch: DeviceBatch):
        terms, gradient = mean_gradient(state.params, state.step, batch)
        return apply_gradient(state, gradient, metrics_of(terms, loss), optimizer)

    return train_step


def make_gradient(
    model: CaptioningModel,
    loss: LossConfig,
    *,
    seed: int,
    accumulate: int,
    augment: Augmentation = lambda batch, rng: batch,
) -> Callable[[PyTree, jax.Array, DeviceBatch], tuple[Metrics, PyTree]]:
    """Build `gradient(params, step, batch)`, to be mapped over the axis `AXIS`.

    It returns the sums of the loss terms over the tokens of all devices, and the gradient of the
    mean loss per real token. If a batch has 'packed_position', only real tokens are computed;
    otherwise all padded positions are.

    Args:
      model: the network.
      loss: weights and variants of the loss.
      seed: of dropout, together with the step and the device.
      accumulate: micro-batches whose gradients are summed.
      augment: changes features at random, see `make_augmentation`.
    """

    def mean_gradient(params: PyTree, step: jax.Array, batch: DeviceBatch):
        # By step and device, not by split keys in the state: a resumed run needs no saved keys.
        rng = jax.random.fold_in(jax.random.key(seed), step)
        rng = jax.random.fold_in(rng, jax.lax.axis_index(AXIS))
        # Micro-batches fold in the numbers before this one.
        batch = augment(batch, jax.random.fold_in(rng, accumulate))
        # Of all devices and micro-batches: a mean of their means would weight captions by chance.
        num_tokens = jnp.maximum(over_devices(jnp.sum(_is_real(batch))), 1)

        def mean_objective(params, micro_batch, micro_rng):
            # Divided before the gradient is taken: dividing the gradient would be one more pass
            # over all parameters.
            total, terms = _objective(params, model, loss, micro_batch, micro_rng)
            return total / num_tokens, terms

        # One sum over devices for gradient and terms: each call costs a round trip of the network.
        return over_devices(_accumulated_gradient(mean_objective, params, batch, rng, accumulate))

    return mean_gradient


def make_eval_step(
    model: CaptioningModel, loss: LossConfig
) -> Callable[[PyTree, DeviceBatch], dict[str, jax.Array]]:
    """Build `eval_step(params, batch)`: sums of the loss terms and of real tokens, over devices."""

    def eval_step(params: PyTree, batch: DeviceBatch):
        _, terms = _objective(params, model, loss, batch, None)
        return over_devices(terms)

    return eval_step


def mean_terms(terms: Mapping[str, Any], loss: LossConfig) -> dict[str, Any]:
    """Turn sums over tokens into means per token, with the weighted 'loss'."""
    num_tokens = terms['tokens']
    means = {key: value / num_tokens for key, value in terms.items() if key != 'tokens'}
    total = sum(loss.weight(key) * value for key, value in means.items())
    return {'loss': total, **means}


def _objective(params, model, loss, batch, dropout_rng):
    """Compute the weighted sum of the loss terms, and the terms themselves."""
    token_BKL = batch['tokens']
    target_BKL, real_BKL = token_BKL[..., 1:], _is_real(batch)
    packing = Packing.of(batch.get('packed_position'), target_BKL.shape)

    def states(rng):
        rngs = None if rng is None else {'dropout': rng}
        inputs = batch, token_BKL[..., :-1], rng is not None, packing
        return model.apply({'params': params}, *inputs, rngs=rngs, method='states')

    again = None
    if loss.r_drop and dropout_rng is not None:
        again = states(jax.random.fold_in(dropout_rng, 1))
    has_object_B = batch['object_mask'].any((1, 2))
    words = Words.of(target_BKL, real_BKL, has_object_B, batch.get('caption_weight'))
    total, terms = objective(states(dropout_rng), words, packing, loss, again)
    return total, terms | {'tokens': jnp.sum(real_BKL, dtype=jnp.float32)}


def _is_real(batch):
    """Mark (B, K, L) where there is a token to predict."""
    return batch['tokens'][..., 1:] != PAD


def _accumulated_gradient(objective_fn, params, batch, rng, accumulate):
    """Sum (terms, gradient) over the micro-batches of this device."""
    gradient_fn = jax.value_and_grad(objective_fn, has_aux=True)

    def micro_gradient(index, micro_batch):
        micro_rng = jax.random.fold_in(rng, index)
        (_, terms), gradient = gradient_fn(params, micro_batch, micro_rng)
        return terms, gradient

    if accumulate == 1:  # the usual case needs no loop, and no zeros to add to
        return micro_gradient(0, batch)
    # A loop, so that only one micro-batch is in memory at a time: that is its whole purpose.
    parts = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), dict(batch))
    shapes = jax.eval_shape(micro_gradient, 0, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add_part(total, part):
        return jax.tree.map(jnp.add, total, micro_gradient(*part)), None

    return jax.lax.scan(add_part, zeros, (jnp.arange(accumulate), parts))[0]


def metrics_of(terms: Metrics, loss: LossConfig) -> Metrics:
    """Turn sums over tokens into the metrics of a step: means, and the number of tokens."""
    # A batch of padding clips only has no tokens, and a loss of zero.
    means = mean_terms(terms | {'tokens': jnp.maximum(terms['tokens'], 1)}, loss)
    return means | {'tokens': terms['tokens']}


def apply_gradient(
    state: TrainState,
    gradient: PyTree,
    metrics: Metrics,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """Update the parameters, unless this or an earlier loss was not finite.

    Returns:
      The new state, and the metrics with 'grad_norm'.
    """
    metrics = metrics | {'grad_norm': optax.tree.norm(gradient)}
    finite = state.finite & jnp.isfinite(metrics['loss']) & jnp.isfinite(metrics['grad_norm'])

    def updated():
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state, finite)

    if is_for_cpu():
        # A branch: to select between two trees, XLA for CPUs first copies the whole state.
        return jax.lax.cond(
            finite, updated, lambda: dataclasses.replace(state, finite=finite)
        ), metrics
    # A selection: accelerators fuse it with the update, and a branch would keep the update from
    # being fused with the gradient.
    kept = dataclasses.replace(state, finite=finite)
    return jax.tree.map(lambda x, y: jnp.where(finite, x, y), updated(), kept), metrics
