"""The words' log-probabilities when only some frames or some objects of a clip are shown."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.explain import forward as reading
from stg_jax.explain.forward import Batch
from stg_jax.model.network import CaptioningModel

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


def cell_saliency(
    model: CaptioningModel, params: PyTree, batch: Batch, token_L: jax.Array, branch: str
) -> jax.Array:
    """Return (L - 1, T, N), the log-probability that each word loses when a grid cell is hidden.

    The frame is then the mean of its other cells, which is exact for what `cells_make_frames`
    accepts. Motion stays as it is. A branch that reads the cells themselves loses the cell, too.
    """
    object_TNC = batch['object'][0].astype(jnp.float32)
    appearance_TC = batch['appearance'][0].astype(jnp.float32)
    T, N, _ = object_TNC.shape

    def log_p(cell: jax.Array) -> jax.Array:
        t, n = jnp.divmod(cell, N)
        rest_C = (N * appearance_TC[t] - object_TNC[t, n]) / (N - 1)
        seen = dict(batch) | {
            'appearance': appearance_TC.at[t].set(rest_C)[None],
            'object_mask': batch['object_mask'].at[0, t, n].set(False),
        }
        logits_BKLV = model.apply(
            {'params': params}, seen, token_L[None, None, :-1], branch, method=reading.logits
        )
        return reading.word_log_p(logits_BKLV[0, 0], token_L[1:])

    whole_1L = log_p_of_shown(model, params, batch, token_L, branch, jnp.ones((1, T), bool))
    log_p_PL = jax.lax.map(log_p, jnp.arange(T * N), batch_size=_AT_ONCE)
    return (whole_1L - log_p_PL).T.reshape(-1, T, N)


def cells_make_frames(extractor: Mapping[str, Any], batch: Batch) -> bool:
    """Return whether a clip's objects are grid cells whose mean is the frame's appearance.

    So it is with the pooled maps of convolutional networks, and not with class tokens.

    Args:
      extractor: of the manifest.
      batch: features of one clip from it, B = 1, with all of its cells or some.
    """
    cell_TNC, appearance_TC = batch['object'][0].astype(np.float32), batch['appearance'][0]
    if extractor.get('nodes') != 'grid' or cell_TNC.shape[-1] != appearance_TC.shape[-1]:
        return False
    mean_TC = cell_TNC.mean(1)
    # Within what 16 bits keep.
    return np.allclose(mean_TC, appearance_TC, rtol=0.01, atol=0.01 * np.abs(mean_TC).max())


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
