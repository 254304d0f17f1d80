"""Dense layers as products of two matrices."""

import math
from typing import Any

import jax


def flat_product(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **options: Any):
    """Return what `jax.lax.dot_general` does with the last axes of x and the first of a kernel.

    Every axis but the summed ones is flattened. With more axes, on a CPU, the gradients transpose
    kernels and activations, by slow copies that are a sixth of a step.

    Args:
      x: (..., C) or (..., C1, C2).
      kernel: (C, ...) or (C1, C2, ...).
      dimension_numbers: ((axes of x, axes of the kernel), ((), ())), as Flax passes it.
      **options: for `jax.lax.dot_general`.
    """
    (axes, _), _ = dimension_numbers
    num_axes, width = len(axes), math.prod(kernel.shape[: len(axes)])
    flat = jax.lax.dot_general(
        x.reshape(-1, width), kernel.reshape(width, -1), (((1,), (0,)), ((), ())), **options
    )
    return flat.reshape(*x.shape[: x.ndim - num_axes], *kernel.shape[num_axes:])
