"""Packing: captions of uneven length as one flat array of real tokens, so padding costs no work."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Packing:
    """Index tables between M packed tokens and the P = B * K * L positions of a batch's captions.

    Attributes:
      shape_BKL: shape of the captions.
      position_M: position of each packed token; P where a slot is empty. None keeps all positions
        in their order: M = P, and packing only reshapes.
      slot_P: slot of each position; M where a position is left out.
    """

    shape_BKL: tuple[int, ...] = struct.field(pytree_node=False)
    position_M: jax.Array | None = None
    slot_P: jax.Array | None = None

    @classmethod
    def of(cls, position_M: jax.Array | None, shape_BKL: tuple[int, ...]) -> 'Packing':
        """Build the packing that keeps the positions `position_M`, or all if it is None."""
        if position_M is None:
            return cls(shape_BKL)
        B, K, L = shape_BKL
        M = len(position_M)
        slot_P = jnp.full(B * K * L, M).at[position_M].set(jnp.arange(M), mode='drop')
        return cls(shape_BKL, position_M, slot_P)

    def pack(self, x_BKL: jax.Array) -> jax.Array:
        """Gather x (B, K, L, ...) into (M, ...); empty slots become zero (False)."""
        x_P = x_BKL.reshape(-1, *x_BKL.shape[3:])
        return x_P if self.position_M is None else _gather(x_P, self.position_M, self.slot_P)

    def unpack(self, x_M: jax.Array) -> jax.Array:
        """Scatter x (M, ...) back to (B, K, L, ...); positions left out become zero."""
        x_P = x_M if self.position_M is None else _gather(x_M, self.slot_P, self.position_M)
        return x_P.reshape(*self.shape_BKL, *x_M.shape[1:])


@jax.custom_vjp
def _gather(x, source, target):
    """Compute x[source], zero where `source` is out of range; `target` is its inverse table."""
    # As flat rows: heads of 64 numbers would fill half of each vector register of a TPU.
    row = x.reshape(len(x), -1) if x.ndim > 2 else x
    return jnp.take(row, source, axis=0, mode='fill', fill_value=0).reshape(-1, *x.shape[1:])


def _gather_forward(x, source, target):
    return _gather(x, source, target), (source, target)


def _gather_backward(residuals, gradient):
    # source and target are inverse permutations, so the gradient of this gather is a gather;
    # autodiff would emit a slow scatter-add.
    source, target = residuals
    return _gather(gradient, target, source), None, None


_gather.defvjp(_gather_forward, _gather_backward)
