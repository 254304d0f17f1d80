"""Messages along bands against the product with the matrix of all links, on every platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.ops.band_messages import as_matrix, from_frame, matrix_messages, messages
from stg_jax.ops.platform import traced_for

SIZES = [(4, 3), (1, 3), (5, 1), (12, 6), (3, 40)]  # frames and objects
OFFSETS = [(0,), (1,), (0, 1), (-1, 0), (-1, 0, 1)]


def fake_bands(frames, objects, offsets, seed=0):
    rng = np.random.default_rng(seed)
    weight_BTNN = rng.uniform(size=(2, frames, objects, objects)).astype(np.float32)
    # Moved there and back, a band has no weights that leave the clip.
    return {k: from_frame(from_frame(jnp.asarray(weight_BTNN), -k), k) for k in offsets}


def fake_nodes(frames, objects, seed=1):
    shape = (2, frames, objects, 7)
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def by_matrix(bands, node_BTND):
    return matrix_messages(as_matrix(bands), node_BTND)


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
@pytest.mark.parametrize('offsets', OFFSETS)
@pytest.mark.parametrize(('frames', 'objects'), SIZES)
def test_messages_and_both_gradients_are_those_of_the_matrix(frames, objects, offsets, platform):
    bands, node_BTND = fake_bands(frames, objects, offsets), fake_nodes(frames, objects)
    gradient_BTND = fake_nodes(frames, objects, seed=2)
    with traced_for(platform):
        found, pull_back = jax.vjp(messages, bands, node_BTND)
        found_gradients = pull_back(gradient_BTND)
    expected, pull_back = jax.vjp(by_matrix, bands, node_BTND)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(found_gradients[1], pull_back(gradient_BTND)[1], atol=1e-4)
    for offset, band in pull_back(gradient_BTND)[0].items():
        np.testing.assert_allclose(found_gradients[0][offset], band, atol=1e-4)


def test_a_gradient_of_a_gradient_can_be_taken():
    bands, node_BTND = fake_bands(4, 3, (0, 1)), fake_nodes(4, 3)

    def slope(function):
        loss = jax.grad(lambda bands, node: jnp.sum(function(bands, node) ** 3), argnums=1)
        return jax.grad(lambda bands: jnp.sum(loss(bands, node_BTND) ** 2))(bands)

    found, expected = slope(messages), slope(by_matrix)
    for offset in expected:
        np.testing.assert_allclose(found[offset], expected[offset], rtol=1e-4)


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
def test_without_any_link_no_message_is_sent(platform):
    bands = {0: jnp.zeros((2, 4, 3, 3)), 1: jnp.zeros((2, 4, 3, 3))}
    with traced_for(platform):
        assert not np.asarray(messages(bands, fake_nodes(4, 3))).any()


def test_links_in_time_alone_carry_messages():
    bands = fake_bands(4, 3, (0, 1))
    bands[0] = jnp.zeros_like(bands[0])
    node_BTND = fake_nodes(4, 3)
    found = messages(bands, node_BTND)
    np.testing.assert_allclose(found, by_matrix(bands, node_BTND), atol=1e-4)
    assert np.asarray(found[:, :-1]).all()


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
def test_a_broken_weight_shows(platform):
    bands = {0: jnp.full((2, 4, 3, 3), jnp.nan)}
    with traced_for(platform):
        assert np.isnan(messages(bands, fake_nodes(4, 3))).all()


def test_sums_of_bfloat16_states_are_made_in_float32():
    node_BTND = jnp.full((1, 1, 3, 2), 1.0, jnp.bfloat16).at[:, :, 0].set(256)
    message_BTND = messages({0: jnp.ones((1, 1, 3, 3))}, node_BTND)
    assert message_BTND.dtype == jnp.bfloat16
    np.testing.assert_array_equal(message_BTND.astype(np.float32), 258)
