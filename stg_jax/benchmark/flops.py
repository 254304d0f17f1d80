"""How much the network has to compute, by XLA's count of its plain form.

XLA counts the body of a loop once, and dropout's integers as if they were floats; the plain form
has neither loop nor dropout, neither padding nor anything computed twice.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from stg_jax.data.vocab import PAD
from stg_jax.model.losses import LossSpec, Words, word_terms
from stg_jax.model.network import CaptioningModel
from stg_jax.parallel import sharding
from stg_jax.run.build import feature_shapes, param_shapes


def training_flops(
    model: CaptioningModel, config: Any, *, num_clips: int, num_captions: int, num_tokens: float
) -> float:
    """Return the FLOPs of loss and gradient.

    Args:
      model: the network of the config.
      config: as of configs/common.py.
      num_clips: B.
      num_captions: K.
      num_tokens: words to predict in a caption, EOS included, on average.
    """
    loss_spec = LossSpec(**config.loss, **config.kd)

    def loss(params, batch, token_BKL):
        outputs = model.apply({'params': params}, batch, token_BKL[..., :-1], False)
        logits = {name: output.logits_BKLV for name, output in outputs.items()}
        target_BKL = token_BKL[..., 1:]
        words = Words.of(target_BKL, target_BKL != PAD, batch['object_mask'].any((1, 2)))
        terms = word_terms(logits, words, loss_spec)
        return sum(loss_spec.weight(key) * value for key, value in terms.items())

    count = functools.partial(_flops, jax.value_and_grad(loss), model, config, num_clips)
    return _between(lambda length: count((num_captions, length + 1)), num_tokens)


def decoding_flops(
    model: CaptioningModel, config: Any, *, num_clips: int, num_beams: int, num_tokens: float
) -> float:
    """Return the FLOPs of encoding clips and reading `num_tokens` of each beam, BOS included.

    `model` must have the deployed branch alone: XLA does not skip what is not used.
    """

    def logits(params, batch, token_BKL):
        return model.apply({'params': params}, batch, token_BKL, False)

    count = functools.partial(_flops, logits, model, config, num_clips)
    return _between(lambda length: count((num_beams, length)), num_tokens)


def _flops(function, model, config, num_clips, shape_KL):
    batch = {
        key: jax.ShapeDtypeStruct((num_clips, *x.shape), x.dtype)
        for key, x in feature_shapes(config).items()
    }
    token_BKL = jax.ShapeDtypeStruct((num_clips, *shape_KL), jnp.int32)
    # Of an accelerator's program there is a count only after compiling it.
    with sharding.on_cpu():
        lowered = jax.jit(function).lower(param_shapes(model, config), batch, token_BKL)
        return lowered.cost_analysis()['flops']


def _between(count, number):
    low = int(number)
    at_low = count(low)
    return at_low if low == number else at_low + (number - low) * (count(low + 1) - at_low)
