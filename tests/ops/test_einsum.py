"""Products summed up in float32, and what a GPU multiplies for their gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.ops.einsum import einsum_float32
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


def test_a_gpu_sums_bfloat16_in_float32_and_no_product_reads_float32():
    left, right = random((4, 512), 0, jnp.bfloat16), random((6, 512), 1, jnp.bfloat16)
    exact = np.asarray(left, np.float64) @ np.asarray(right, np.float64).T
    np.testing.assert_allclose(
        einsum_float32('ND,VD->NV', left, right), exact, rtol=1e-4, atol=1e-4
    )

    def total(left, right):
        return jnp.sum(einsum_float32('ND,VD->NV', left, right) ** 2)

    with traced_for('gpu'):
        program = jax.jit(jax.grad(total, argnums=(0, 1))).lower(left, right).as_text()
    arguments = re.findall(r'stablehlo.dot_general.*: \((.*)\) ->', program)
    assert len(arguments) == 3
    assert not any('f32' in each for each in arguments)
