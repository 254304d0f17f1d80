"""The peak of this machine, measured on large matrix products."""

import jax
import jax.numpy as jnp

from stg_jax.benchmark.timing import time_interleaved
from stg_jax.parallel import sharding

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
