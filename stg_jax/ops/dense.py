"""Flax's dense layers with a matrix product whose gradients need no transposed copies on a CPU."""

import functools
import math
from typing import Any

import jax
from flax import linen as nn

from stg_jax.ops.platform import is_for_cpu


def _dot_general(
    x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **options: Any
) -> jax.Array:
    """Contract the last axes of x with the first axes of a kernel, as `jax.lax.dot_general` does.

    On a CPU both are flattened to matrices first: with more axes XLA transposes kernels and
    activations for the gradients, which took a tenth of a training step. A TPU keeps the axes,
    because flattening would rearrange its tiles.
    """
    if not is_for_cpu():
        return jax.lax.dot_general(x, kernel, dimension_numbers, **options)
    (axes, _), _ = dimension_numbers
    width = math.prod(kernel.shape[: len(axes)])
    matrix_product = (((1,), (0,)), ((), ()))
    flat = jax.lax.dot_general(
        x.reshape(-1, width), kernel.reshape(width, -1), matrix_product, **options
    )
    return flat.reshape(*x.shape[: x.ndim - len(axes)], *kernel.shape[len(axes) :])


Dense = functools.partial(nn.Dense, dot_general=_dot_general)
DenseGeneral = functools.partial(nn.DenseGeneral, dot_general=_dot_general)
