"""Captions by several networks: scores are means, and one network twice is that network."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from stg_jax.data.vocab import BOS, PAD
from stg_jax.decode.beam import beam_search
from stg_jax.decode.captioner import Captioner, stack_clips
from stg_jax.decode.ensemble import Ensemble, joint_logits_fn
from stg_jax.decode.generate import encode_clips
from stg_jax.errors import UserError
from stg_jax.evaluate.evaluate import folder_name
from tests.fakes.fake_captioner import fake_captioner
from tests.fakes.fake_data import OBJECTS, fake_clips
from tests.fakes.fake_network import MAX_WORDS, fake_batch, random_params, small_model


def network(seed, **changes):
    model = small_model(width=16, branches='scene', **changes)
    batch = fake_batch(1, 1)
    return model, random_params(model, batch, batch['tokens'][..., :-1], False, seed=seed, gain=2.0)


def search(networks, batch, beam_size, length_penalty=0.6):
    def decode(batch):
        read = [
            encode_clips(model, params, batch, 'scene', beam_size) for model, params in networks
        ]
        return beam_search(
            joint_logits_fn([logits_fn for logits_fn, _ in read]),
            tuple(cache for _, cache in read),
            batch_size=len(batch['appearance']),
            beam_size=beam_size,
            max_words=MAX_WORDS,
            length_penalty=length_penalty,
            num_best=beam_size,
        )

    return jax.jit(decode)(batch)


def logp_of_words(model, params, batch, target_BKL):
    """Return the log-probability of whole captions by reading them once."""
    token_BKL = np.concatenate([np.full_like(target_BKL[..., :1], BOS), target_BKL], -1)
    forward = jax.jit(model.apply, static_argnums=3)
    output = forward({'params': params}, batch, token_BKL[..., :-1], False)['scene']
    logp_BKLV = np.asarray(jax.nn.log_softmax(output.logits_BKLV))
    logp_BKL = np.take_along_axis(logp_BKLV, target_BKL[..., None], -1)[..., 0]
    return (logp_BKL * (target_BKL != PAD)).sum(-1)


def test_the_score_of_a_caption_is_the_mean_of_its_scores():
    networks = [network(0), network(1), network(2, decoder_layers=2)]
    batch = fake_batch(6)
    found = search(networks, batch, 4)
    target_BKL = np.asarray(found.token_BKL)
    logp_BK = np.mean([logp_of_words(*each, batch, target_BKL) for each in networks], axis=0)
    penalty_BK = ((5 + (target_BKL != PAD).sum(-1)) / 6) ** 0.6
    np.testing.assert_allclose(found.score_BK, logp_BK / penalty_BK, rtol=1e-3)
    alone = search(networks[:1], batch, 4)
    assert (np.asarray(alone.token_BKL[:, 0]) != target_BKL[:, 0]).any()


def test_a_network_twice_is_that_network():
    batch = fake_batch(6)
    once, twice = (search([network(0)] * number, batch, 3) for number in (1, 2))
    np.testing.assert_array_equal(once.token_BKL, twice.token_BKL)
    np.testing.assert_allclose(once.score_BK, twice.score_BK, rtol=1e-4)


@functools.cache
def trained(seed):
    captioner = fake_captioner()
    params = jax.tree.map(
        lambda x: x + seed * np.cos(np.arange(x.size)).reshape(x.shape), captioner.params
    )
    return Captioner(captioner.run, params, 7, 'scene')


def test_an_ensemble_captions_clips_whatever_the_order_of_its_members():
    clips = stack_clips(fake_clips(3), OBJECTS)
    found = [
        Ensemble(members).search(clips, 2, 0.0)
        for members in ([trained(0), trained(1)], [trained(1), trained(0)])
    ]
    np.testing.assert_array_equal(found[0].token_BKL, found[1].token_BKL)
    np.testing.assert_allclose(found[0].score_BK, found[1].score_BK, rtol=1e-4)


@pytest.mark.parametrize(
    ('changes', 'part'),
    [({'data__appearance_dim': 9}, 'features'), ({'data__max_words': 4}, 'max_words')],
)
def test_runs_that_do_not_fit_together_are_refused(changes, part):
    first = fake_captioner()
    config = first.run.config.changed(**changes)
    other = Captioner(dataclasses.replace(first.run, config=config), first.params, 7, 'scene')
    with pytest.raises(UserError, match=part):
        Ensemble([first, other])


def test_the_folder_of_an_evaluation_names_all_that_is_not_the_default():
    captioner = trained(0)
    usual = captioner.search_options() | {'split': 'test', 'branch': 'scene'}
    usual |= {'checkpoint': 'best', 'average': 1}
    assert folder_name(captioner, usual) == 'test'
    for change, name in (
        ({'average': 3, 'beam_size': 1}, 'test-average3-beam1'),
        ({'beam_size': 1, 'checkpoint': 'latest'}, 'test-beam1-latest'),
        ({'length_penalty': 0.0, 'checkpoint': '500'}, 'test-penalty0.0-step500'),
    ):
        assert folder_name(captioner, usual | change) == name
    teacher = Captioner(captioner.run, captioner.params, 7, 'object')
    assert folder_name(teacher, usual | {'branch': 'object'}) == 'test-object'


def test_ensembles_of_runs_with_equal_names_have_folders_of_their_own(tmp_path):
    def name(*paths):
        runs = [
            Captioner(dataclasses.replace(trained(0).run, path=path), trained(0).params, 7, 'scene')
            for path in paths
        ]
        about = trained(0).search_options() | {'split': 'test', 'branch': 'scene'}
        return folder_name(Ensemble(runs), about | {'checkpoint': 'best', 'average': 1})

    sweeps = [[tmp_path / setting / f'seed-{i}' for i in range(2)] for setting in 'ab']
    first, second = (name(*paths) for paths in sweeps)
    assert first.rpartition('-')[0] == second.rpartition('-')[0] == 'test-ensemble-seed-0+seed-1'
    assert first != second
    long = [name(*(tmp_path / str(i) / ('é' * 100) for i in range(n))) for n in (2, 3)]
    assert long[0] != long[1]
    assert max(len(each.encode()) for each in long) < 255
