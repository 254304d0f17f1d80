"""Count the useful FLOPs of the network, from XLA's cost analysis of its plain form.

XLA counts the body of a loop only once, and counts the integer operations of dropout as floating
point. The plain form has no loops, no dropout, no padding and no recomputation, so its count is the
work that the model needs.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from stg_jax.benchmark.timing import time_interleaved
from stg_jax.config import Config
from stg_jax.data.vocab import PAD
from stg_jax.model.losses import Words, word_terms
from stg_jax.model.network import CaptioningModel
from stg_jax.parallel import sharding
from stg_jax.run.build import feature_shapes, param_shapes

SIDES = {'cpu': (1024, 2048), 'gpu': (4096, 8192, 16384), 'tpu': (4096, 8192)}
_ROUNDS = 5


def matrix_ceiling(dtype: str) -> dict[str, object]:
    """Measure the fastest square matrix product on one device.

    Returns:
      The stage 'matrix product': 'gflop_per_s' of the fastest, its 'side', 'dtype', 'device'.
    """
    sides = SIDES.get(jax.default_backend(), SIDES['cpu'])
    calls = {side: _product(side, dtype) for side in sides}
    # The fastest of several sizes: small products do not fill the device, large ones may not fit
    # its caches.
    seconds = time_interleaved(calls, _ROUNDS)
    # The minimum, not the median: the peak is what an undisturbed machine can do.
    rates = {side: 2 * side**3 / min(seconds[side]) / 1e9 for side in sides}
    side = max(rates, key=lambda side: rates[side])
    return {
        'stage': 'matrix product',
        'gflop_per_s': rates[side],
        'side': side,
        'dtype': dtype,
        'device': sharding.data_mesh().devices.flat[0].device_kind,
    }


def _product(side, dtype):
    left, right = jax.random.normal(jax.random.key(0), (2, side, side), jnp.dtype(dtype))
    multiply = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(multiply(left, right))


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
