"""Flax's dense layers, whose gradients cost no copies on a CPU."""

import functools
import math

import jax
from flax import linen as nn

from stg_jax.ops.platform import is_for_cpu


def _product(x, kernel, dimension_numbers, **options):
    """Return what `jax.lax.dot_general` does with the last axes of x and the first of a kernel.

    On a CPU as a product of two matrices: with more axes XLA transposes kernels and activations
    for the gradients, which was a tenth of a step. On a TPU flattening would rearrange tiles.
    """
    if not is_for_cpu():
        return jax.lax.dot_general(x, kernel, dimension_numbers, **options)
    (axes, _), _ = dimension_numbers
    width = math.prod(kernel.shape[: len(axes)])
    flat = jax.lax.dot_general(
        x.reshape(-1, width), kernel.reshape(width, -1), (((1,), (0,)), ((), ())), **options
    )
    return flat.reshape(*x.shape[: x.ndim - len(axes)], *kernel.shape[len(axes) :])


Dense = functools.partial(nn.Dense, dot_general=_product)
DenseGeneral = functools.partial(nn.DenseGeneral, dot_general=_product)
