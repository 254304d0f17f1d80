"""The likeliest next tokens of many prefixes, without sorting the vocabulary.

Plain top-k visits every word of a vocabulary of ten thousand with an insertion or a sort. Here one
pass takes the maximum of each block of words; the k best words lie in the k best blocks, so that
only those few hundred are ranked. Equal values keep the order of `lax.top_k`, lowest id first.
"""

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.data.vocab import EOS

BLOCK = 128  # words; a vector register of an accelerator holds as many


def best_tokens(
    logp_R: jax.Array,
    logits_RV: jax.Array,
    num_tokens: int,
    *,
    banned: tuple[int, ...],
    only_eos: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Return the C = min(num_tokens, V) likeliest continuations of R prefixes, best first.

    Args:
      logp_R: log-probability of each prefix.
      logits_RV: of the next token; -inf is an impossible one.
      num_tokens: how many to find, static.
      banned: ids that are never found; their probability is not given to others.
      only_eos: scalar, whether EOS is the only choice left.

    Returns:
      float32 log-probabilities (R, C) of prefix and token together, -inf where fewer are possible,
      and their ids (R, C).
    """
    num_tokens = min(num_tokens, logits_RV.shape[-1])
    logits_RV = jnp.asarray(logits_RV, jnp.float32)
    total_fn = _totals(logp_R, logits_RV)
    # Unlike writing into the logits, a choice between values copies none of them.
    is_banned_V = np.isin(np.arange(logits_RV.shape[-1]), banned)
    allowed_RV = jnp.where(is_banned_V, -jnp.inf, logits_RV)
    id_RC = jnp.where(only_eos, EOS, _rank(allowed_RV, num_tokens, total_fn))
    total_RC = total_fn(_take(allowed_RV, id_RC))
    # EOS once: as C equal hypotheses it would fill the beam.
    again_C = np.arange(num_tokens) > 0
    return jnp.where(only_eos & again_C, -jnp.inf, total_RC), id_RC


def _totals(logp_R, logits_RV):
    """Return the function from logits (R, ...) to log-probabilities with the prefix's."""
    peak_R1 = jnp.max(logits_RV, axis=-1, keepdims=True)
    # A row of -inf alone has no softmax: subtracting its peak would make it NaN.
    peak_R1 = jnp.where(peak_R1 > -jnp.inf, peak_R1, 0.0)
    log_sum_R1 = jnp.log(jnp.sum(jnp.exp(logits_RV - peak_R1), axis=-1, keepdims=True))

    def total_fn(logits_RX):
        total_RX = logp_R[:, None] + (logits_RX - peak_R1 - log_sum_R1)
        return jnp.where(logits_RX > -jnp.inf, total_RX, -jnp.inf)

    return total_fn


def _rank(logits_RV, num_tokens, total_fn):
    """Return the ids (R, C) of the largest totals; rounding may make unequal logits equal."""
    R, V = logits_RV.shape
    num_whole = V // BLOCK
    if num_whole <= num_tokens:
        return jax.lax.top_k(total_fn(logits_RV), num_tokens)[1]
    # Padding the vocabulary to whole blocks would copy all of the logits.
    whole_RXW = logits_RV[:, : num_whole * BLOCK].reshape(R, num_whole, BLOCK)
    rest_RW = logits_RV[:, num_whole * BLOCK :]
    rest_R1 = jnp.max(rest_RW, axis=-1, keepdims=True, initial=-jnp.inf)
    peak_RX = jnp.concatenate([jnp.max(whole_RXW, axis=-1), rest_R1], axis=1)
    block_RC = jax.lax.top_k(total_fn(peak_RX), num_tokens)[1]
    # In the order of their ids, so that the first of equal words has the lowest.
    block_RC1 = jnp.sort(block_RC, axis=-1)[..., None]
    id_RX = (block_RC1 * BLOCK + np.arange(BLOCK)).reshape(R, num_tokens * BLOCK)
    inside_RX = jnp.where(id_RX < V, _take(logits_RV, jnp.minimum(id_RX, V - 1)), -jnp.inf)
    return _take(id_RX, jax.lax.top_k(total_fn(inside_RX), num_tokens)[1])


def _take(value_RX, index_RC):
    return jnp.take_along_axis(value_RX, index_RC, axis=1)
