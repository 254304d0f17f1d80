"""Dropout that draws half as many random bits as the library's."""

import jax
import jax.numpy as jnp
from flax import linen as nn

_LEVELS = 1 << 16  # one of these is drawn for each number: rates are exact to 1e-5


class Dropout(nn.Module):
    """Set numbers to zero at a rate, and scale the others so that the mean stays.

    Each 32 random bits decide about two numbers: on a CPU, drawing them is what dropout costs.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Return x (..., D) with numbers dropped; the rng collection is 'dropout'."""
        if deterministic or not self.rate:
            return x
        num_kept = round((1 - self.rate) * _LEVELS)
        D = x.shape[-1]
        bits = jax.random.bits(self.make_rng('dropout'), (*x.shape[:-1], -(-D // 2)), jnp.uint32)
        level = jnp.concatenate([bits >> 16, bits & (_LEVELS - 1)], axis=-1)[..., :D]
        return jnp.where(level < num_kept, x * (_LEVELS / num_kept), 0).astype(x.dtype)
