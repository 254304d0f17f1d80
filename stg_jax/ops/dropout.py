"""Dropout with cheap random bits: 16 per number on a CPU and TPU, a hash of the place on a GPU."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from stg_jax.ops.platform import is_for_gpu

_LEVELS = 1 << 16  # a number is kept if its 16-bit level is low enough: rates are exact to 1e-5


class Dropout(nn.Module):
    """Zero each number with probability `rate`, and scale the others so that the mean stays."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Drop numbers of x (..., D); random bits come from the rng collection 'dropout'."""
        if deterministic or not self.rate:
            return x
        # An integer comparison needs no conversion of the bits to floats.
        num_kept = round((1 - self.rate) * _LEVELS)
        random_levels = _hashed_levels if is_for_gpu() else _drawn_levels
        level = random_levels(self.make_rng('dropout'), x.shape)
        return jnp.where(level < num_kept, x * (_LEVELS / num_kept), 0).astype(x.dtype)


def _drawn_levels(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draw a random level in [0, 2**16) for each number, two from each 32-bit draw."""
    D = shape[-1]
    bits = jax.random.bits(key, (*shape[:-1], -(-D // 2)), jnp.uint32)
    return jnp.concatenate([bits >> 16, bits & (_LEVELS - 1)], axis=-1)[..., :D]


def _hashed_levels(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Hash the flat index of each number, keyed by two draws, to a level in [0, 2**16).

    A GPU recomputes the hash inside the fused loops of forward and backward pass. Threefry would
    dominate both the run time and the compile time of these loops.
    """
    first, second = jax.lax.optimization_barrier(tuple(jax.random.bits(key, (2,), jnp.uint32)))
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    index = sum(
        jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        for axis, stride in enumerate(strides)
    )
    return _mix(_mix(index ^ first) ^ second) >> 16


def _mix(x):
    """Map 32 bits to 32 bits, one to one, each output bit depending on all inputs (lowbias32)."""
    # Constants: C. Wellons, "Prospecting for Hash Functions", 2018.
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
