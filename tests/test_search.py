"""The searches against exhaustive and plain NumPy ones, on models that remember every word."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_jax.data.vocab import BOS, EOS, PAD, UNK
from stg_jax.decode import search

NUM_TOKENS = 7
WORDS = (4, 5, 6)
MAX_WORDS = 3
NUM_SEQUENCES = 1 + 3 + 9 + 27
TABLE_SIZE = 997


class HistoryModel:
    """Logits drawn from a random table by the whole prefix, which only the cache knows."""

    def __init__(self, seed, batch_size, *, scale=2.0, eos_bonus=0.0, max_words=MAX_WORDS):
        rng = np.random.default_rng(seed)
        shape = (batch_size, TABLE_SIZE, NUM_TOKENS)
        self.table_BXV = rng.normal(scale=scale, size=shape).astype(np.float32)
        self.table_BXV[:, :, EOS] += eos_bonus
        self.max_words = max_words
        self.positions = []

    def cache(self, beam_size):
        batch_size = len(self.table_BXV)
        return {
            'prefix': jnp.zeros((batch_size, beam_size, self.max_words + 1), jnp.int32),
            'hash': jnp.zeros((batch_size, beam_size), jnp.int32),
        }

    def logits_fn(self, token_BK, position, cache):
        self.positions.append(position)
        prefix_BKL = cache['prefix'].at[:, :, position].set(token_BK)
        hash_BK = (cache['hash'] * 31 + token_BK) % TABLE_SIZE
        # Two leaves of different rank decide together: both must follow their hypothesis.
        row_BK = (hash_BK + prefix_BKL.sum(-1)) % TABLE_SIZE
        logits_BKV = jax.vmap(lambda table, row: table[row])(jnp.asarray(self.table_BXV), row_BK)
        return logits_BKV, {'prefix': prefix_BKL, 'hash': hash_BK}

    def row(self, words):
        code = 0
        for token in (BOS, *words):
            code = (code * 31 + token) % TABLE_SIZE
        return (code + BOS + sum(words)) % TABLE_SIZE

    def logp(self, clip, words):
        """Return the float64 log-probabilities of what follows `words`, without the search."""
        logits_V = self.table_BXV[clip, self.row(words)].astype(np.float64)
        return logits_V - np.logaddexp.reduce(logits_V)

    def score(self, clip, words, alpha):
        tokens = (*words, EOS)
        total = sum(self.logp(clip, words[:i])[token] for i, token in enumerate(tokens))
        return total / penalty(len(tokens), alpha)


def penalty(length, alpha):
    return ((5 + length) / 6) ** alpha


def beam(model, beam_size, alpha=0.6, **options):
    return search.beam_search(
        model.logits_fn,
        model.cache(beam_size),
        batch_size=len(model.table_BXV),
        beam_size=beam_size,
        max_words=model.max_words,
        length_penalty=alpha,
        **options,
    )


def greedy(model, **options):
    return search.greedy_search(
        model.logits_fn,
        model.cache(1),
        batch_size=len(model.table_BXV),
        max_words=model.max_words,
        **options,
    )


def words_of(token_L):
    """Return the words before EOS, after checking that PAD alone follows it."""
    tokens = token_L.tolist()
    end = tokens.index(EOS)
    assert set(tokens[end + 1 :]) <= {PAD}
    return tuple(tokens[:end])


def plain_beam_search(model, clip, beam_size, alpha):
    """Search one clip with lists and to the very end, whatever is found on the way."""
    live, found = [((), 0.0)], []
    for step in range(model.max_words + 1):
        choices = (EOS,) if step == model.max_words else (EOS, *WORDS)
        grown = [
            (words, token, logp + model.logp(clip, words)[token])
            for words, logp in live
            for token in choices
        ]
        grown = sorted(grown, key=lambda item: -item[2])[:beam_size]
        found += [(w, logp / penalty(step + 1, alpha)) for w, token, logp in grown if token == EOS]
        live = [((*words, token), logp) for words, token, logp in grown if token != EOS]
    return sorted(found, key=lambda item: -item[1])[:beam_size]


@pytest.mark.parametrize('alpha', [0.0, 0.6, 1.5])
@pytest.mark.parametrize('seed', [0, 1])
def test_wide_beam_is_exhaustive_search(alpha, seed):
    model = HistoryModel(seed, batch_size=3)
    result = beam(model, NUM_SEQUENCES, alpha)
    sequences = [s for n in range(MAX_WORDS + 1) for s in itertools.product(WORDS, repeat=n)]
    for clip in range(3):
        expected = sorted(((model.score(clip, s, alpha), s) for s in sequences), reverse=True)
        assert [words_of(t) for t in result.token_BKL[clip]] == [s for _, s in expected]
        np.testing.assert_allclose(result.score_BK[clip], [v for v, _ in expected], rtol=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    beam_size=st.sampled_from([1, 2, 5]),
    alpha=st.sampled_from([0.0, 0.6, 2.0]),
    eos_bonus=st.sampled_from([-2.0, 0.0, 3.0]),
)
def test_beam_search_equals_the_plain_one_that_never_stops_early(seed, beam_size, alpha, eos_bonus):
    model = HistoryModel(seed, batch_size=2, eos_bonus=eos_bonus, max_words=6)
    result = beam(model, beam_size, alpha)
    for clip in range(2):
        expected = plain_beam_search(model, clip, beam_size, alpha)
        possible = np.isfinite(result.score_BK[clip])
        assert possible.sum() == len(expected)
        assert [words_of(t) for t in result.token_BKL[clip, possible]] == [w for w, _ in expected]
        np.testing.assert_allclose(
            result.score_BK[clip, possible], [v for _, v in expected], rtol=1e-4
        )


@pytest.mark.parametrize('alpha', [0.0, 0.6, 2.0])
def test_one_beam_is_greedy_search(alpha):
    model = HistoryModel(3, batch_size=16, max_words=8)
    one_beam, plain = beam(model, 1, alpha), greedy(model)
    np.testing.assert_array_equal(one_beam.token_BKL, plain.token_BKL)
    lengths = [len(words_of(t)) + 1 for t in plain.token_BKL[:, 0]]
    assert len(set(lengths)) > 2
    scaled = plain.score_BK[:, 0] / np.array([penalty(n, alpha) for n in lengths])
    np.testing.assert_allclose(one_beam.score_BK[:, 0], scaled, rtol=1e-5)


def test_greedy_takes_the_likeliest_token_of_its_own_history():
    model = HistoryModel(4, batch_size=8, max_words=8)
    result = greedy(model)
    for clip in range(8):
        words = words_of(result.token_BKL[clip, 0])
        for step, token in enumerate((*words, EOS)[: model.max_words]):
            logp_V = model.logp(clip, words[:step])
            assert token == max((EOS, *WORDS), key=lambda token, logp_V=logp_V: logp_V[token])
        np.testing.assert_allclose(result.score_BK[clip, 0], model.score(clip, words, 0), rtol=1e-5)


def test_scores_are_sorted_and_those_of_the_returned_tokens():
    model = HistoryModel(5, batch_size=4, max_words=8)
    result = beam(model, 5, alpha=0.6)
    assert np.all(np.diff(result.score_BK, axis=1) <= 0)
    for clip, beams in enumerate(result.token_BKL):
        recomputed = [model.score(clip, words_of(token_L), 0.6) for token_L in beams]
        np.testing.assert_allclose(result.score_BK[clip], recomputed, rtol=1e-5)


def test_stops_as_soon_as_no_clip_can_improve():
    model = HistoryModel(6, batch_size=2, scale=0.5, eos_bonus=4.0, max_words=40)
    with jax.disable_jit():
        result = beam(model, 2, alpha=0.6)
        assert len(model.positions) < 10
    assert [words_of(t) for t in result.token_BKL[0]] == [
        words for words, _ in plain_beam_search(model, 0, 2, 0.6)
    ]


def test_a_long_caption_still_wins_after_short_ones_filled_the_beam():
    """A live prefix can overtake at full length although it would lose by ending now."""
    model = HistoryModel(0, batch_size=1, max_words=12)
    model.table_BXV[:] = -20.0
    model.table_BXV[:, :, [EOS, 4]] = -3.0, 0.0
    model.table_BXV[0, model.row(()), [EOS, 4]] = 0.0, 0.0
    model.table_BXV[0, model.row((4,)), [EOS, 4]] = 2.2, 0.0
    result = beam(model, 2, alpha=4.0)
    assert words_of(result.token_BKL[0, 0]) == (4,) * 12


def test_eos_is_forced_and_counted_after_max_words():
    model = HistoryModel(7, batch_size=2, eos_bonus=-8.0, max_words=4)
    for result, alpha in ((beam(model, 3), 0.6), (greedy(model), 0.0)):
        for clip in range(2):
            words = words_of(result.token_BKL[clip, 0])
            assert len(words) == 4
            np.testing.assert_allclose(
                result.score_BK[clip, 0], model.score(clip, words, alpha), rtol=1e-5
            )


def test_positions_count_up_from_bos_to_the_last_word():
    model = HistoryModel(7, batch_size=1, eos_bonus=-8.0, max_words=4)
    with jax.disable_jit():
        beam(model, 3)
        greedy(model)
    assert [int(p) for p in model.positions] == [0, 1, 2, 3, 4] * 2
    assert {p.dtype for p in model.positions} == {jnp.int32.dtype}


@pytest.mark.parametrize('run', [greedy, lambda model: beam(model, 4)], ids=['greedy', 'beam'])
def test_a_clip_does_not_depend_on_its_batch(run):
    model = HistoryModel(8, batch_size=4, max_words=8)
    together = run(model)
    full_table = model.table_BXV
    for clips in ([0], [3, 1], [2, 2, 0]):
        model.table_BXV = full_table[clips]
        result = run(model)
        np.testing.assert_array_equal(result.token_BKL, together.token_BKL[np.array(clips)])
        np.testing.assert_array_equal(result.score_BK, together.score_BK[np.array(clips)])


@pytest.mark.parametrize('run', [greedy, lambda model: beam(model, 4)], ids=['greedy', 'beam'])
def test_jit_changes_nothing(run):
    model = HistoryModel(9, batch_size=2)
    with jax.disable_jit():
        plain = run(model)
    compiled = jax.jit(lambda: run(model))()
    np.testing.assert_array_equal(compiled.token_BKL, plain.token_BKL)
    np.testing.assert_allclose(compiled.score_BK, plain.score_BK, rtol=1e-6)


def test_banned_ids_never_appear_and_keep_their_probability():
    model = HistoryModel(10, batch_size=2)
    model.table_BXV[:, :, [PAD, BOS, UNK]] += 10.0
    model.table_BXV[:, :, 5] += 10.0
    result = beam(model, 4, alpha=0.0, banned=(PAD, BOS, UNK, 5))
    for clip, beams in enumerate(result.token_BKL):
        for k, token_L in enumerate(beams):
            words = words_of(token_L)
            assert set(words) <= {4, 6}
            np.testing.assert_allclose(
                result.score_BK[clip, k], model.score(clip, words, 0), rtol=1e-5
            )
    found = greedy(model, banned=(PAD, BOS, UNK, 5)).token_BKL
    assert set(found.ravel().tolist()) <= {PAD, EOS, 4, 6}


def test_equal_logits_and_impossible_tokens_give_no_nan():
    model = HistoryModel(11, batch_size=3)
    model.table_BXV[0] = 0.0
    model.table_BXV[1][:, WORDS] = -np.inf
    model.table_BXV[2] = -np.inf
    for result in (greedy(model), beam(model, 4)):
        assert not np.isnan(result.score_BK).any()
        assert np.isfinite(result.score_BK[:2, 0]).all()
        assert words_of(result.token_BKL[1, 0]) == ()
        assert np.all(result.score_BK[2] == -np.inf)
        assert all(words_of(token_L) == () for token_L in result.token_BKL[2])


def test_only_eos_left_gives_the_empty_caption():
    model = HistoryModel(12, batch_size=1)
    banned = (PAD, BOS, UNK, *WORDS)
    for result in (greedy(model, banned=banned), beam(model, 3, banned=banned)):
        assert words_of(result.token_BKL[0, 0]) == ()
        assert np.isfinite(result.score_BK[0, 0])
        assert np.all(result.score_BK[0, 1:] == -np.inf)
