"""One query a row against scattered keys and values, in the plain and in the tuned form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from stg_jax.model.transformer import Attention
from stg_jax.ops.cached_attention import KeyValue
from stg_jax.ops.platform import traced_for

R, S, N, H, E = 5, 7, 4, 2, 8


@struct.dataclass
class Scattered:
    """Position s of query r is memory[s, row_RS[r, s]]."""

    mask_RS: jax.Array
    num_filled: jax.Array
    memory: KeyValue
    row_RS: jax.Array

    def at(self, position):
        row_R = jnp.asarray(self.row_RS)[:, position]
        return jax.tree.map(lambda x: x[position, row_R], self.memory)

    def gathered(self):
        return jax.tree.map(lambda x: x[np.arange(S), self.row_RS], self.memory)


def attend(platform, mask_RS, num_filled, *, dtype='float32', worth=np.nan):
    """Attend from random queries; positions that are not filled hold `worth`."""
    rng = np.random.default_rng(0)
    query_RHE = jnp.asarray(3 * rng.normal(size=(R, H, E)), dtype)
    key_SNHE, value_SNHE = rng.normal(size=(2, S, N, H, E))
    row_RS = rng.integers(0, N, (R, S))
    memory = jax.tree.map(
        lambda x: jnp.asarray(x, dtype).at[num_filled:].set(worth), KeyValue(key_SNHE, value_SNHE)
    )
    attention = Attention(H * E, H, jnp.dtype(dtype))

    @jax.jit
    def attend_each(query_RHE, mask_RS, num_filled):
        view = Scattered(mask_RS, num_filled, memory, row_RS)
        return attention.apply({}, query_RHE, view, method='attend_each')

    with traced_for(platform):
        found_RHE = attend_each(query_RHE, mask_RS, num_filled)
    assert found_RHE.dtype == dtype
    return np.asarray(found_RHE, np.float32), query_RHE, memory, row_RS


def expected(query_RHE, memory, row_RS, mask_RS):
    read_RHE = np.zeros((R, H, E))
    for r in range(R):
        at = np.flatnonzero(np.broadcast_to(mask_RS, (R, S))[r])
        key_SHE, value_SHE = (
            np.asarray(x, np.float64)[at, row_RS[r, at]] for x in (memory.key, memory.value)
        )
        for h in range(H):
            weight_S = np.exp(key_SHE[:, h] @ np.asarray(query_RHE, np.float64)[r, h] / E**0.5)
            read_RHE[r, h] = weight_S @ value_SHE[:, h] / weight_S.sum()
    return read_RHE


def some_mask():
    mask_RS = np.random.default_rng(1).random((R, S)) < 0.6
    mask_RS[:, 2] = True
    return mask_RS


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
@pytest.mark.parametrize(('dtype', 'atol'), [('float32', 1e-5), ('bfloat16', 0.03)])
def test_reads_what_the_mask_shows(platform, dtype, atol):
    found_RHE, *arguments = attend(platform, some_mask(), S, dtype=dtype)
    np.testing.assert_allclose(found_RHE, expected(*arguments, some_mask()), atol=atol)


@pytest.mark.parametrize(('platform', 'worth'), [('cpu', np.nan), ('tpu', 0.0)])
@pytest.mark.parametrize('num_filled', [1, 4])
def test_positions_that_are_not_filled_count_for_nothing(platform, worth, num_filled):
    mask_1S = np.arange(S)[None] < num_filled
    found_RHE, *arguments = attend(platform, mask_1S, num_filled, worth=worth)
    np.testing.assert_allclose(found_RHE, expected(*arguments, mask_1S), atol=1e-5)


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
def test_where_nothing_is_shown_all_is_read_alike(platform):
    mask_RS = some_mask()
    mask_RS[3] = False
    found_RHE, _, memory, row_RS = attend(platform, mask_RS, S)
    mean_HE = np.asarray(memory.value)[np.arange(S), row_RS[3]].mean(0)
    np.testing.assert_allclose(found_RHE[3], mean_HE, atol=1e-5)
