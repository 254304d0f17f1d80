"""One branch reading a given caption, all of its clip or some of it."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from stg_jax.model.network import CaptioningModel
from stg_jax.ops.packing import Packing

Batch = Mapping[str, jax.Array]


def teacher_of(model: CaptioningModel) -> str | None:
    """Return the branch that reads objects, None where there is none."""
    return next((name for name in ('object', 'joint') if name in model.config.decoders), None)


def student_of(model: CaptioningModel) -> str | None:
    """Return the branch that reads frames, None where there is none."""
    return next((name for name in ('scene', 'joint') if name in model.config.decoders), None)


def logits(
    model: CaptioningModel,
    batch: Batch,
    token_BKL: jax.Array,
    branch: str,
    shown_BT: jax.Array | None = None,
) -> jax.Array:
    """Return the branch's logits (B, K, L, V); a method for `model.apply`.

    Args:
      model: bound by `apply`.
      batch: features of B clips.
      token_BKL: BOS and the words so far.
      branch: name of the decoder.
      shown_BT: False at frames to hide; they are attended to nowhere.
    """
    sequence = model.sequence(batch, branch)
    feature_BSD, mask_BS = sequence.x_BSD, sequence.mask_BS
    if shown_BT is not None:
        # A position that describes several frames is hidden with any of them.
        is_frame_ST = sequence.layout.is_frame
        mask_BS &= (shown_BT[:, None] | ~is_frame_ST).all(-1)
        # Where nothing is shown attention is uniform: over zeros then, and not over the frames.
        feature_BSD = jnp.where(mask_BS[..., None], feature_BSD, 0)
    decoder = model.decoders[branch]
    memory = decoder.read_memory(decoder.encode(feature_BSD, mask_BS, False, sequence.layout))
    packing = Packing(token_BKL.shape)
    return decoder.logits(packing.unpack(decoder.hidden(token_BKL, memory, False, packing)))


def word_log_p(logits_LV: jax.Array, target_L: jax.Array) -> jax.Array:
    """Return the log-probability (..., L) of words from the logits (..., L, V) before them."""
    log_p_LV = jax.nn.log_softmax(logits_LV)
    index_L1 = jnp.broadcast_to(target_L, log_p_LV.shape[:-1])[..., None]
    return jnp.take_along_axis(log_p_LV, index_L1, -1)[..., 0]
