"""The searches against exhaustive and plain NumPy ones, on models that remember every word."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_jax.data.vocab import BOS, EOS, PAD, UNK
from stg_jax.decode import beam
from tests.fakes.history_model import (
    MAX_WORDS,
    WORDS,
    HistoryModel,
    greedy,
    penalty,
    search,
    words_of,
)

NUM_SEQUENCES = 1 + 3 + 9 + 27


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
    result = search(model, NUM_SEQUENCES, alpha)
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
    result = search(model, beam_size, alpha)
    for clip in range(2):
        expected = plain_beam_search(model, clip, beam_size, alpha)
        possible = np.isfinite(result.score_BK[clip])
        assert possible.sum() == len(expected)
        assert [words_of(t) for t in result.token_BKL[clip, possible]] == [w for w, _ in expected]
        np.testing.assert_allclose(
            result.score_BK[clip, possible], [v for _, v in expected], rtol=1e-4
        )


@pytest.mark.parametrize('alpha', [0.0, 0.6, 2.0])
def test_one_beam_takes_the_likeliest_token_of_its_own_history(alpha):
    model = HistoryModel(4, batch_size=16, max_words=8)
    result = search(model, 1, alpha)
    lengths = set()
    for clip in range(16):
        words = words_of(result.token_BKL[clip, 0])
        lengths.add(len(words))
        for step, token in enumerate((*words, EOS)[: model.max_words]):
            logp_V = model.logp(clip, words[:step])
            assert token == max((EOS, *WORDS), key=lambda token, logp_V=logp_V: logp_V[token])
        expected = model.score(clip, words, alpha)
        np.testing.assert_allclose(result.score_BK[clip, 0], expected, rtol=1e-5)
    assert len(lengths) > 2


def test_scores_are_sorted_and_those_of_the_returned_tokens():
    model = HistoryModel(5, batch_size=4, max_words=8)
    result = search(model, 5, alpha=0.6)
    assert np.all(np.diff(result.score_BK, axis=1) <= 0)
    for clip, beams in enumerate(result.token_BKL):
        recomputed = [model.score(clip, words_of(token_L), 0.6) for token_L in beams]
        np.testing.assert_allclose(result.score_BK[clip], recomputed, rtol=1e-5)


def test_stops_as_soon_as_no_clip_can_improve():
    model = HistoryModel(6, batch_size=2, scale=0.5, eos_bonus=4.0, max_words=40)
    result = search(model, 2, alpha=0.6)
    jax.effects_barrier()
    assert len(model.clips_read) < 10
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
    result = search(model, 2, alpha=4.0)
    assert words_of(result.token_BKL[0, 0]) == (4,) * 12


def test_eos_is_forced_and_counted_after_max_words():
    model = HistoryModel(7, batch_size=2, eos_bonus=-8.0, max_words=4)
    for result, alpha in ((search(model, 3), 0.6), (greedy(model), 0.0)):
        for clip in range(2):
            words = words_of(result.token_BKL[clip, 0])
            assert len(words) == 4
            np.testing.assert_allclose(
                result.score_BK[clip, 0], model.score(clip, words, alpha), rtol=1e-5
            )


def test_positions_count_up_from_bos_to_the_last_word():
    model = HistoryModel(7, batch_size=1, eos_bonus=-8.0, max_words=4)
    search(model, 3)
    jax.effects_barrier()
    assert sorted(model.clips_read) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize('beam_size', [1, 3, 5])
@pytest.mark.parametrize('alpha', [0.0, 1.0])
def test_dropping_what_cannot_win_changes_nothing(beam_size, alpha):
    """Many clips of many lengths, so that steps of all numbers of rows are taken."""
    model = HistoryModel(13, batch_size=40, max_words=12)
    model.table_BXV[::2, :, EOS] += 1.0
    model.table_BXV[::5, :, EOS] -= 3.0
    result = search(model, beam_size, alpha)
    for clip in range(40):
        expected = plain_beam_search(model, clip, beam_size, alpha)
        assert [words_of(t) for t in result.token_BKL[clip]] == [words for words, _ in expected]
        np.testing.assert_allclose(
            result.score_BK[clip], [score for _, score in expected], rtol=1e-4
        )


@pytest.mark.parametrize('num_best', [1, 2])
@pytest.mark.parametrize('alpha', [-1.0, 0.0, 0.6, 2.0])
def test_asking_for_fewer_hypotheses_finds_the_same_and_reads_fewer_rows(num_best, alpha):
    rows_read = {}
    for number in (5, num_best):
        model = HistoryModel(15, batch_size=40, max_words=12)
        model.table_BXV[::2, :, EOS] += 2.0
        found = search(model, 5, alpha, num_best=number)
        jax.effects_barrier()
        rows_read[number] = sum(map(len, model.clips_read.values()))
        if number == 5:
            of_five = found
    np.testing.assert_array_equal(found.token_BKL, of_five.token_BKL[:, :num_best])
    np.testing.assert_array_equal(found.score_BK, of_five.score_BK[:, :num_best])
    assert rows_read[num_best] < rows_read[5]


def test_only_as_many_rows_are_read_as_hypotheses_can_win():
    model = HistoryModel(14, batch_size=32, scale=0.5, max_words=12)
    model.table_BXV[:16, :, EOS] += 4.0
    model.table_BXV[16:, :, EOS] -= 4.0
    search(model, 4)
    jax.effects_barrier()
    num_rows = [len(clip_R) for clip_R in model.clips_read.values()]
    assert num_rows[0] == 32  # each clip once
    assert max(num_rows) > 64
    assert num_rows[-1] == 64
    assert set(model.clips_read[12]) == set(range(16, 32))


@pytest.mark.parametrize('beam_size', [1, 2, 5])
@pytest.mark.parametrize('batch_size', [1, 8, 9, 670])
def test_a_few_numbers_of_rows_are_compiled_and_the_largest_holds_all(batch_size, beam_size):
    counts = beam.row_counts(batch_size, beam_size)
    assert counts[0] == batch_size * beam_size
    assert counts == sorted(set(counts), reverse=True)
    assert len(counts) <= 5
    assert min(counts) >= min(8, counts[0])


@pytest.mark.parametrize('run', [greedy, lambda model: search(model, 4)], ids=['greedy', 'beam'])
def test_a_clip_does_not_depend_on_its_batch(run):
    model = HistoryModel(8, batch_size=24, max_words=8)
    together = run(model)
    full_table = model.table_BXV
    for clips in ([3, 1], [2, 2, 0], range(5, 24)):
        model.table_BXV = full_table[clips]
        result = run(model)
        np.testing.assert_array_equal(result.token_BKL, together.token_BKL[np.array(clips)])
        np.testing.assert_array_equal(result.score_BK, together.score_BK[np.array(clips)])


def test_jit_changes_nothing():
    model = HistoryModel(9, batch_size=2)
    with jax.disable_jit():
        plain = search(model, 4)
    compiled = jax.jit(lambda: search(model, 4))()
    np.testing.assert_array_equal(compiled.token_BKL, plain.token_BKL)
    np.testing.assert_allclose(compiled.score_BK, plain.score_BK, rtol=1e-6)


def test_banned_ids_never_appear_and_keep_their_probability():
    model = HistoryModel(10, batch_size=2)
    model.table_BXV[:, :, [PAD, BOS, UNK]] += 10.0
    model.table_BXV[:, :, 5] += 10.0
    result = search(model, 4, alpha=0.0, banned=(PAD, BOS, UNK, 5))
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
    for result in (greedy(model), search(model, 4)):
        assert not np.isnan(result.score_BK).any()
        assert np.isfinite(result.score_BK[:2, 0]).all()
        assert words_of(result.token_BKL[1, 0]) == ()
        assert np.all(result.score_BK[2] == -np.inf)
        assert all(words_of(token_L) == () for token_L in result.token_BKL[2])


def test_only_eos_left_gives_the_empty_caption():
    model = HistoryModel(12, batch_size=1)
    banned = (PAD, BOS, UNK, *WORDS)
    for result in (greedy(model, banned=banned), search(model, 3, banned=banned)):
        assert words_of(result.token_BKL[0, 0]) == ()
        assert np.isfinite(result.score_BK[0, 0])
        assert np.all(result.score_BK[0, 1:] == -np.inf)
