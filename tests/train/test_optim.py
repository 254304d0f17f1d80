"""What the optimiser does with gradients, seen from its updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from stg_jax.config import parse_config
from stg_jax.train.optim import make_optimizer, swap_average


def optimizer_with(epoch_steps, *, epochs=1, ema=0.0, **changes):
    """Return an optimizer of the default config; `changes` are those of `config.optim`."""
    optim = {f'optim__{key}': value for key, value in changes.items()}
    config = parse_config(common.get_config())
    return make_optimizer(
        config.changed(train__epochs=epochs, train__ema=ema, **optim), epoch_steps
    )


def updates_for(gradients, num_steps=40, **changes):
    """Return the updates of one parameter vector for a sequence of gradients."""
    optimizer = optimizer_with(num_steps, **changes)
    params = jnp.zeros(2)
    state, found = optimizer.init(params), []
    for gradient in gradients:
        update, state = optimizer.update(jnp.asarray(gradient), state, params)
        found.append(np.asarray(update))
    return np.array(found)


def rates_for(num_steps, *, num_rates=None, **changes):
    """Return the learning rate of each step: Adam's step under a constant gradient."""
    constant = [[0.1, 0.1]] * (num_rates or num_steps)
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


def test_the_rate_falls_to_zero_along_a_line():
    rates = rates_for(40, warmup=0.25, decay='linear')
    np.testing.assert_allclose(rates[9:], np.linspace(0.01, 0, 31), rtol=1e-3, atol=1e-7)


def test_the_rate_falls_by_a_factor_after_every_epoch():
    rates = rates_for(3, epochs=2, num_rates=6, warmup=0.0, decay='exponential', decay_rate=0.5)
    np.testing.assert_allclose(rates, [0.01] * 3 + [0.005] * 3, rtol=1e-4)


def test_the_average_follows_the_weights_by_its_decay():
    optimizer = optimizer_with(200, ema=0.9, lr=0.1, warmup=0.0)
    params = np.zeros(2)
    state, expected = optimizer.init(params), np.zeros(2)
    for number in range(200):
        updates, state = optimizer.update(np.array([0.5, -0.1]), state, params)
        params = params + np.asarray(updates)
        decay = min(0.9, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * params
    average, swapped = swap_average(params, state)
    np.testing.assert_allclose(average, expected, rtol=1e-4)
    assert abs(params - average).min() > 0.5  # both move by 0.1 a step
    again, back = swap_average(average, swapped)
    np.testing.assert_array_equal(again, params)
    jax.tree.map(np.testing.assert_array_equal, back, state)


def test_an_average_changes_no_update_and_without_one_there_is_nothing_to_swap():
    gradients = [[0.3, 0.4], [-0.1, 0.2], [0.6, 0.7]]
    np.testing.assert_array_equal(updates_for(gradients, ema=0.9), updates_for(gradients))
    params, state = np.ones(2), optimizer_with(10).init(np.ones(2))
    assert swap_average(params, state) == (params, state)


def test_weights_decay_by_the_rate_and_biases_do_not():
    params = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
    optimizer = optimizer_with(10, weight_decay=0.5, lr=0.1, warmup=0.0)
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
