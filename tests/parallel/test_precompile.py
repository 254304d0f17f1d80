"""Programs that are compiled in threads before they are needed."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.parallel import sharding
from stg_jax.parallel.precompile import Precompiler


@pytest.fixture
def programs():
    with Precompiler() as programs:
        yield programs


def counted(fn):
    """Return the jitted function and a list that grows by the shape of each trace."""
    traces = []

    def traced(x):
        traces.append(x.shape)
        return fn(x)

    return jax.jit(traced), traces


def test_each_shape_is_compiled_once_whether_expected_or_not(programs):
    jitted, traces = counted(jnp.cumsum)
    x = jnp.arange(4.0)
    programs.expect(jitted, x)
    programs.expect(jitted, sharding.reshaped(x, 6))
    for length in (4, 6, 6, 8, 4):
        y = jnp.arange(float(length))
        np.testing.assert_array_equal(programs.call(jitted, y), np.cumsum(y))
    assert sorted(traces) == [(4,), (6,), (8,)]


def test_two_functions_of_the_same_shapes_have_programs_of_their_own(programs):
    double, square = jax.jit(lambda x: 2 * x), jax.jit(lambda x: x * x)
    x = jnp.arange(4.0)
    programs.expect(double, x)
    np.testing.assert_array_equal(programs.call(square, x), x * x)
    np.testing.assert_array_equal(programs.call(double, x), 2 * x)


def test_expecting_keeps_no_array_in_memory(programs):
    jitted = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.ones(3)
    programs.expect(jitted, x)
    y = programs.call(jitted, x)
    assert x.is_deleted()
    np.testing.assert_array_equal(programs.call(jitted, y), np.full(3, 3.0))


def test_an_error_of_the_compilation_reaches_the_caller(programs):
    def refuse(x):
        raise ValueError('no such program')

    jitted = jax.jit(refuse)
    programs.expect(jitted, jnp.ones(3))
    with pytest.raises(ValueError, match='no such program'):
        programs.call(jitted, jnp.ones(3))


def test_the_program_is_chosen_by_the_shape_of_the_batch(programs):
    jitted = jax.jit(lambda state, batch: state + batch.sum())
    state = jnp.zeros(5)
    for length in (3, 2, 3, 2):
        state = programs.call(jitted, state, jnp.ones(length))
    np.testing.assert_array_equal(state, np.full(5, 10.0))


def test_its_clock_stands_still_while_a_call_waits_for_its_compilation():
    waits, may_end = [], threading.Event()

    def slow(x):
        may_end.wait(10)
        return x + 1

    def on_wait():
        waits.append(programs.clock())
        threading.Timer(0.3, may_end.set).start()

    with Precompiler(on_wait) as programs:
        jitted, x = jax.jit(slow), jnp.ones(3)
        began = time.perf_counter()
        for _ in range(2):
            programs.call(jitted, x)
        assert len(waits) == 1  # the second call finds the program
        lost = time.perf_counter() - began - (programs.clock() - waits[0])
        assert lost > 0.25
