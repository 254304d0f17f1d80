"""The training objective from the states of a network, without a logit for every word at once.

The logits of all words outweigh everything else in a step. Here they exist for one chunk of words
at a time, of both branches together, and with them what they contribute to the gradient: so none
is kept for the backward pass, and none computed twice.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from stg_jax.config import LossConfig
from stg_jax.model.language_decoder import word_logits
from stg_jax.model.losses import Words, feature_terms, word_terms
from stg_jax.model.network import BranchStates
from stg_jax.ops.packing import Packing

CHUNK = 512  # words at most, unless MOST_CHUNKS are too few
MOST_CHUNKS = 8  # each costs a pass over the gradient of the word vectors
TILE = 128  # a TPU sums over 1,140 words 2.7 times as slowly as over 1,152

PyTree = Any


def objective(
    states: Mapping[str, BranchStates], words: Words, packing: Packing, spec: LossConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the weighted sum of the loss terms, and the terms: 'xe_<decoder>' and 'kd'.

    The gradient is that of the weighted sum; the terms are to be looked at.

    Args:
      states: by decoder name.
      words: (B, K, L) that follow the tokens read.
      packing: that of the states.
      spec: weights and variants.
    """
    D = next(iter(states.values())).hidden_MD.shape[-1]
    total, terms = _word_sums(
        spec,
        {name: of.vector_VD for name, of in states.items()},
        {name: of.hidden_MD.reshape(-1, D) for name, of in states.items()},
        jax.tree.map(lambda x_BKL: packing.pack(x_BKL).reshape(-1), words),
    )
    features = {name: of.feature_BD for name, of in states.items()}
    of_features = feature_terms(features, words, spec)
    return total + _weighted(spec, of_features), terms | of_features


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _word_sums(spec, vector, hidden, words):
    """Return what `objective` does, of the terms that need logits."""
    return _over_chunks(lambda *chunk: (_chunk_sums(spec, vector, *chunk), ()), hidden, words)[0]


def _word_sums_forward(spec, vector, hidden, words):
    def chunk_gradient(hidden, words):
        sums_fn = functools.partial(_chunk_sums, spec)
        gradient_fn = jax.value_and_grad(sums_fn, argnums=(0, 1), has_aux=True)
        sums, (of_vector, of_hidden) = gradient_fn(vector, hidden, words)
        return (sums, of_vector), of_hidden

    (sums, of_vector), of_hidden = _over_chunks(chunk_gradient, hidden, words)
    return sums, (of_vector, of_hidden)


def _word_sums_backward(spec, gradient, cotangent):
    of_vector, of_hidden = jax.tree.map(lambda x: (x * cotangent[0]).astype(x.dtype), gradient)
    return of_vector, of_hidden, None


_word_sums.defvjp(_word_sums_forward, _word_sums_backward)


def _chunk_sums(spec, vector, hidden, words):
    logits = {name: word_logits(hidden[name], vector[name]) for name in hidden}
    terms = word_terms(logits, words, spec)
    return _weighted(spec, terms), terms


def _weighted(spec, terms):
    return sum(spec.weight(name) * value for name, value in terms.items())


def _over_chunks(fn: Callable, hidden: PyTree, words: Words) -> tuple[PyTree, PyTree]:
    """Return the sum of what `fn` gives first for chunks of words, and its second joined again."""
    M = words.target_N.shape[0]
    num_chunks = min(-(-M // CHUNK), MOST_CHUNKS)
    size = -(-M // num_chunks)
    if size > 4 * TILE:
        size = -(-size // TILE) * TILE
        num_chunks = -(-M // size)

    def cut(x):
        # Chunks are of one size: what is missing is not real, and counts nowhere.
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
