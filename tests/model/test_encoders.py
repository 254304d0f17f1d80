"""The encoders against their formulas in float64, and what they must not depend on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.model.encoders import ObjectEncoder, SceneEncoder, mean_of_objects
from stg_jax.model.graph import build_graph
from tests.fakes.fake_network import random_params
from tests.fakes.graph_oracle import (
    KINDS,
    C,
    D,
    N,
    T,
    fake_objects,
    oracle_graph,
    shuffle_objects,
    some_mask,
)


def encoder(norm):
    return ObjectEncoder(width=D, num_layers=3, norm=norm, dtype=jnp.float32)


@functools.cache
def encoder_params(norm):
    graph = build_graph(
        *(jnp.zeros((1, 1, 1, n)) for n in (C, 4)),
        jnp.ones((1, 1, 1), bool),
        kind='spatial',
        direction='literal',
    )
    return random_params(encoder(norm), jnp.zeros((1, 1, 1, C)), graph)


def pooled(norm, *inputs):
    """Average the nodes of a random encoder of 3 layers, for each of KINDS (T, D)."""
    return apply_encoder(norm, encoder_params(norm), *inputs)


@functools.partial(jax.jit, static_argnums=0)
def apply_encoder(norm, params, object_TNC, box_TN4, mask_TN):

    def of_kind(kind, direction):
        arrays = object_TNC[None], box_TN4[None], mask_TN[None]
        graph = build_graph(*arrays, kind=kind, direction=direction)
        node_BTND = encoder(norm).apply({'params': params}, object_TNC[None], graph)
        return mean_of_objects(node_BTND, mask_TN[None])[0]

    return {kind: of_kind(*kind) for kind in KINDS}


@pytest.mark.parametrize('kind', KINDS)
def test_graph_convolutions_equal_those_of_the_oracle(kind):
    mask_TN = some_mask()
    object_TNC, box_TN4 = fake_objects(mask_TN)
    matrix_OO = oracle_graph(object_TNC, box_TN4, mask_TN, *kind)
    params = encoder_params('none')
    weight = {name: np.asarray(p['kernel'], np.float64) for name, p in params.items()}
    node_OD = object_TNC.reshape(-1, C) @ weight['embed']
    for layer in range(3):
        node_OD = np.maximum(node_OD + matrix_OO @ node_OD @ weight[f'graph_{layer}'], 0)
    node_TND = node_OD.reshape(T, N, D)
    expected_TD = [
        node_TND[t, mask_TN[t]].mean(0) if mask_TN[t].any() else np.zeros(D) for t in range(T)
    ]
    pooled_TD = pooled('none', object_TNC, box_TN4, mask_TN)[kind]
    np.testing.assert_allclose(pooled_TD, expected_TD, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('norm', ['none', 'layer'])
def test_the_order_of_objects_does_not_matter(norm):
    mask_TN = some_mask()
    inputs = (*fake_objects(mask_TN), mask_TN)
    _, shuffled = shuffle_objects(inputs)
    for kind in KINDS:
        original_TD = pooled(norm, *inputs)[kind]
        np.testing.assert_allclose(pooled(norm, *shuffled)[kind], original_TD, atol=1e-5)


@pytest.mark.parametrize('norm', ['none', 'layer'])
def test_more_absent_objects_and_what_they_hold_change_nothing(norm):
    mask_TN = some_mask()
    object_TNC, box_TN4 = fake_objects(mask_TN)
    wider_mask_TN = np.pad(mask_TN, ((0, 0), (0, 3)))
    rng = np.random.default_rng(4)

    def fill(value):
        wider = np.pad(value, ((0, 0), (0, 3), (0, 0)))
        garbage = rng.uniform(0, 100, wider.shape).astype(np.float32)
        return np.where(wider_mask_TN[..., None], wider, garbage)

    padded = pooled(norm, fill(object_TNC), fill(box_TN4), wider_mask_TN)
    for kind, original_TD in pooled(norm, object_TNC, box_TN4, mask_TN).items():
        np.testing.assert_allclose(padded[kind], original_TD, atol=1e-5)
        assert not np.asarray(padded[kind])[~mask_TN.any(1)].any()


def test_nodes_hold_the_corners_and_the_size_of_their_boxes():
    rng = np.random.default_rng(0)
    object_BTNC, box_BTN4 = rng.normal(size=(1, T, N, C)), rng.uniform(size=(1, T, N, 4))
    boxes = ObjectEncoder(width=D, num_layers=0, norm='none', dtype=jnp.float32)
    params = random_params(boxes, object_BTNC, None, box_BTN4)
    weight = {name: np.asarray(leaf['kernel'], np.float64) for name, leaf in params.items()}
    x1, y1, x2, y2 = np.moveaxis(box_BTN4, -1, 0)
    place = np.stack([x1, y1, x2, y2, x2 - x1, y2 - y1], -1)
    expected = object_BTNC @ weight['embed'] + place @ weight['box']
    found = boxes.apply({'params': params}, object_BTNC, None, box_BTN4)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(('fusion', 'axis'), [('channel', 2), ('time', 1)])
def test_the_scene_sequence_is_that_of_the_formula(fusion, axis):
    rng = np.random.default_rng(0)
    appearance_BTC = rng.normal(size=(2, T, 4)).astype(np.float32)
    motion_BTC = rng.normal(size=(2, T, 3)).astype(np.float32)
    encoder = SceneEncoder(width=D, fusion=fusion, dtype=jnp.float32)
    params = random_params(encoder, appearance_BTC, motion_BTC)
    weight = {name: np.asarray(leaf['kernel'], np.float64) for name, leaf in params.items()}
    parts = [appearance_BTC @ weight['appearance'], motion_BTC @ weight['motion']]
    expected_BSD = np.maximum(np.concatenate(parts, axis) @ weight['fuse'], 0)
    found_BSD = encoder.apply({'params': params}, appearance_BTC, motion_BTC)
    np.testing.assert_allclose(found_BSD, expected_BSD, atol=1e-5)
