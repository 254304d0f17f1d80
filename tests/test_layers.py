"""The small parts of the network: dropout, and dense layers as products of matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from stg_jax.model.dense import DenseGeneral
from stg_jax.model.dropout import Dropout


def dropped(rate, shape, seed=0, dtype=jnp.float32):
    rngs = {'dropout': jax.random.key(seed)}
    return np.asarray(Dropout(rate).apply({}, jnp.ones(shape, dtype), False, rngs=rngs))


@pytest.mark.parametrize('rate', [0.1, 0.3, 0.5])
@pytest.mark.parametrize('width', [64, 63])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate, width):
    found = dropped(rate, (2000, width))
    error = 5 * (rate * (1 - rate) / found.size) ** 0.5
    assert np.mean(found == 0) == pytest.approx(rate, abs=error)
    assert np.unique(found)[1:] == pytest.approx(1 / (1 - rate), rel=1e-4)


def test_dropout_decides_about_each_number_by_itself():
    kept = dropped(0.5, (2000, 64)) > 0
    pairs = np.corrcoef(kept.T)[np.triu_indices(64, 1)]
    assert np.abs(pairs).max() < 5 / 2000**0.5
    assert (kept != (dropped(0.5, (2000, 64), seed=1) > 0)).mean() == pytest.approx(0.5, abs=0.02)


def test_dropout_keeps_the_dtype():
    assert dropped(0.3, (4, 8), dtype=jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize('rate', [0.0, 0.3])
def test_nothing_is_dropped_where_that_is_not_wanted(rate):
    x = jnp.arange(8.0)
    np.testing.assert_array_equal(Dropout(rate).apply({}, x, rate > 0), x)


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
