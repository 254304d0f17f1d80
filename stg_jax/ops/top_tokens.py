"""The most likely next tokens of many prefixes, without sorting the vocabulary.

The plain definition, `plain_top_tokens`, ranks the whole vocabulary. The tuned form takes the
maximum of each block of words in one pass; the k best words are in the k best blocks, so only those
few hundred words are ranked. Equal values keep the order of `lax.top_k`, lowest id first.
"""

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.data.vocab import EOS
from stg_jax.ops.platform import is_for_cpu

BLOCK = 128  # words, one row of a TPU's vector register


def plain_top_tokens(
    logp_R: jax.Array,
    logits_RV: jax.Array,
    num_tokens: int,
    *,
    banned: tuple[int, ...],
    only_eos: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Rank the continuations of R prefixes over the whole vocabulary; arguments of `top_tokens`."""
    id_V = np.arange(logits_RV.shape[1])
    allowed_V = ~np.isin(id_V, banned) & ((id_V == EOS) | ~only_eos)
    allowed_RV = allowed_V & (logits_RV > -jnp.inf)
    total_RV = logp_R[:, None] + jax.nn.log_softmax(logits_RV)
    return jax.lax.top_k(jnp.where(allowed_RV, total_RV, -jnp.inf), num_tokens)


def top_tokens(
    logp_R: jax.Array,
    logits_RV: jax.Array,
    num_tokens: int,
    *,
    banned: tuple[int, ...],
    only_eos: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Find the C = min(num_tokens, V) most likely continuations of R prefixes, best first.

    Args:
      logp_R: log-probability of each prefix.
      logits_RV: of the next token; -inf marks an impossible one.
      num_tokens: how many to find, static.
      banned: ids below V that are never returned; their probability is not redistributed.
      only_eos: scalar, whether EOS is the only choice left.

    Returns:
      float32 log-probabilities (R, C) of prefix and token together, -inf where fewer are possible,
      and their ids (R, C).
    """
    num_tokens = min(num_tokens, logits_RV.shape[-1])
    logits_RV = jnp.asarray(logits_RV, jnp.float32)
    peak_RX = _block_peaks(logits_RV)
    total_fn = _totals(logp_R, logits_RV, jnp.max(peak_RX, axis=-1, keepdims=True))
    id_RC = _rank(logits_RV, peak_RX, banned, num_tokens, total_fn)
    # A hypothesis of the greatest length must end here, whatever the network prefers.
    id_RC = jnp.where(only_eos, EOS, id_RC)
    total_RC = total_fn(_allowed(_take(logits_RV, id_RC), id_RC, banned))
    # EOS only once: C equal hypotheses would fill the beam.
    again_C = np.arange(num_tokens) > 0
    return jnp.where(only_eos & again_C, -jnp.inf, total_RC), id_RC


def _block_peaks(logits_RV):
    """Compute the largest logit of each block (R, X); the last block may be short."""
    R, V = logits_RV.shape
    if is_for_cpu():
        short, block = -V % BLOCK, (1, BLOCK)
        return jax.lax.reduce_window(
            logits_RV, -jnp.inf, jax.lax.max, block, block, [(0, 0), (0, short)]
        )
    # Reshape the whole blocks and append the rest: padding would copy all logits.
    num_whole = V // BLOCK
    whole_RXW = logits_RV[:, : num_whole * BLOCK].reshape(R, num_whole, BLOCK)
    rest_RW = logits_RV[:, num_whole * BLOCK :]
    peaks = [jnp.max(whole_RXW, axis=-1)]
    if rest_RW.shape[1]:
        peaks.append(jnp.max(rest_RW, axis=-1, keepdims=True))
    return jnp.concatenate(peaks, axis=1)


def _totals(logp_R, logits_RV, peak_R1):
    """Build the function from logits (R, ...) to log-probabilities of prefix and token."""
    # A row of nothing but -inf has no softmax: subtracting its peak would give NaN.
    peak_R1 = jnp.where(peak_R1 > -jnp.inf, peak_R1, 0.0)
    log_sum_R1 = jnp.log(jnp.sum(jnp.exp(logits_RV - peak_R1), axis=-1, keepdims=True))

    def total_fn(logits_RX):
        total_RX = logp_R[:, None] + (logits_RX - peak_R1 - log_sum_R1)
        return jnp.where(logits_RX > -jnp.inf, total_RX, -jnp.inf)

    return total_fn


def _rank(logits_RV, peak_RX, banned, num_tokens, total_fn):
    """Find the ids (R, C) of the largest totals.

    Totals are ranked and not logits, because rounding may make unequal logits equal.
    """
    (R, V), X = logits_RV.shape, peak_RX.shape[1]
    id_V = np.arange(V)
    if num_tokens >= X:
        return jax.lax.top_k(total_fn(_allowed(logits_RV, id_V, banned)), num_tokens)[1]
    # Few blocks hold a banned word; masking all logits would copy them.
    for x in sorted({token // BLOCK for token in banned}):
        block = slice(x * BLOCK, (x + 1) * BLOCK)
        allowed_RW = _allowed(logits_RV[:, block], id_V[block], banned)
        peak_RX = peak_RX.at[:, x].set(jnp.max(allowed_RW, axis=-1))
    block_RC = jax.lax.top_k(total_fn(peak_RX), num_tokens)[1]
    # Sort the blocks by id, so that the first of equal words has the lowest id.
    block_RC1 = jnp.sort(block_RC, axis=-1)[..., None]
    id_RY = (block_RC1 * BLOCK + np.arange(BLOCK)).reshape(R, num_tokens * BLOCK)
    inside_RY = _allowed(_take(logits_RV, jnp.minimum(id_RY, V - 1)), id_RY, banned)
    inside_RY = jnp.where(id_RY < V, inside_RY, -jnp.inf)
    return _take(id_RY, jax.lax.top_k(total_fn(inside_RY), num_tokens)[1])


def _allowed(value_RX, id_X, banned):
    """Replace the values of banned ids by -inf."""
    return jnp.where((id_X[..., None] == np.array(banned, int)).any(-1), -jnp.inf, value_RX)


def _take(value_RX, index_RC):
    return jnp.take_along_axis(value_RX, index_RC, axis=1)
