"""Captions of uneven length as one flat array of words, so that padding costs no work."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Packing:
    """Where M packed words stand among the P = B * K * L positions of a batch's captions.

    Attributes:
      position_M: the position of each packed word; P for a slot that holds none.
      slot_P: the slot of each position; M for a position that is left out.
      shape_BKL: of the captions.

    Without these nothing is packed: arrays keep their axes (B, K, L, ...) and every position.
    """

    position_M: jax.Array | None = None
    slot_P: jax.Array | None = None
    shape_BKL: tuple[int, int, int] | None = struct.field(pytree_node=False, default=None)

    @classmethod
    def of(cls, position_M: jax.Array | None, shape_BKL: tuple[int, int, int]) -> 'Packing':
        """Return the packing that keeps the positions `position_M`, or all if it is None."""
        if position_M is None:
            return WHOLE
        B, K, L = shape_BKL
        M = len(position_M)
        slot_P = jnp.full(B * K * L, M).at[position_M].set(jnp.arange(M), mode='drop')
        return cls(position_M, slot_P, shape_BKL)

    def pack(self, x_BKL: jax.Array) -> jax.Array:
        """Return (M, ...) of x (B, K, L, ...); zero (False) at empty slots."""
        if self.position_M is None:
            return x_BKL
        x_P = x_BKL.reshape(-1, *x_BKL.shape[3:])
        return _moved(x_P, self.position_M, self.slot_P)

    def unpack(self, x_M: jax.Array) -> jax.Array:
        """Return (B, K, L, ...) of x (M, ...); zero at positions that are left out."""
        if self.position_M is None:
            return x_M
        return _moved(x_M, self.slot_P, self.position_M).reshape(*self.shape_BKL, *x_M.shape[1:])


WHOLE = Packing()


@jax.custom_vjp
def _moved(x, source, target):
    """Return x[source], zero where that is out of range; `target` is the inverse of `source`."""
    # As flat rows: heads of 64 would fill half of each vector register of a TPU.
    row = x.reshape(len(x), -1) if x.ndim > 2 else x
    return jnp.take(row, source, axis=0, mode='fill', fill_value=0).reshape(-1, *x.shape[1:])


def _moved_forward(x, source, target):
    return _moved(x, source, target), (source, target)


def _moved_backward(residuals, gradient):
    # No two places read the same row: the scatter-add that autodiff would take is a gather too.
    source, target = residuals
    return _moved(gradient, target, source), None, None


_moved.defvjp(_moved_forward, _moved_backward)
