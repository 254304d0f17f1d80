"""Dropout, of the numbers of each platform: its rate, and that nothing else decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.ops.dropout import Dropout
from stg_jax.ops.platform import traced_for


@pytest.fixture(params=['cpu', 'gpu'])
def drop(request):
    """Return a function that drops numbers as on a CPU or on a GPU."""

    def dropped(x, rate, seed=0, train=True):
        rngs = {'dropout': jax.random.key(seed)}
        with traced_for(request.param):
            return Dropout(rate).apply({}, x, not train, rngs=rngs)

    return dropped


@pytest.mark.parametrize('rate', [0.1, 0.3, 0.5])
@pytest.mark.parametrize('width', [64, 63])
def test_it_drops_at_its_rate_and_keeps_the_mean(drop, rate, width):
    found = np.asarray(drop(jnp.ones((2000, width)), rate))
    error = 5 * (rate * (1 - rate) / found.size) ** 0.5
    assert np.mean(found == 0) == pytest.approx(rate, abs=error)
    assert np.unique(found)[1:] == pytest.approx(1 / (1 - rate), rel=1e-4)


def test_it_decides_about_each_number_by_itself(drop):
    kept = np.asarray(drop(jnp.ones((2000, 64)), 0.5)) > 0
    pairs = np.corrcoef(kept.T)[np.triu_indices(64, 1)]
    assert np.abs(pairs).max() < 5 / 2000**0.5
    other = np.asarray(drop(jnp.ones((2000, 64)), 0.5, seed=1)) > 0
    assert (kept != other).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_neighbours_have_nothing_to_do_with_each_other(drop, axis):
    kept = np.moveaxis(np.asarray(drop(jnp.ones((64, 32, 65)), 0.3)) > 0, axis, 0)
    for offset in (1, 2, 16):
        pair = np.corrcoef(kept[offset:].ravel(), kept[:-offset].ravel())[0, 1]
        assert abs(pair) < 5 / kept[offset:].size ** 0.5


def test_every_place_is_dropped_equally_often(drop):
    each = jax.jit(jax.vmap(lambda seed: drop(jnp.ones((16, 32)), 0.3, seed)))(jnp.arange(1000))
    spread = np.std(np.mean(np.asarray(each) == 0, axis=0)) / (0.3 * 0.7 / 1000) ** 0.5
    assert spread == pytest.approx(1, abs=0.15)


def test_the_gradient_goes_where_numbers_did(drop):
    x = jnp.full((8, 3, 5), 2.0)
    gradient = jax.grad(lambda x: drop(x, 0.3).sum())(x)
    np.testing.assert_array_equal(2 * gradient, drop(x, 0.3))


def test_it_keeps_the_dtype(drop):
    assert drop(jnp.ones((4, 8), jnp.bfloat16), 0.3).dtype == jnp.bfloat16


@pytest.mark.parametrize('rate', [0.0, 0.3])
def test_nothing_is_dropped_where_that_is_not_wanted(drop, rate):
    x = jnp.arange(8.0)
    np.testing.assert_array_equal(drop(x, rate, train=not rate), x)
