"""Decoding with the real network, against reading whole captions by teacher forcing."""

import jax
import numpy as np
import pytest

from stg_jax.data.vocab import BOS, EOS, PAD, UNK
from stg_jax.decode.generate import make_search
from stg_jax.errors import UserError
from tests.fakes.fake_network import MAX_WORDS, fake_batch, small_network, talkative_network


def naive_captions(model, params, batch, branch):
    """Decode greedily by reading the whole prefix again for every word."""
    B = len(batch['appearance'])
    token_B1L = np.full((B, 1, MAX_WORDS + 2), PAD, np.int32)
    token_B1L[:, :, 0] = BOS

    @jax.jit
    def forward(token_B1L):
        return model.apply({'params': params}, batch, token_B1L, False)[branch].logits_BKLV

    ended_B = np.zeros(B, bool)
    for position in range(MAX_WORDS + 1):
        logits_BV = np.array(forward(token_B1L[..., :-1])[:, 0, position])
        logits_BV[:, [PAD, BOS, UNK]] = -np.inf
        word_B = np.where(position == MAX_WORDS, EOS, logits_BV.argmax(-1))
        token_B1L[:, 0, position + 1] = np.where(ended_B, PAD, word_B)
        ended_B |= word_B == EOS
    return token_B1L[..., 1:]


@pytest.mark.parametrize(
    ('branch', 'changes'), [('scene', {}), ('object', {}), ('joint', {'fusion': 'concat'})]
)
def test_greedy_decoding_equals_reading_the_whole_prefix_for_every_word(branch, changes):
    model, params = talkative_network(**changes)
    batch = fake_batch(6)
    decode = make_search(model, branch=branch, beam_size=1, length_penalty=0.0)
    found_B1L = np.asarray(jax.jit(decode)(params, batch).token_BKL)
    np.testing.assert_array_equal(found_B1L, naive_captions(model, params, batch, branch))
    assert len(np.unique(found_B1L, axis=0)) > 1


def naive_beam_search(forward, batch, clip, beam_size, alpha):
    """Search one clip with lists, reading whole prefixes, and to the very end."""
    clips = {key: np.repeat(batch[key][clip : clip + 1], beam_size, 0) for key in batch}
    live, found = [([], 0.0)], []
    for step in range(MAX_WORDS + 1):
        token_K1L = np.full((beam_size, 1, MAX_WORDS + 1), PAD, np.int32)
        for row_1L, (words, _) in zip(token_K1L, live, strict=False):
            row_1L[0, : step + 1] = [BOS, *words]
        logp_KV = np.array(jax.nn.log_softmax(forward(clips, token_K1L)[:, 0, step]))
        logp_KV[:, [PAD, BOS, UNK]] = -np.inf
        if step == MAX_WORDS:
            logp_KV[:, np.arange(logp_KV.shape[1]) != EOS] = -np.inf
        grown = [
            ([*words, token], logp + new_logp)
            for (words, logp), logp_V in zip(live, logp_KV, strict=False)
            for token, new_logp in enumerate(logp_V)
        ]
        grown = sorted(grown, key=lambda item: -item[1])[:beam_size]
        penalty = ((6 + step) / 6) ** alpha
        found += [(words, logp / penalty) for words, logp in grown if words[-1] == EOS]
        live = [item for item in grown if item[0][-1] != EOS]
    return sorted(found, key=lambda item: -item[1])[:beam_size]


@pytest.mark.parametrize('alpha', [0.0, 0.6])
def test_beam_search_equals_a_plain_one_without_cache(alpha):
    model, params = talkative_network(branches='scene', decoder_layers=2, vocab_size=700)
    batch = fake_batch(8)
    options = {'branch': 'scene', 'length_penalty': alpha}
    decode = make_search(model, beam_size=5, num_best=5, **options)
    found = jax.jit(decode)(params, batch)

    @jax.jit
    def forward(batch, token_BKL):
        return model.apply({'params': params}, batch, token_BKL, False)['scene'].logits_BKLV

    best = set()
    for clip in range(8):
        expected = naive_beam_search(forward, batch, clip, 5, alpha)
        words = [[t for t in token_L if t != PAD] for token_L in found.token_BKL[clip].tolist()]
        assert words == [words for words, _ in expected]
        np.testing.assert_allclose(found.score_BK[clip], [s for _, s in expected], rtol=1e-4)
        best.add(tuple(words[0]))
    assert len(best) > 1


@pytest.mark.parametrize('branch', ['scene', 'object'])
def test_beams_are_scored_by_the_probability_of_their_words(branch):
    model, params = talkative_network()
    batch = fake_batch(6)
    options = {'branch': branch, 'length_penalty': 0.6}
    decode = make_search(model, beam_size=3, num_best=3, **options)
    found = jax.jit(decode)(params, batch)
    target_BKL = np.asarray(found.token_BKL)
    token_BKL = np.concatenate([np.full_like(target_BKL[..., :1], BOS), target_BKL], -1)
    forward = jax.jit(model.apply, static_argnums=3)
    output = forward({'params': params}, batch, token_BKL[..., :-1], False)[branch]
    log_p_BKLV = jax.nn.log_softmax(output.logits_BKLV)
    log_p_BKL = np.take_along_axis(np.asarray(log_p_BKLV), target_BKL[..., None], -1)[..., 0]
    real_BKL = target_BKL != PAD
    penalty_BK = ((5 + real_BKL.sum(-1)) / 6) ** 0.6
    expected_BK = (log_p_BKL * real_BKL).sum(-1) / penalty_BK
    np.testing.assert_allclose(found.score_BK, expected_BK, rtol=1e-4, atol=1e-4)


def test_an_unknown_branch_is_refused_with_those_there_are():
    model, _ = small_network(branches='scene')
    with pytest.raises(UserError, match=r"'object'.*scene"):
        make_search(model, branch='object', beam_size=1, length_penalty=0.0)
