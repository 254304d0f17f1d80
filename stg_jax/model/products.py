"""Products summed up in float32, whose gradients are products in the dtype of their arguments."""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def float32_product(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Return `jnp.einsum(subscripts, left, right)` in float32, of two arrays of one dtype.

    Autodiff alone would multiply the float32 gradient of a bfloat16 product in float32, at half the
    speed or less and from twice the memory. Here it is rounded first, as every dense layer's is.
    """
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)


def _forward(subscripts, left, right):
    return float32_product(subscripts, left, right), (left, right)


def _backward(subscripts, arguments, gradient):
    _, pull_back = jax.vjp(functools.partial(jnp.einsum, subscripts), *arguments)
    return pull_back(gradient.astype(arguments[0].dtype))


float32_product.defvjp(_forward, _backward)
