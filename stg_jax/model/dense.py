"""Flax's dense layers, whose gradients cost no copies on a CPU."""

import functools
import math

import jax
from flax import linen as nn


def _product(x, kernel, dimension_numbers, **options):
    """Return what `jax.lax.dot_general` does with the last axes of x and the first of a kernel.

    On a CPU as a product of two matrices: with more axes XLA transposes kernels and activations
    for the gradients, which was a tenth of a step. On a TPU flattening would rearrange tiles.
    """
    (axes, _), _ = dimension_numbers
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_matrix_product, num_axes=len(axes), **options),
        default=functools.partial(
            jax.lax.dot_general, dimension_numbers=dimension_numbers, **options
        ),
    )


def _matrix_product(x, kernel, *, num_axes, **options):
    width = math.prod(kernel.shape[:num_axes])
    flat = jax.lax.dot_general(
        x.reshape(-1, width), kernel.reshape(width, -1), (((1,), (0,)), ((), ())), **options
    )
    return flat.reshape(*x.shape[: x.ndim - num_axes], *kernel.shape[num_axes:])


Dense = functools.partial(nn.Dense, dot_general=_product)
DenseGeneral = functools.partial(nn.DenseGeneral, dot_general=_product)
