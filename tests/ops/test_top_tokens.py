"""The blockwise search for the best tokens against ranking the whole vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_jax.data.vocab import EOS
from stg_jax.ops.platform import traced_for
from stg_jax.ops.top_tokens import BLOCK, plain_top_tokens, top_tokens

BANNED = (0, 1, 3)


def _compiled_for(platform):
    def traced(*args, **rule):
        with traced_for(platform):
            return top_tokens(*args, **rule)

    return jax.jit(traced, static_argnums=2, static_argnames='banned')


COMPILED = {platform: _compiled_for(platform) for platform in ('cpu', 'tpu')}


def tuned(logp_R, logits_RV, num_tokens, **rule):
    """Return what is found as on a CPU, after making sure that other devices find the same."""
    found, elsewhere = (run(logp_R, logits_RV, num_tokens, **rule) for run in COMPILED.values())
    jax.tree.map(np.testing.assert_array_equal, found, elsewhere)
    return found


plain = jax.jit(plain_top_tokens, static_argnames=('num_tokens', 'banned'))


def assert_same(logp_R, logits_RV, num_tokens, *, only_eos=False, banned=BANNED):
    rule = {'num_tokens': num_tokens, 'banned': banned, 'only_eos': np.bool_(only_eos)}
    logp_RC, id_RC = tuned(logp_R, logits_RV, **rule)
    expected_RC, expected_id_RC = plain(logp_R, logits_RV, **rule)
    np.testing.assert_allclose(logp_RC, expected_RC, rtol=1e-6)
    possible_RC = np.isfinite(expected_RC)
    np.testing.assert_array_equal(id_RC[possible_RC], expected_id_RC[possible_RC])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([(5, 2 * BLOCK), (5, 6 * BLOCK), (5, 1000), (1, 300), (3, 513)]),
    levels=st.sampled_from([1, 2, 5, 1000]),
    only_eos=st.booleans(),
)
def test_equals_ranking_the_whole_vocabulary_also_among_equal_logits(seed, size, levels, only_eos):
    num_tokens, V = size
    rng = np.random.default_rng(seed)
    logits_RV = rng.integers(0, levels, (4, V)).astype(np.float32) / 4
    logits_RV[rng.random((4, V)) < 0.3] = -np.inf
    assert_same(rng.normal(size=4).astype(np.float32), logits_RV, num_tokens, only_eos=only_eos)


def test_logits_that_rounding_makes_equal_keep_the_order_of_their_ids():
    logits_1V = np.zeros((1, 1000), np.float32)
    best = [900, 901, 400, 70, 20]
    logits_1V[0, best] = 10 + 1e-6 * np.arange(5)
    _, id_1C = tuned(np.float32([-1e4]), logits_1V, 5, banned=(), only_eos=np.bool_(False))
    assert id_1C[0].tolist() == sorted(best)


def test_fewer_tokens_are_possible_than_asked_for():
    logits_RV = np.full((3, 1000), -np.inf, np.float32)
    logits_RV[0, [EOS, 999]] = 1.0, 2.0
    logits_RV[1, list(BANNED)] = 5.0
    assert_same(np.zeros(3, np.float32), logits_RV, 5)


@pytest.mark.parametrize('V', [7, 1000])
def test_a_dead_prefix_has_no_continuation(V):
    logp_R = np.float32([-np.inf, -1.0])
    logits_RV = np.random.default_rng(0).normal(size=(2, V)).astype(np.float32)
    assert_same(logp_R, logits_RV, 5)
    assert np.all(tuned(logp_R, logits_RV, 5, banned=BANNED, only_eos=False)[0][0] == -np.inf)


def test_banned_tokens_keep_their_probability():
    logits_RV = np.zeros((1, 1000), np.float32)
    logits_RV[0, 1] = 50.0
    logp_RC, _ = tuned(np.zeros(1), logits_RV, 2, banned=BANNED, only_eos=False)
    np.testing.assert_allclose(logp_RC, -50.0, rtol=1e-6)


def test_half_precision_logits_are_normalised_in_float32():
    logits_RV = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float16)
    assert_same(np.zeros(2, np.float32), jnp.asarray(logits_RV, jnp.float32), 5)
    half = tuned(np.zeros(2), jnp.asarray(logits_RV), 5, banned=BANNED, only_eos=False)
    full = tuned(np.zeros(2), logits_RV.astype('f4'), 5, banned=BANNED, only_eos=False)
    jax.tree.map(np.testing.assert_array_equal, half, full)
