"""Matrix products of the network: dense layers, and an einsum that accumulates in float32.

A CPU multiplies flat matrices, so that gradients need no transposed copies; a GPU multiplies the
gradient of a bfloat16 product in bfloat16.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from stg_jax.ops.platform import is_for_cpu, is_for_gpu


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


def einsum_float32(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Compute `jnp.einsum(subscripts, left, right)` in float32 from two arrays of one dtype.

    Autodiff multiplies the float32 gradient of a bfloat16 product in float32. A TPU rounds it on
    the way into the matrix unit; a GPU would take twice the time and memory, so there the gradient
    is rounded to the inputs' dtype first.
    """
    return (_with_rounded_gradient if is_for_gpu() else _einsum)(subscripts, left, right)


def _einsum(subscripts, left, right):
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)


# The forward pass is the same; only the backward pass differs.
_with_rounded_gradient = jax.custom_vjp(_einsum, nondiff_argnums=(0,))


def _forward(subscripts, left, right):
    return _einsum(subscripts, left, right), (left, right)


def _backward(subscripts, arguments, gradient):
    _, pull_back = jax.vjp(functools.partial(jnp.einsum, subscripts), *arguments)
    return pull_back(gradient.astype(arguments[0].dtype))


_with_rounded_gradient.defvjp(_forward, _backward)
