"""Einsum accumulated in float32, whose gradient a GPU multiplies in the inputs' dtype."""

import functools

import jax
import jax.numpy as jnp

from stg_jax.ops.platform import is_for_gpu


def einsum_float32(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Compute `jnp.einsum(subscripts, left, right)` in float32 from two arrays of one dtype.

    Autodiff multiplies the float32 gradient of a bfloat16 product in float32. A TPU rounds it on
    the way into the matrix unit; a GPU would take twice the time and memory, so there the gradient
    is rounded to the inputs' dtype first.
    """
    return (_with_rounded_gradient if is_for_gpu() else _einsum)(subscripts, left, right)


def _einsum(subscripts, left, right):
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)


_with_rounded_gradient = jax.custom_vjp(_einsum, nondiff_argnums=(0,))


def _forward(subscripts, left, right):
    return _einsum(subscripts, left, right), (left, right)


def _backward(subscripts, arguments, gradient):
    _, pull_back = jax.vjp(functools.partial(jnp.einsum, subscripts), *arguments)
    return pull_back(gradient.astype(arguments[0].dtype))


_with_rounded_gradient.defvjp(_forward, _backward)
