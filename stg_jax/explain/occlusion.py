"""Occlusion: the words' log-probabilities when frames, objects or cells of a clip are hidden."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.explain import forward
from stg_jax.explain.forward import DeviceBatch, PyTree
from stg_jax.model.network import CaptioningModel

_AT_ONCE = 64  # versions of a clip that are in memory together
Part = Literal['frame', 'object', 'cell']


def log_p_of_shown(
    model: CaptioningModel,
    params: PyTree,
    batch: DeviceBatch,
    token_L: jax.Array,
    branch: str,
    part: Part,
    shown_P: jax.Array,
) -> jax.Array:
    """Compute each word's log-probability in P versions of one clip, (P, L - 1).

    Args:
      model: the network.
      params: its parameters.
      batch: features of one clip, B = 1.
      token_L: BOS, the words, and any further tokens.
      branch: name of the decoder.
      part: 'frame' hides frames from the branch's attention, 'object' removes objects from the
        graph, 'cell' replaces cells of the grid by the frame's median cell.
      shown_P: bool, False for what is hidden; (P, T), (P, T, N) or (P, T, G) by `part`.
    """

    def log_p(shown: jax.Array) -> jax.Array:
        seen, frames = dict(batch), None
        if part == 'frame':
            frames = shown[None]
        elif part == 'object':
            seen['object_mask'] = batch['object_mask'] & shown
        else:
            plain_BTGC = forward.plain_grid(batch['grid'])
            seen['grid'] = jnp.where(shown[..., None], batch['grid'], plain_BTGC)
        token_BKL = token_L[None, None, :-1]
        logits_BKLV = forward.apply_logits(model, params, seen, token_BKL, branch, frames)
        return forward.word_log_p(logits_BKLV[0, 0], token_L[1:])

    # A vmap over all versions would hold P copies of the activations; a loop in Python would pay
    # the dispatch of every operation P times.
    return jax.lax.map(log_p, shown_P, batch_size=_AT_ONCE)


@functools.lru_cache(maxsize=4)
def shown_log_p_fn(model: CaptioningModel, branch: str, part: Part) -> Callable[..., jax.Array]:
    """Compile `log_p_of_shown` for a branch; it takes (params, batch, token_L, shown_P)."""

    def log_p(params, batch, token_L, shown_P):
        return log_p_of_shown(model, params, batch, token_L, branch, part, shown_P)

    return jax.jit(log_p)


def cell_saliency(
    model: CaptioningModel, params: PyTree, batch: DeviceBatch, token_L: jax.Array, branch: str
) -> jax.Array:
    """Compute how much log-probability each word loses when a grid cell is hidden, (L - 1, T, N).

    The frame becomes the mean of its other cells; that is exact where `cells_make_frames` holds.
    Motion is unchanged. A branch that also reads objects loses the hidden cell there.
    """
    object_TNC = batch['object'][0].astype(jnp.float32)
    appearance_TC = batch['appearance'][0].astype(jnp.float32)
    T, N, _ = object_TNC.shape

    def log_p(cell: jax.Array) -> jax.Array:
        t, n = jnp.divmod(cell, N)
        # The mean without one of N equal cells follows from the mean of all.
        rest_C = (N * appearance_TC[t] - object_TNC[t, n]) / (N - 1)
        seen = dict(batch) | {
            'appearance': appearance_TC.at[t].set(rest_C)[None],
            'object_mask': batch['object_mask'].at[0, t, n].set(False),
        }
        token_BKL = token_L[None, None, :-1]
        logits_BKLV = forward.apply_logits(model, params, seen, token_BKL, branch)
        return forward.word_log_p(logits_BKLV[0, 0], token_L[1:])

    shown_1T = jnp.ones((1, T), bool)
    whole_1L = log_p_of_shown(model, params, batch, token_L, branch, 'frame', shown_1T)
    log_p_PL = jax.lax.map(log_p, jnp.arange(T * N), batch_size=_AT_ONCE)
    return (whole_1L - log_p_PL).T.reshape(-1, T, N)


def cells_make_frames(extractor: Mapping[str, Any], batch: DeviceBatch) -> bool:
    """Check whether the clip's objects are grid cells that average to the frame's appearance.

    They do for pooled maps of convolutional networks, but not for class tokens of transformers.

    Args:
      extractor: the manifest's entry.
      batch: features of one clip, B = 1, with all of its cells or some.
    """
    cell_TNC, appearance_TC = (
        np.asarray(batch[key][0], np.float32) for key in ('object', 'appearance')
    )
    if extractor.get('nodes') != 'grid' or cell_TNC.shape[-1] != appearance_TC.shape[-1]:
        return False
    mean_TC = cell_TNC.mean(1)
    # The tolerance is the rounding error of features stored as float16.
    return bool(np.allclose(mean_TC, appearance_TC, rtol=0.01, atol=0.01 * np.abs(mean_TC).max()))


def frame_saliency(
    model: CaptioningModel, params: PyTree, batch: DeviceBatch, token_L: jax.Array, branch: str
) -> jax.Array:
    """Compute how much log-probability each word loses when a frame is hidden, (L - 1, T).

    After the caption-guided saliency of Ramanishka et al. (2017), who keep one frame and hide all
    others; hiding only one stays closer to what the network was trained on.
    """
    num_frames = batch['appearance'].shape[1]
    shown_PT = jnp.concatenate([jnp.ones((1, num_frames), bool), ~jnp.eye(num_frames, dtype=bool)])
    log_p_PL = log_p_of_shown(model, params, batch, token_L, branch, 'frame', shown_PT)
    return (log_p_PL[0] - log_p_PL[1:]).T
