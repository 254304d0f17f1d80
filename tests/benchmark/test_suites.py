"""The suites that need no data: tiny sizes, figures that fit together, no TensorFlow."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import common
from stg_jax.benchmark import decode, end_to_end, flops, graph, synthetic, train
from stg_jax.config import parse_config
from stg_jax.data.vocab import BOS, EOS, PAD
from stg_jax.decode.generate import make_search
from stg_jax.errors import UserError
from stg_jax.run.build import init_params
from tests.fakes.fake_run import ROOT


@pytest.fixture
def config():
    config = common.get_config()
    config.data.update(frames=3, objects=2, appearance_dim=6, motion_dim=5, object_dim=4)
    config.model.update(width=16, heads=2, feedforward=8, dropout=0.0)
    config.model.update(decoder_layers=1, encoder_layers=1, graph_layers=1)
    config.train.batch_size = 8
    config.decode.update(batch_size=4, beam_size=2)
    return config


def assert_spread(spread):
    assert 0 < spread['min'] <= spread['median'] <= spread['max']


def assert_suite(stages, rates):
    *measured, ceiling = stages
    for stage in measured:
        for key in rates:
            assert_spread(stage[key])
        assert stage['gflop'] > 0
        share = stage['gflop_per_s']['median'] / ceiling['gflop_per_s'] / jax.device_count()
        assert stage['of_ceiling'] == pytest.approx(share)


@pytest.mark.slow
@pytest.mark.parametrize('at_once', [1, 2])
def test_the_train_suite_compares_ways_to_save_work(config, monkeypatch, at_once):
    config.model.branches = 'scene'  # compiles in half the time
    config.train.steps_per_execution = at_once
    monkeypatch.setattr(train, '_ROUNDS', 2)
    monkeypatch.setattr(train, '_BATCHES', 1)
    stages = train.run(parse_config(config))
    assert_suite(stages, ['captions_per_s', 'gflop_per_s', 'to_first'])
    first, padded, single, *alone, _ = stages
    assert [stage['stage'] for stage in alone] == ['one step at a time'][: at_once - 1]
    assert first['to_first'] == {'median': 1, 'min': 1, 'max': 1}
    assert first['gflop'] == padded['gflop'] < single['gflop']
    assert all(stage['temp_mb'] > 0 for stage in stages[:-1])


def test_the_decode_suite_says_what_it_decoded(config, monkeypatch):
    monkeypatch.setattr(decode, '_ROUNDS', 2)
    stages = decode.run(parse_config(config))
    assert [stage['stage'] for stage in stages] == ['greedy', 'beam 2', 'matrix product']
    assert_suite(stages, ['captions_per_s', 'gflop_per_s'])
    for stage in stages[:2]:
        assert 0 <= stage['mean_words'] <= stage['most_words'] <= config.data.max_words


def test_the_graph_suite_covers_every_size_once(config, monkeypatch):
    monkeypatch.setattr(graph, '_ROUNDS', 2)
    monkeypatch.setattr(graph, 'FRAMES', (3, 4))
    monkeypatch.setattr(graph, 'OBJECTS', (2, 3))
    stages = graph.run(parse_config(config))
    sizes = ('T=3 N=2', 'T=4 N=2', 'T=3 N=3')
    parts = ('build', 'convolve', 'graph', 'encoder')
    assert [stage['stage'] for stage in stages] == [f'{p} {s}' for s in sizes for p in parts]
    for stage in stages:
        assert_spread(stage['clips_per_s'])
        assert_spread(stage['to_dense'])
        assert stage['mb_to_dense'] == stage['dense_mb'] / stage['banded_mb']


def test_flops_grow_with_tokens_and_fall_with_captions_a_clip(config):
    model = synthetic.make_model(parse_config(config))

    def count(num_clips, num_captions, num_tokens):
        return flops.training_flops(
            model,
            parse_config(config),
            num_clips=num_clips,
            num_captions=num_captions,
            num_tokens=num_tokens,
        )

    at_four = count(2, 2, 4)
    assert count(2, 2, 4.5) == pytest.approx((at_four + count(2, 2, 5)) / 2)
    assert at_four < count(4, 1, 4)
    # Forward and backward: two products for each of the forward pass. Mostly logits here.
    logits = 2 * 3 * (2 * 16 * synthetic.VOCAB_SIZE) * (2 * 2 * 4)
    assert logits < at_four < 1.5 * logits


def test_random_captions_are_as_long_as_those_of_msvd(config):
    token_BKL = synthetic.random_tokens(parse_config(config), 500, seed=0)
    assert (token_BKL[..., 0] == BOS).all()
    assert ((token_BKL == EOS).sum(-1) == 1).all()
    num_words_BK = (token_BKL == EOS).argmax(-1) - 1
    assert ((token_BKL != PAD).sum(-1) == num_words_BK + 2).all()
    assert num_words_BK.min() >= 1 and num_words_BK.max() <= config.data.max_words
    assert num_words_BK.mean() == pytest.approx(7.0, abs=0.3)


def test_random_clips_have_an_object_and_a_frame_without_one(config):
    batch = synthetic.random_features(parse_config(config), 20, seed=0)
    mask_BTN = batch['object_mask']
    assert mask_BTN.any((1, 2)).all() and not mask_BTN.any(-1).all()
    assert (batch['object'][~mask_BTN] == 0).all()


def test_an_untrained_network_is_made_to_caption_like_a_trained_one(config, monkeypatch):
    config.model.update(branches='scene', width=256, heads=4)
    model = synthetic.make_model(parse_config(config))
    features = synthetic.random_features(parse_config(config), 8, seed=0)
    untrained = init_params(model, config.data, 0)
    decode_fn = jax.jit(make_search(model, branch='scene', beam_size=3, length_penalty=0.0))

    def words_and_logp_of_a_token(params):
        found = decode_fn(params, features)
        num_words_B = (np.asarray(found.token_BKL)[:, 0] == EOS).argmax(-1)
        return num_words_B.mean(), (found.score_BK[:, 0] / (num_words_B + 1)).mean()

    assert words_and_logp_of_a_token(untrained)[0] > 15
    trained = synthetic.like_trained(untrained, model, features)
    num_words, logp = words_and_logp_of_a_token(trained)
    assert 3 < num_words < 13
    monkeypatch.setattr(synthetic, '_SHARPNESS', 1.0)
    unsure = synthetic.like_trained(untrained, model, features)
    assert logp > words_and_logp_of_a_token(unsure)[1]
    same = jax.tree.map(lambda x, y: bool((x == y).all()), untrained, trained)
    decoder = same['decoders_scene']
    assert not decoder['embed'].pop('embedding')
    assert not decoder['decoder_0']['norms_2'].pop('scale')
    assert all(jax.tree.leaves(same))


@pytest.mark.slow
def test_the_e2e_suite_is_a_whole_training(config):
    config.model.branches = 'scene'  # compiles in half the time
    config.data.update(cache='device', max_words=3)
    config.train.update(epochs=2, batch_size=40, log_steps=1)
    whole, steps = end_to_end.run(parse_config(config), num_clips=4)
    assert whole['captions_per_s'] == pytest.approx(2 * 4 * end_to_end.CAPTIONS / whole['seconds'])
    assert_spread(steps['captions_per_s'])
    assert 0 <= steps['data_wait']['median'] < 1


def test_a_run_that_was_asked_to_stop_gives_no_figures(config, monkeypatch):
    monkeypatch.setattr(end_to_end, 'train', lambda *_: False)
    with pytest.raises(UserError, match='asked to stop before its end'):
        end_to_end.run(parse_config(config), num_clips=4)


@pytest.mark.parametrize('suite', ['train', 'decode', 'graph', 'end_to_end'])
def test_suites_work_without_tensorflow(suite):
    code = f'import sys, stg_jax.benchmark.{suite}; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0
