"""A loss over many tokens, one chunk at a time, so that all logits never exist at once.

The logits of all tokens outweigh everything else in a training step. The plain definition,
`loss_fn(vector, hidden, words)` over all rows, would keep them for the backward pass. The chunked
form computes, chunk by chunk, the loss and at once its gradient with respect to states and word
vectors; nothing is kept for the backward pass and nothing is computed twice.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

CHUNK = 512  # tokens at most, unless that takes more than MOST_CHUNKS chunks
MOST_CHUNKS = 8  # each chunk costs a pass over the gradient of the word vectors
TILE = (
    128  # chunks are multiples of it: a TPU sums over 1,140 rows 2.7 times slower than over 1,152
)

PyTree = Any
# loss_fn(vector, hidden, words) -> (total, terms): sums over the rows of hidden and words, of which
# rows of zeros count nowhere.
LossFn = Callable[[PyTree, PyTree, PyTree], tuple[jax.Array, PyTree]]


def chunked_loss(
    loss_fn: LossFn, vector: PyTree, hidden: PyTree, words: PyTree
) -> tuple[jax.Array, PyTree]:
    """Compute `loss_fn(vector, hidden, words)` in chunks of rows.

    Only the total has a gradient; the terms are for looking at.

    Args:
      loss_fn: hashable, see `LossFn`.
      vector: arrays that all rows share, such as word vectors (V, D).
      hidden: arrays (M, ...), one row per token.
      words: integer or boolean arrays (M, ...), such as targets and masks.
    """
    return _in_chunks(loss_fn, vector, hidden, words)


def _without_gradient(loss_fn, vector, hidden, words):
    return _over_chunks(lambda *chunk: (loss_fn(vector, *chunk), ()), hidden, words)[0]


_in_chunks: Any = jax.custom_vjp(_without_gradient, nondiff_argnums=(0,))


def _forward(loss_fn, vector, hidden, words):
    def chunk_gradient(hidden, words):
        gradient_fn = jax.value_and_grad(loss_fn, argnums=(0, 1), has_aux=True)
        sums, (of_vector, of_hidden) = gradient_fn(vector, hidden, words)
        return (sums, of_vector), of_hidden

    # Made with the loss, in the forward pass. Recomputing each chunk in the backward pass instead
    # (jax.checkpoint) takes the same memory and 10 to 15 % more time.
    (sums, of_vector), of_hidden = _over_chunks(chunk_gradient, hidden, words)
    return sums, (of_vector, of_hidden)


def _backward(loss_fn, gradient, cotangent):
    of_vector, of_hidden = jax.tree.map(lambda x: (x * cotangent[0]).astype(x.dtype), gradient)
    return of_vector, of_hidden, None


_in_chunks.defvjp(_forward, _backward)


def _over_chunks(fn: Callable, hidden: PyTree, words: PyTree) -> tuple[PyTree, PyTree]:
    """Apply `fn` to chunks of rows; sum its first result and concatenate its second."""
    M = len(jax.tree.leaves(words)[0])
    num_chunks = min(-(-M // CHUNK), MOST_CHUNKS)
    size = -(-M // num_chunks)
    if size > 4 * TILE:
        size = -(-size // TILE) * TILE
        num_chunks = -(-M // size)

    def cut(x):
        # The last chunk is filled up with rows of zeros, which count nowhere.
        x = jnp.pad(x, [(0, num_chunks * size - M)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(num_chunks, size, *x.shape[1:])

    def add_chunk(total, chunk):
        part, rows = fn(*chunk)
        return jax.tree.map(jnp.add, total, part), rows

    chunks = jax.tree.map(cut, (hidden, words))
    shapes = jax.eval_shape(lambda: fn(*jax.tree.map(lambda x: x[0], chunks))[0])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, rows = jax.lax.scan(add_chunk, zeros, chunks)
    return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:M], rows)
