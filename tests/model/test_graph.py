"""The banded graph against the dense one of tests/fakes/graph_oracle.py, and worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_jax.benchmark.graph import build_dense_graph
from stg_jax.model.graph import build_graph, pairwise_cosine, pairwise_iou
from tests.fakes.graph_oracle import (
    KINDS,
    C,
    D,
    N,
    T,
    fake_objects,
    oracle_adjacency,
    oracle_graph,
    shuffle_objects,
    some_mask,
)


@jax.jit
def run(object_TNC, box_TN4, mask_TN, node_TND):
    """Return, for each of KINDS, the dense S G S (O, O) and its product with the node states."""

    def of_kind(kind, direction):
        arrays = object_TNC[None], box_TN4[None], mask_TN[None]
        graph = build_graph(*arrays, kind=kind, direction=direction)
        return graph.dense()[0], graph.propagate(node_TND[None])[0]

    return {kind: of_kind(*kind) for kind in KINDS}


def fake_nodes(mask_TN):
    return np.random.default_rng(1).normal(size=(*mask_TN.shape, D)).astype(np.float32)


def dense_of(mask_TN, kind=('full', 'literal')):
    dense_OO, _ = run(*fake_objects(mask_TN), mask_TN, fake_nodes(mask_TN))[kind]
    return np.asarray(dense_OO)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(('frames', 'objects'), [(5, 3), (1, 3), (4, 1), (1, 1), (12, 11), (3, 65)])
def test_blocks_and_messages_equal_those_of_the_dense_oracle(kind, frames, objects):
    mask_TN = some_mask(frames, objects)
    inputs, node_TND = fake_objects(mask_TN), fake_nodes(mask_TN)
    dense_OO, message_TND = run(*inputs, mask_TN, node_TND)[kind]
    expected_OO = oracle_graph(*inputs, mask_TN, *kind)
    np.testing.assert_allclose(dense_OO, expected_OO, atol=1e-6)
    expected_OD = expected_OO @ node_TND.reshape(-1, D)
    np.testing.assert_allclose(message_TND.reshape(-1, D), expected_OD, atol=1e-5)


@given(st.lists(st.booleans(), min_size=T * N, max_size=T * N), st.sampled_from(KINDS))
@settings(max_examples=100, deadline=None)
def test_any_mask_gives_the_graph_of_the_oracle(present, kind):
    mask_TN = np.array(present).reshape(T, N)
    expected_OO = oracle_graph(*fake_objects(mask_TN), mask_TN, *kind)
    np.testing.assert_allclose(dense_of(mask_TN, kind), expected_OO, atol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_the_dense_graph_of_the_benchmark_is_that_of_the_oracle(kind):
    mask_TN = some_mask()
    inputs, node_TND = fake_objects(mask_TN), fake_nodes(mask_TN)
    arrays = (x[None] for x in (*inputs, mask_TN))
    graph = build_dense_graph(*arrays, kind=kind[0], direction=kind[1])
    expected_OO = oracle_graph(*inputs, mask_TN, *kind)
    np.testing.assert_allclose(graph.adj_BOO[0], expected_OO, atol=1e-6)
    message_TND = graph.propagate(node_TND[None])[0]
    expected_OD = expected_OO @ node_TND.reshape(-1, D)
    np.testing.assert_allclose(message_TND.reshape(-1, D), expected_OD, atol=1e-5)


def test_with_all_objects_present_the_scales_are_a_half_and_at_the_end_larger():
    mask_TN = np.ones((T, N), bool)
    expected_OO = oracle_adjacency(*fake_objects(mask_TN), mask_TN, 'full', 'literal') / 2
    expected_TNTN = expected_OO.reshape(T, N, T, N)
    expected_TNTN[T - 2, :, T - 1] *= 2**0.5
    expected_TNTN[T - 1, :, T - 1] *= 2
    np.testing.assert_allclose(dense_of(mask_TN).reshape(T, N, T, N), expected_TNTN, atol=1e-6)


def test_a_frame_before_an_empty_one_has_degree_one():
    mask_TN = np.array([[True, True], [False, False], [True, True]])
    dense_TNTN = dense_of(mask_TN).reshape(3, 2, 3, 2)
    np.testing.assert_allclose(dense_TNTN[0, :, 0].sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(dense_TNTN[2, :, 2].sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(dense_TNTN.sum(), 4, atol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_absent_objects_have_zero_rows_and_columns(kind):
    mask_TN = some_mask()
    dense_OO = dense_of(mask_TN, kind)
    assert not dense_OO[~mask_TN.ravel()].any()
    assert not dense_OO[:, ~mask_TN.ravel()].any()
    assert dense_OO[mask_TN.ravel()].any(1).all()


@pytest.mark.parametrize('kind', KINDS)
def test_a_clip_without_objects_sends_no_message(kind):
    mask_TN = np.zeros((T, N), bool)
    dense_OO, message_TND = run(*fake_objects(mask_TN), mask_TN, fake_nodes(mask_TN))[kind]
    assert not np.asarray(dense_OO).any()
    assert not np.asarray(message_TND).any()


@pytest.mark.parametrize(
    ('direction', 'reached'), [('literal', [1, 2]), ('forward', [2, 3]), ('both', [1, 2, 3])]
)
def test_messages_of_a_frame_reach_the_frames_that_the_direction_says(direction, reached):
    mask_TN = np.ones((T, N), bool)
    node_TND = np.zeros((T, N, D), np.float32)
    node_TND[2] = 1
    _, message_TND = run(*fake_objects(mask_TN), mask_TN, node_TND)['full', direction]
    assert np.flatnonzero(np.asarray(message_TND).any((1, 2))).tolist() == reached


def test_the_length_of_a_feature_does_not_change_the_graph():
    mask_TN = some_mask()
    object_TNC, box_TN4 = fake_objects(mask_TN)
    length_TN1 = np.random.default_rng(3).uniform(0.1, 9, (T, N, 1)).astype(np.float32)
    dense_OO, _ = run(object_TNC * length_TN1, box_TN4, mask_TN, fake_nodes(mask_TN))[KINDS[0]]
    np.testing.assert_allclose(dense_OO, dense_of(mask_TN, KINDS[0]), atol=1e-6)


def test_overlap_of_boxes_by_hand():
    left, right, half = [0, 0, 0.5, 1], [0.5, 0, 1, 1], [0.25, 0, 0.75, 1]
    point = [0.25, 0.5, 0.25, 0.5]
    boxes = jnp.array([left, left, right, half, point, point], jnp.float32)
    third = 1 / 3
    expected = [
        [1, 1, 0, third, 0, 0],
        [1, 1, 0, third, 0, 0],
        [0, 0, 1, third, 0, 0],
        [third, third, third, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    np.testing.assert_allclose(pairwise_iou(boxes[None, None])[0, 0], expected, atol=1e-6)


def test_cosine_of_features_by_hand():
    left = jnp.array([[2.0, 0.0], [0.0, 0.0], [1e4, 1e4]])
    right = jnp.array([[5.0, 0.0], [0.0, 1.0], [-3.0, 0.0], [0.0, 0.0]])
    expected = [[1, 0, -1, 0], [0, 0, 0, 0], [0.5**0.5, 0.5**0.5, -(0.5**0.5), 0]]
    found = pairwise_cosine(left[None, None], right[None, None])[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_cosine_of_float16_features_at_the_limit_of_their_range():
    feature_TNC = jnp.full((1, 1, 1, 2048), 6e4, jnp.float16)
    np.testing.assert_allclose(pairwise_cosine(feature_TNC, -feature_TNC), -1, atol=1e-5)


def test_work_grows_with_the_frames_and_not_with_their_square():
    def run(object_BTNC, box_BTN4, mask_BTN):
        graph = build_graph(object_BTNC, box_BTN4, mask_BTN, kind='full', direction='both')
        return graph.propagate(object_BTNC)

    def flops(frames):
        shape = (1, frames, N)
        lowered = jax.jit(run).lower(
            jnp.zeros((*shape, C)), jnp.zeros((*shape, 4)), jnp.ones(shape, bool)
        )
        return lowered.cost_analysis()['flops']

    assert flops(64) < 4.5 * flops(16)


def test_the_order_of_objects_orders_the_rows_and_columns_and_nothing_else():
    mask_TN = some_mask()
    inputs = (*fake_objects(mask_TN), mask_TN)
    order_TN, shuffled = shuffle_objects(inputs)
    order_O = (order_TN + N * np.arange(T)[:, None]).ravel()
    node_TND = fake_nodes(mask_TN)
    for kind in KINDS:
        expected_OO = run(*inputs, node_TND)[kind][0][order_O][:, order_O]
        np.testing.assert_allclose(run(*shuffled, node_TND)[kind][0], expected_OO, atol=1e-6)
