"""Products accumulated in float32, and their gradients on a GPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.ops.dense import einsum_float32
from stg_jax.ops.platform import traced_for

PRODUCTS = {
    'words': ('...D,VD->...V', (3, 4, 5), (7, 5)),
    'attention': ('...QHE,...SHE->...HQS', (2, 3, 4, 5), (2, 6, 4, 5)),
}


def random(shape, seed, dtype):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
@pytest.mark.parametrize(('subscripts', 'left', 'right'), PRODUCTS.values(), ids=PRODUCTS)
def test_in_float32_value_and_gradient_are_those_of_einsum(platform, subscripts, left, right):
    pair = random(left, 0, jnp.float32), random(right, 1, jnp.float32)
    weight = random(jnp.einsum(subscripts, *pair).shape, 2, jnp.float32)

    def gradient(product):
        def total(*pair):
            return jnp.sum(weight * product(subscripts, *pair))

        with traced_for(platform):
            return jax.value_and_grad(total, argnums=(0, 1))(*pair)

    found, expected = gradient(einsum_float32), gradient(jnp.einsum)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, expected
    )


def test_on_a_gpu_a_bfloat16_product_is_exact_to_float32_and_its_gradient_rounded_once():
    left, right = random((4, 512), 0, jnp.bfloat16), random((6, 512), 1, jnp.bfloat16)
    cotangent = random((4, 6), 2, jnp.float32)
    with traced_for('gpu'):
        product, pull_back = jax.vjp(functools.partial(einsum_float32, 'ND,VD->NV'), left, right)
    exact_left, exact_right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    np.testing.assert_allclose(product, exact_left @ exact_right.T, rtol=1e-4, atol=1e-4)
    rounded = np.asarray(cotangent.astype(jnp.bfloat16), np.float64)
    expected = rounded @ exact_right, rounded.T @ exact_left
    for found, exact in zip(pull_back(cotangent), expected, strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=2**-8, atol=1e-2)
