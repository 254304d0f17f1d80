"""Attribute each word to objects or grid cells by integrated gradients of a branch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.explain import forward
from stg_jax.explain.forward import DeviceBatch, PyTree
from stg_jax.model.network import CaptioningModel

# Midpoints of 8 equal steps on the path from nothing (0) to the whole features (1).
PATH = (np.arange(8) + 0.5) / 8


def object_relevance(
    model: CaptioningModel,
    params: PyTree,
    batch: DeviceBatch,
    token_L: jax.Array,
    branch: str,
    factor_P: np.ndarray,
) -> jax.Array:
    """Attribute each word's log-probability to the objects of one clip, (L - 1, T, N).

    The path begins without any object. The graph's edges do not change along it: cosines ignore
    length, and overlaps ignore features.
    """
    start = jnp.zeros(batch['object'].shape)
    clip = (model, params, batch, token_L, branch)
    found_LTN = _integrated_gradients(*clip, 'object', start, factor_P, forward.word_log_p)
    return found_LTN * batch['object_mask'][0]


def cell_relevance(
    model: CaptioningModel,
    params: PyTree,
    batch: DeviceBatch,
    token_L: jax.Array,
    branch: str,
    factor_P: np.ndarray,
) -> jax.Array:
    """Attribute each word's logit to the grid cells of one clip, (L - 1, T, G)."""
    # Gradients of the input, not attention: a token has read several cells, and attention to the
    # token does not separate them. The path begins at plain frames and the score is the logit; the
    # alternatives in docs/notes/explanations_2026-12.md point at the named thing less often.
    clip = (model, params, batch, token_L, branch)
    start = forward.plain_grid(batch['grid'])
    return _integrated_gradients(*clip, 'grid', start, factor_P, forward.word_logit)


def _integrated_gradients(
    model: CaptioningModel,
    params: PyTree,
    batch: DeviceBatch,
    token_L: jax.Array,
    branch: str,
    key: str,
    start_BTMC: jax.Array,
    factor_P: np.ndarray,
    score_fn: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """Attribute a score of each word to M parts of each frame in a feature of one clip.

    What a part adds to `start` is multiplied by a factor; the derivative with respect to that
    factor is gradient times input. The result is the mean over P values shared by all factors:
    `PATH` gives integrated gradients (Sundararajan et al., 2017), [1.0] plain gradient times input.

    Args:
      model: the network.
      params: its parameters.
      batch: features of one clip, B = 1.
      token_L: BOS, the words, and any further tokens.
      branch: name of the decoder.
      key: of the feature.
      start_BTMC: the feature where the path begins.
      factor_P: points on the path.
      score_fn: maps logits (L - 1, V) and words (L - 1,) to the scores (L - 1,).

    Returns:
      (L - 1, T, M).
    """
    # Features are stored as float16, in which small gradients would underflow.
    added_BTMC = batch[key].astype(jnp.float32) - start_BTMC

    def score(factor_TM: jax.Array) -> jax.Array:
        seen = dict(batch) | {key: start_BTMC + added_BTMC * factor_TM[..., None]}
        token_BKL = token_L[None, None, :-1]
        logits_BKLV = forward.apply_logits(model, params, seen, token_BKL, branch)
        return score_fn(logits_BKLV[0, 0], token_L[1:])

    # jacrev computes the gradients of all L words at once. The P factors run one after another, to
    # need the memory of only one.
    ones_TM = jnp.ones(added_BTMC.shape[1:3])
    gradient_PLTM = jax.lax.map(
        lambda factor: jax.jacrev(score)(factor * ones_TM), jnp.asarray(factor_P, jnp.float32)
    )
    return gradient_PLTM.mean(0)
