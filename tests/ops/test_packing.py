import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.ops.packing import Packing

SHAPE = B, K, L = 2, 3, 4
KEPT = np.array([0, 1, 4, 9, 10, 20])


def some_packing(empty=2):
    """Return a packing of the positions KEPT with some empty slots after them."""
    return Packing.of(jnp.array([*KEPT, *[B * K * L] * empty]), SHAPE)


def numbers(seed=0):
    return np.random.default_rng(seed).normal(size=(*SHAPE, 5)).astype(np.float32)


def test_packing_takes_the_named_positions_and_leaves_the_rest_of_the_slots_zero():
    packed_M = some_packing().pack(numbers())
    np.testing.assert_array_equal(packed_M[:6], numbers().reshape(-1, 5)[KEPT])
    assert not packed_M[6:].any()


@pytest.mark.parametrize('empty', [0, 2, 30])
def test_unpacking_puts_words_back_and_zeros_elsewhere(empty):
    packing = some_packing(empty)
    expected = np.zeros((B * K * L, 5), np.float32)
    expected[KEPT] = numbers().reshape(-1, 5)[KEPT]
    found = packing.unpack(packing.pack(numbers()))
    np.testing.assert_array_equal(found, expected.reshape(*SHAPE, 5))


@pytest.mark.parametrize('dtype', [np.int32, bool])
def test_words_and_masks_are_packed_in_their_own_type(dtype):
    x_BKL = np.ones(SHAPE, dtype)
    packed_M = some_packing().pack(x_BKL)
    assert packed_M.dtype == dtype
    assert packed_M.tolist() == [1] * 6 + [0] * 2


@pytest.mark.parametrize('way', ['pack', 'unpack'])
def test_the_gradient_is_that_of_the_matrix_of_the_move(way):
    move, shape = getattr(some_packing(), way), {'pack': SHAPE, 'unpack': (8,)}[way]
    matrix = jax.jacfwd(lambda x: jnp.zeros(shape) + x)(jnp.zeros(shape))
    rows = np.stack([np.ravel(move(one)) for one in matrix.reshape(-1, *shape)], axis=-1)
    found = jax.jacrev(move)(jnp.zeros(shape))
    np.testing.assert_array_equal(found.reshape(rows.shape), rows)


def test_without_positions_nothing_moves():
    whole = Packing.of(None, SHAPE)
    packed_PX = whole.pack(x := numbers())
    np.testing.assert_array_equal(packed_PX, x.reshape(-1, 5))
    np.testing.assert_array_equal(whole.unpack(packed_PX), x)
