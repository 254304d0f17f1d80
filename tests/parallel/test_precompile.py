"""Programs that are compiled in threads before they are needed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.parallel import precompile as ahead_module
from stg_jax.parallel import sharding
from stg_jax.parallel.precompile import Ahead, compilers


@pytest.fixture
def threads():
    with compilers() as pool:
        yield pool


def counted(fn):
    """Return the jitted function and a list that grows by the shape of each trace."""
    traces = []

    def traced(x):
        traces.append(x.shape)
        return fn(x)

    return jax.jit(traced), traces


def test_each_shape_is_compiled_once_whether_expected_or_not(threads):
    jitted, traces = counted(jnp.cumsum)
    ahead = Ahead(jitted, threads)
    x = jnp.arange(4.0)
    ahead.expect(x)
    ahead.expect(sharding.reshaped(x, 6))
    for length in (4, 6, 6, 8, 4):
        y = jnp.arange(float(length))
        np.testing.assert_array_equal(ahead(y), np.cumsum(y))
    assert sorted(traces) == [(4,), (6,), (8,)]


def test_expecting_keeps_no_array_in_memory(threads):
    ahead = Ahead(jax.jit(lambda x: x + 1, donate_argnums=0), threads)
    x = jnp.ones(3)
    ahead.expect(x)
    y = ahead(x)
    assert x.is_deleted()
    np.testing.assert_array_equal(ahead(y), np.full(3, 3.0))


def test_an_error_of_the_compilation_reaches_the_caller(threads):
    def refuse(x):
        raise ValueError('no such program')

    ahead = Ahead(jax.jit(refuse), threads)
    ahead.expect(jnp.ones(3))
    with pytest.raises(ValueError, match='no such program'):
        ahead(jnp.ones(3))


def test_a_call_of_what_is_compiled_looks_at_the_batch_alone(threads, monkeypatch):
    looked_at = []
    for name in ('_shape', '_key'):
        look = getattr(ahead_module, name)
        monkeypatch.setattr(
            ahead_module, name, lambda x, look=look: looked_at.append(x.shape) or look(x)
        )
    ahead = Ahead(jax.jit(lambda state, batch: state + batch.sum()), threads)
    state = jnp.zeros(5)
    for length in (3, 2, 3, 2):
        state = ahead(state, jnp.ones(length))
    np.testing.assert_array_equal(state, np.full(5, 10.0))
    batches = [shape for shape in looked_at if shape != (5,)]
    assert len(looked_at) - len(batches) == 2  # once for each program
    assert batches == [(3,), (3,), (2,), (2,), (3,), (2,)]
