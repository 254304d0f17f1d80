"""What the optimiser does with gradients, seen from its updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from stg_jax.train.optim import make_optimizer


def updates_for(gradients, num_steps=40, **changes):
    """Return the updates of one parameter vector for a sequence of gradients."""
    config = common.get_config().optim
    config.update(changes)
    optimizer = make_optimizer(config, num_steps)
    state = optimizer.init(jnp.zeros(2))
    found = []
    for gradient in gradients:
        update, state = optimizer.update(jnp.asarray(gradient), state)
        found.append(np.asarray(update))
    return np.array(found)


def rates_for(num_steps, **changes):
    """Return the learning rate of each step: Adam's step under a constant gradient."""
    constant = [[0.1, 0.1]] * num_steps
    return -updates_for(constant, num_steps, lr=0.01, **changes)[:, 0]


def test_the_rate_rises_linearly_and_then_stays():
    rates = rates_for(40, warmup=0.25)
    steps = np.diff(rates[:10])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
    assert steps[0] > 0 and rates[0] >= 0
    np.testing.assert_allclose(rates[10:], 0.01, rtol=1e-4)


def test_the_rate_falls_to_zero_along_a_cosine():
    rates = rates_for(40, warmup=0.25, decay='cosine')
    np.testing.assert_allclose(rates[:10], rates_for(40, warmup=0.25)[:10], rtol=1e-4)
    np.testing.assert_allclose(rates[24], 0.005, rtol=1e-3)
    assert (np.diff(rates[9:]) < 0).all() and rates[-1] < 1e-6


def test_weights_decay_by_the_rate_and_biases_do_not():
    config = common.get_config().optim
    config.update(weight_decay=0.5, lr=0.1, warmup=0.0)
    params = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
    optimizer = make_optimizer(config, 10)
    nothing = jax.tree.map(jnp.zeros_like, params)
    update, _ = optimizer.update(nothing, optimizer.init(params), params)
    np.testing.assert_allclose(update['kernel'], -0.05, rtol=1e-5)
    assert not np.any(update['bias'])


@pytest.mark.parametrize(('num_steps', 'warmup'), [(5, 0.0), (3, 0.05)])
def test_without_warm_up_steps_the_rate_is_full_from_the_first_step(num_steps, warmup):
    np.testing.assert_allclose(rates_for(num_steps, warmup=warmup), 0.01, rtol=1e-4)


def test_a_long_gradient_counts_as_one_of_the_clipping_length():
    small = [0.06, -0.08]
    clipped = updates_for([[0.6, 0.8], small], clip=1.0)
    np.testing.assert_allclose(updates_for([[60.0, 80.0], small], clip=1.0), clipped, rtol=1e-5)
    assert abs(updates_for([[60.0, 80.0], small], clip=1e6) - clipped).max() > 1e-7


def test_a_short_gradient_is_left_as_it_is():
    gradients = [[0.3, 0.4], [-0.1, 0.2], [0.6, 0.7]]
    unclipped = updates_for(gradients, clip=1e6)
    np.testing.assert_array_equal(updates_for(gradients, clip=1.0), unclipped)


def test_updates_are_those_of_adam():
    gradients = [[0.3, 0.4], [-0.1, 0.2], [0.6, 0.7]]
    adam = optax.adam(0.01)
    state, expected = adam.init(jnp.zeros(2)), []
    for gradient in gradients:
        update, state = adam.update(jnp.asarray(gradient), state)
        expected.append(update)
    found = updates_for(gradients, lr=0.01, warmup=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
