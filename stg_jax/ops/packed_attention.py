"""Self-attention of packed captions: along the flat array of words, in windows.

The words of a caption lie next to each other, so what a word may attend to is among the few words
before it. Blocks of words attend to themselves and to the end of the block before. Captions as rows
of their own would be unpacked, moved and padded to the tiles of a TPU, 21 words to 128.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from stg_jax.ops.packing import Packing

TILE = 128  # keys of a block, or a multiple of it
ROWS = 8  # a block starts at a multiple of it

PyTree = Any
Attend = Callable[[jax.Array, PyTree, jax.Array], jax.Array]


def attend_packed(attend: Attend, query_MHE: jax.Array, own: PyTree, packing: Packing) -> jax.Array:
    """Return what each packed word reads of its caption up to itself (M, H, E).

    Args:
      attend: `attend(query (G, Q, H, E), own (G, S, ...), mask (G, Q, S))` gives (G, Q, H, E).
      query_MHE: of the words.
      own: arrays (M, ...) of the words, such as keys and values.
      packing: tells which words belong together.
    """
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
        # As flat rows, for the reason that Packing gives.
        row_GSX = with_before(blocks(x_MX.reshape(M, -1)))
        return row_GSX.reshape(*row_GSX.shape[:2], *x_MX.shape[1:])

    caption_GQ = blocks(packing.position_M // L, -1)
    same_GQS = caption_GQ[:, :, None] == with_before(caption_GQ, -1)[:, None, :]
    earlier_QS = jnp.arange(S) - before <= jnp.arange(Q)[:, None]
    own_GS = jax.tree.map(windows, own)
    read_GQHE = attend(blocks(query_MHE), own_GS, same_GQS & earlier_QS)
    return read_GQHE.reshape(G * Q, *read_GQHE.shape[2:])[:M]
