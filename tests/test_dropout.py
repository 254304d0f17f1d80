"""Dropout: its rate, and masks that have nothing to do with each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.model.dropout import Dropout
from stg_jax.model.target import traced_for

RATE = 0.3
SHAPE = (64, 8, 130)


@pytest.fixture(params=['cpu', 'gpu', 'tpu'])
def platform(request):
    return request.param


def drop(platform, x, seed=0, rate=RATE):
    with traced_for(platform):
        return Dropout(rate).apply(
            {}, x, deterministic=False, rngs={'dropout': jax.random.key(seed)}
        )


def kept(platform, seed=0, shape=SHAPE):
    return np.asarray(drop(platform, jnp.ones(shape), seed)) > 0


def test_numbers_are_dropped_at_the_rate_and_the_mean_stays(platform):
    x = jnp.ones((200, 50, 64))
    y = drop(platform, x)
    assert abs(float((y == 0).mean()) - RATE) < 0.002  # four standard deviations of 640,000 draws
    assert abs(float(y.mean()) - 1) < 0.003
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - RATE)], rtol=1e-4)


def test_a_seed_repeats_its_mask_and_another_has_one_of_its_own(platform):
    assert (kept(platform, 1) == kept(platform, 1)).all()
    assert correlation(kept(platform, 1), kept(platform, 2)) < 0.02


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_neighbours_are_dropped_independently(platform, axis):
    mask = np.moveaxis(kept(platform), axis, 0)
    for offset in (1, 2, 4):
        assert correlation(mask[offset:], mask[:-offset]) < 0.02


def test_every_place_is_dropped_as_often_as_any_other(platform):
    counts = sum(kept(platform, seed, (16, 32)).astype(int) for seed in range(400))
    spread = counts.std() / np.sqrt(400 * RATE * (1 - RATE))
    assert 0.9 < spread < 1.1
    assert abs(counts.mean() / 400 - (1 - RATE)) < 0.005


def test_the_gradient_passes_where_the_number_did(platform):
    x = jnp.full(SHAPE, 2.0)
    gradient = jax.grad(lambda x: drop(platform, x).sum())(x)
    np.testing.assert_array_equal(gradient * 2, drop(platform, x))


def test_without_training_or_rate_nothing_changes(platform):
    x = jnp.arange(12.0).reshape(3, 4)
    assert Dropout(RATE).apply({}, x, deterministic=True) is x
    np.testing.assert_array_equal(drop(platform, x, rate=0.0), x)


def correlation(a, b):
    """Return the size of the correlation of two masks."""
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])
