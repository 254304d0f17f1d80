"""Dropout whose random numbers cost little: on a CPU half as many, on a GPU those of a hash."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from stg_jax.ops.platform import is_for_gpu

_LEVELS = 1 << 16  # one of these is drawn for each number: rates are exact to 1e-5


class Dropout(nn.Module):
    """Set numbers to zero at a rate, and scale the others so that the mean stays."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Return x (..., D) with numbers dropped; the rng collection is 'dropout'."""
        if deterministic or not self.rate:
            return x
        num_kept = round((1 - self.rate) * _LEVELS)
        levels = _hashed_levels if is_for_gpu() else _drawn_levels
        level = levels(self.make_rng('dropout'), x.shape)
        return jnp.where(level < num_kept, x * (_LEVELS / num_kept), 0).astype(x.dtype)


def _drawn_levels(key, shape):
    """Return a random level for each number, two for each draw."""
    D = shape[-1]
    bits = jax.random.bits(key, (*shape[:-1], -(-D // 2)), jnp.uint32)
    return jnp.concatenate([bits >> 16, bits & (_LEVELS - 1)], axis=-1)[..., :D]


def _hashed_levels(key, shape):
    """Return a random level for each number, by a hash of its place that `key` has changed.

    A GPU computes it within the loop that drops, and again in that of the gradient. Threefry would
    be most of what such a loop does, and most of what there is to compile.
    """
    first, second = jax.lax.optimization_barrier(tuple(jax.random.bits(key, (2,), jnp.uint32)))
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    place = sum(
        jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        for axis, stride in enumerate(strides)
    )
    return _hash(_hash(place ^ first) ^ second) >> 16


def _hash(x):
    """Return 32 bits of which each depends on all of x, one to one (lowbias32 of C. Wellons)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
