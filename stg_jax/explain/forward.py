"""Run one branch over a given caption, with the whole clip or only some of its frames."""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.model.network import CaptioningModel, DeviceBatch
from stg_jax.ops.packing import Packing

PyTree = Any


def teacher_of(model: CaptioningModel) -> str | None:
    """Name the branch that reads objects, None if the run has none."""
    return next((name for name in ('object', 'joint') if name in model.config.decoders), None)


def student_of(model: CaptioningModel) -> str | None:
    """Name the branch that reads frames, None if the run has none."""
    return next((name for name in ('scene', 'joint') if name in model.config.decoders), None)


def as_batch(features: Mapping[str, np.ndarray]) -> DeviceBatch:
    """Move features to the device once, for the many calls that an explanation takes."""
    return {key: jnp.asarray(value) for key, value in features.items()}


def apply_logits(
    model: CaptioningModel,
    params: PyTree,
    batch: DeviceBatch,
    token_BKL: jax.Array,
    branch: str,
    shown_BT: jax.Array | None = None,
) -> jax.Array:
    """Compute `logits` with the given parameters."""
    found = model.apply({'params': params}, batch, token_BKL, branch, shown_BT, method=logits)
    return cast(jax.Array, found)


def logits(
    model: CaptioningModel,
    batch: DeviceBatch,
    token_BKL: jax.Array,
    branch: str,
    shown_BT: jax.Array | None = None,
) -> jax.Array:
    """Compute a branch's logits (B, K, L, V); pass it to `model.apply` as `method`.

    Args:
      model: bound by `apply`.
      batch: features of B clips.
      token_BKL: BOS and the words so far.
      branch: name of the decoder.
      shown_BT: False for frames to hide from the cross-attention.
    """
    sequence = model.sequence(batch, branch)
    feature_BSD, mask_BS = sequence.x_BSD, sequence.mask_BS
    if shown_BT is not None:
        # A position that describes several frames is hidden with any of them.
        is_frame_ST = sequence.layout.is_frame
        mask_BS &= (shown_BT[:, None] | ~is_frame_ST).all(-1)
        # With every position masked, softmax attends uniformly. Zeros keep the hidden frames from
        # being read after all.
        feature_BSD = jnp.where(mask_BS[..., None], feature_BSD, 0)
    # Deterministic: explanations are of the network without dropout.
    decoder = model.decoders[branch]
    memory = decoder.read_memory(decoder.encode(feature_BSD, mask_BS, False, sequence.layout))
    packing = Packing(token_BKL.shape)
    return decoder.logits(packing.unpack(decoder.hidden(token_BKL, memory, False, packing)))


def plain_grid(grid_BTGC: jax.Array) -> jax.Array:
    """Replace every cell of a grid by its frame's median cell, which shows the background."""
    # Float32: grids are stored as float16, whose rounding would hide small gradients.
    grid_BTGC = grid_BTGC.astype(jnp.float32)
    return jnp.broadcast_to(jnp.median(grid_BTGC, axis=2, keepdims=True), grid_BTGC.shape)


def word_log_p(logits_LV: jax.Array, target_L: jax.Array) -> jax.Array:
    """Compute the log-probability (..., L) of target words from logits (..., L, V)."""
    return word_logit(jax.nn.log_softmax(logits_LV), target_L)


def word_logit(logits_LV: jax.Array, target_L: jax.Array) -> jax.Array:
    """Select the logit (..., L) of target words from logits (..., L, V)."""
    index_L1 = jnp.broadcast_to(target_L, logits_LV.shape[:-1])[..., None]
    return jnp.take_along_axis(logits_LV, index_L1, -1)[..., 0]
