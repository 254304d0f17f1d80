"""Dense layers as products of two matrices, on CPUs."""

import functools
import math
from typing import Any

import jax


def flat_product(
    x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **options: Any
) -> jax.Array:
    """Return what `jax.lax.dot_general` does with the last axes of x and the first of a kernel.

    On a CPU every axis but the summed ones is flattened: with more axes its gradients transpose
    kernels and activations, by slow copies that are a sixth of a step. A TPU is left alone, as
    flattening rearranges its tiles.

    Args:
      x: (..., C) or (..., C1, C2).
      kernel: (C, ...) or (C1, C2, ...).
      dimension_numbers: ((axes of x, axes of the kernel), ((), ())), as Flax passes it.
      **options: for `jax.lax.dot_general`.
    """
    (axes, _), _ = dimension_numbers
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_flat, num_axes=len(axes), **options),
        default=functools.partial(
            jax.lax.dot_general, dimension_numbers=dimension_numbers, **options
        ),
    )


def _flat(x, kernel, *, num_axes, **options):
    width = math.prod(kernel.shape[:num_axes])
    flat = jax.lax.dot_general(
        x.reshape(-1, width), kernel.reshape(width, -1), (((1,), (0,)), ((), ())), **options
    )
    return flat.reshape(*x.shape[: x.ndim - num_axes], *kernel.shape[num_axes:])
