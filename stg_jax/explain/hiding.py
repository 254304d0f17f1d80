"""The words' log-probabilities when only some frames or some objects of a clip are shown."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from stg_jax.explain import branch as reading
from stg_jax.explain.branch import Batch
from stg_jax.model.captioner import CaptioningModel

PyTree = Any

_AT_ONCE = 64  # versions of a clip in memory together


def log_p_of_shown(
    model: CaptioningModel,
    params: PyTree,
    batch: Batch,
    token_L: jax.Array,
    branch: str,
    shown_P: jax.Array,
) -> jax.Array:
    """Return (P, L - 1), the log-probability of each word in P versions of one clip.

    Args:
      model: the network.
      params: of it.
      batch: features of one clip, B = 1.
      token_L: BOS, words, and anything after them.
      branch: name of the decoder.
      shown_P: bool; (P, T) hides frames from the branch, (P, T, N) takes objects out of the graph.
    """

    def log_p(shown: jax.Array) -> jax.Array:
        seen, frames = dict(batch), None
        if shown.ndim == 1:
            frames = shown[None]
        else:
            seen['object_mask'] = batch['object_mask'] & shown
        logits_BKLV = model.apply(
            {'params': params},
            seen,
            token_L[None, None, :-1],
            branch,
            frames,
            method=reading.logits,
        )
        return reading.word_log_p(logits_BKLV[0, 0], token_L[1:])

    return jax.lax.map(log_p, shown_P, batch_size=_AT_ONCE)


@functools.lru_cache(maxsize=4)
def shown_log_p_fn(model: CaptioningModel, branch: str) -> Callable[..., jax.Array]:
    """Return `log_p_of_shown` of a branch, compiled, of (params, batch, token_L, shown_P)."""

    def log_p(params, batch, token_L, shown_P):
        return log_p_of_shown(model, params, batch, token_L, branch, shown_P)

    return jax.jit(log_p)


def frame_saliency(
    model: CaptioningModel, params: PyTree, batch: Batch, token_L: jax.Array, branch: str
) -> jax.Array:
    """Return (L - 1, T), the log-probability that each word loses when a frame is hidden.

    After the caption-guided saliency of Ramanishka et al. (2017), with the frame taken out of
    what is attended to in place of all other frames.
    """
    num_frames = batch['appearance'].shape[1]
    shown_PT = jnp.concatenate([jnp.ones((1, num_frames), bool), ~jnp.eye(num_frames, dtype=bool)])
    log_p_PL = log_p_of_shown(model, params, batch, token_L, branch, shown_PT)
    return (log_p_PL[0] - log_p_PL[1:]).T
