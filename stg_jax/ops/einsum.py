"""Products summed up in float32, whose gradients a GPU need not multiply in float32."""

import functools

import jax
import jax.numpy as jnp

from stg_jax.ops.platform import is_for_gpu


def float32_product(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Return `jnp.einsum(subscripts, left, right)` in float32, of two arrays of one dtype.

    Autodiff multiplies the float32 gradient of a bfloat16 product in float32. A TPU rounds it as it
    reads it; a GPU takes twice the time and memory, unless it is rounded first.
    """
    return (_of_rounded_gradient if is_for_gpu() else _product)(subscripts, left, right)


def _product(subscripts, left, right):
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)


_of_rounded_gradient = jax.custom_vjp(_product, nondiff_argnums=(0,))


def _forward(subscripts, left, right):
    return _product(subscripts, left, right), (left, right)


def _backward(subscripts, arguments, gradient):
    _, pull_back = jax.vjp(functools.partial(jnp.einsum, subscripts), *arguments)
    return pull_back(gradient.astype(arguments[0].dtype))


_of_rounded_gradient.defvjp(_forward, _backward)
