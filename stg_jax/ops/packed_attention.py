"""Causal self-attention over packed captions, computed in blocks of the flat token array.

The tokens of a caption are neighbours in the flat array, so a token attends only to itself and to
a few tokens before it. The plain form attends caption by caption over unpacked, padded rows; the
tuned form cuts the flat array into blocks, each attending to itself and to the end of the block
before. Rows of 21 words would be padded to a TPU's tiles of 128; blocks fill them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from stg_jax.ops.packing import Packing

TILE = 128  # the keys of a block are a multiple of a TPU's lane count
ROWS = 8  # blocks start at multiples of a TPU's sublane count

PyTree = Any
# attend(query (G, Q, H, E), keys and values (G, S, H, E) each, mask (G, Q, S)) -> (G, Q, H, E)
Attend = Callable[[jax.Array, PyTree, jax.Array], jax.Array]


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
    read_GQHE = attend(blocks(query_MHE), own_GS, same_GQS & earlier_QS)
    return read_GQHE.reshape(G * Q, *read_GQHE.shape[2:])[:M]
