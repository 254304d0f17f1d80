"""Sampling against the probabilities of models that remember every word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.data.vocab import BOS, EOS, PAD, UNK
from stg_jax.decode.generate import make_sampler, make_search
from stg_jax.decode.sampling import sample
from tests.fakes.fake_network import fake_batch, talkative_network
from tests.fakes.history_model import WORDS, HistoryModel, greedy, words_of


def draw(model, num_samples, *, seed=0, temperature=1.0, alpha=0.6, clip_B=None):
    return sample(
        model.logits_fn,
        model.cache(num_samples),
        jnp.int32(seed),
        batch_size=len(model.table_BXV),
        num_samples=num_samples,
        max_words=model.max_words,
        temperature=temperature,
        length_penalty=alpha,
        clip_B=clip_B,
    )


@pytest.mark.parametrize('temperature', [0.5, 1.0])
def test_words_come_as_often_as_their_probability_at_the_temperature_says(temperature):
    model = HistoryModel(0, 1, scale=1.0)
    drawn = [
        words_of(row) for row in np.asarray(draw(model, 4000, temperature=temperature).token_BKL[0])
    ]
    for before in [(), (WORDS[0],), WORDS[1:]]:
        after = [(*words, EOS)[len(before)] for words in drawn if words[: len(before)] == before]
        logp_V = model.logp(0, before) / temperature
        logp_V[[PAD, BOS, UNK]] = -np.inf
        wanted_V = np.exp(logp_V - np.logaddexp.reduce(logp_V))
        found_V = np.bincount(after, minlength=len(wanted_V)) / len(after)
        np.testing.assert_allclose(found_V, wanted_V, atol=3 * 0.5 / len(after) ** 0.5)


def test_scores_are_those_of_the_search_and_descend():
    model = HistoryModel(1, 2)
    result = draw(model, 20, temperature=2.0)
    for clip in range(2):
        wanted = [
            model.score(clip, words_of(row), 0.6) for row in np.asarray(result.token_BKL[clip])
        ]
        np.testing.assert_allclose(result.score_BK[clip], wanted, rtol=1e-4)
        assert sorted(wanted, reverse=True) == pytest.approx(wanted)


def test_a_cold_sample_is_the_greedy_caption():
    model = HistoryModel(2, 3)
    cold = draw(model, 2, temperature=1e-6)
    wanted = greedy(model).token_BKL
    np.testing.assert_array_equal(cold.token_BKL, jnp.repeat(wanted, 2, axis=1))


def test_the_seed_decides_and_the_batch_does_not():
    model, alone = HistoryModel(3, 3), HistoryModel(3, 3)
    alone.table_BXV = alone.table_BXV[1:2]
    first = draw(model, 8, seed=5)
    np.testing.assert_array_equal(first.token_BKL, draw(model, 8, seed=5).token_BKL)
    assert (first.token_BKL != draw(model, 8, seed=6).token_BKL).any()
    np.testing.assert_array_equal(first.token_BKL[1:2], draw(alone, 8, seed=5).token_BKL)


def test_numbered_clips_are_drawn_from_independently_wherever_they_are():
    model, alone = HistoryModel(3, 3), HistoryModel(3, 3)
    model.table_BXV[:] = model.table_BXV[:1]  # three times the same clip
    alone.table_BXV = model.table_BXV[:1]
    assert len({words.tobytes() for words in np.asarray(draw(model, 8).token_BKL)}) == 1
    found = np.asarray(draw(model, 8, clip_B=jnp.array([4, 9, 4])).token_BKL)
    np.testing.assert_array_equal(found[0], found[2])
    assert (found[0] != found[1]).any()
    found_alone = draw(alone, 8, clip_B=jnp.array([9])).token_BKL
    np.testing.assert_array_equal(found[1:2], found_alone)


def test_the_real_network_samples_through_the_same_cache_as_it_searches():
    model, params = talkative_network()
    batch, options = fake_batch(4), {'branch': 'scene', 'length_penalty': 0.0}
    greedy_fn = make_search(model, beam_size=1, **options)
    sample_fn = make_sampler(model, num_samples=3, temperature=1e-6, **options)
    wanted = jax.jit(greedy_fn)(params, batch)
    cold = jax.jit(sample_fn)((params, 0), batch)
    np.testing.assert_array_equal(cold.token_BKL, np.repeat(wanted.token_BKL, 3, axis=1))
    np.testing.assert_allclose(cold.score_BK, np.repeat(wanted.score_BK, 3, axis=1), rtol=1e-4)
