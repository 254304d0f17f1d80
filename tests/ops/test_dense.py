"""Dense layers as products of matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from stg_jax.ops.dense import DenseGeneral


@pytest.mark.parametrize(
    ('shape', 'features', 'axis'),
    [((5, 6), (2, 3), -1), ((4, 5, 6), 7, -1), ((5, 2, 3), 7, (-2, -1))],
)
def test_products_of_matrices_are_those_of_tensors_and_so_are_gradients(shape, features, axis):
    x = jax.random.normal(jax.random.key(0), shape)

    params = nn.DenseGeneral(features, axis).init(jax.random.key(1), x)

    def outcome(layer):
        return jax.value_and_grad(lambda *args: jnp.sum(jnp.sin(layer.apply(*args))), (0, 1))(
            params, x
        )

    found, expected = (outcome(dense(features, axis)) for dense in (DenseGeneral, nn.DenseGeneral))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
