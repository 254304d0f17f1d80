"""Count the useful FLOPs of the network, from XLA's cost analysis of its plain form.

XLA counts the body of a loop only once, and counts the integer operations of dropout as floating
point. The plain form has no loops, no dropout, no padding and no recomputation, so its count is the
work that the model needs.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from stg_jax.config import Config
from stg_jax.data.vocab import PAD
from stg_jax.model.losses import Words, word_terms
from stg_jax.model.network import CaptioningModel
from stg_jax.parallel import sharding
from stg_jax.run.build import feature_shapes, param_shapes


def training_flops(
    model: CaptioningModel, config: Config, *, num_clips: int, num_captions: int, num_tokens: float
) -> float:
    """Count the FLOPs of loss and gradient.

    Args:
      model: the network of the config.
      config: as of configs/common.py.
      num_clips: B.
      num_captions: K.
      num_tokens: mean number of tokens to predict in a caption, EOS included.
    """
    loss_spec = config.loss

    def loss(params, batch, token_BKL):
        outputs: Any = model.apply({'params': params}, batch, token_BKL[..., :-1], False)
        logits = {name: output.logits_BKLV for name, output in outputs.items()}
        target_BKL = token_BKL[..., 1:]
        words = Words.of(target_BKL, target_BKL != PAD, batch['object_mask'].any((1, 2)))
        # The plain loss on all positions; with a mean length there is no padding to drop.
        terms = word_terms(logits, words, loss_spec)
        return sum(loss_spec.weight(key) * value for key, value in terms.items())

    count = functools.partial(_flops, jax.value_and_grad(loss), model, config, num_clips)
    return _between(lambda length: count((num_captions, length + 1)), num_tokens)


def decoding_flops(
    model: CaptioningModel, config: Config, *, num_clips: int, num_beams: int, num_tokens: float
) -> float:
    """Count the FLOPs of encoding clips and reading `num_tokens` of each beam, BOS included.

    `model` must have only the deployed branch: XLA's count includes unused outputs.
    """

    def logits(params, batch, token_BKL):
        return model.apply({'params': params}, batch, token_BKL, False)

    count = functools.partial(_flops, logits, model, config, num_clips)
    return _between(lambda length: count((num_beams, length)), num_tokens)


def _flops(function, model, config, num_clips, shape_KL):
    batch = {
        key: jax.ShapeDtypeStruct((num_clips, *x.shape), x.dtype)
        for key, x in feature_shapes(config.data).items()
    }
    token_BKL = jax.ShapeDtypeStruct((num_clips, *shape_KL), jnp.int32)
    # For accelerators XLA gives a count only after compilation; on the CPU lowering is enough.
    with sharding.on_cpu():
        lowered = jax.jit(function).lower(param_shapes(model, config.data), batch, token_BKL)
        return (lowered.cost_analysis() or {})['flops']


def _between(count, number):
    low = int(number)
    at_low = count(low)
    # FLOPs are a function of an integer length; between two lengths the mean interpolates.
    return at_low if low == number else at_low + (number - low) * (count(low + 1) - at_low)
