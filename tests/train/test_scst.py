"""Self-critical training: rewards, the policy gradient, and one device against eight."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from configs import common
from stg_jax.api import train
from stg_jax.config import parse_config
from stg_jax.data.vocab import BOS, EOS, PAD, Vocabulary
from stg_jax.errors import UserError
from stg_jax.parallel.mapped import pmapped
from stg_jax.parallel.precompile import Precompiler
from stg_jax.parallel.sharding import AXIS, data_mesh, replicate, shard_batch
from stg_jax.train.scst import Rewards, SelfCritical, make_update
from stg_jax.train.step import init_state
from stg_jax.train.stop import JointStop
from tests.fakes import fake_data, fake_run
from tests.fakes.fake_network import VOCAB_SIZE, fake_batch, small_network
from tests.fakes.finished_run import assert_same, final_params, log

CAPTIONS = {
    'kick': ['a man kicks a ball', 'a man kicks the ball', 'someone kicks a ball'],
    'sleep': ['a cat sleeps', 'the cat is sleeping'],
    'silent': [],
}
VOCAB = Vocabulary.build([text for texts in CAPTIONS.values() for text in texts], 1)
WORDS = VOCAB.words[4:VOCAB_SIZE]  # those that the small network can say


def tokens_of(*texts, max_words=5):
    """Return what the sampler draws: words and EOS, which it is forced to after the last word."""
    rows = [[*VOCAB.encode(text, max_words)[1:]] for text in texts]
    return np.array([row + [PAD] * (max_words + 1 - len(row)) for row in rows], np.int32)


def rewarded(clip, *texts):
    return Rewards(CAPTIONS, VOCAB)(np.array([clip], object), tokens_of(*texts)[None])


def test_a_sample_is_worth_its_reward_less_the_mean_of_the_others():
    found = rewarded('kick', 'a man kicks', 'a cat sleeps', 'the ball kicks a man')
    (reward,), (weight,) = found.reward, found.caption_weight
    assert reward[0] > reward[1] and reward[2] > reward[1]
    expected = [reward[i] - np.delete(reward, i).mean() for i in range(3)]
    np.testing.assert_allclose(weight, expected, atol=1e-6)
    assert weight.sum() == pytest.approx(0, abs=1e-6)


def test_a_caption_that_ends_is_worth_more_than_the_same_words_without_an_end():
    rewards = Rewards(CAPTIONS, VOCAB)
    ended, cut = (
        rewards(np.array(['kick']), tokens_of('a man kicks a ball', max_words=n)[None].repeat(2, 1))
        for n in (6, 5)
    )
    assert EOS in ended.tokens and EOS not in cut.tokens
    assert ended.reward[0, 0] > 1.1 * cut.reward[0, 0] > 1


def test_an_end_that_the_sampler_was_forced_to_is_neither_rewarded_nor_learned():
    found = rewarded('sleep', 'the cat is sleeping', 'a cat sleeps a cat')
    end, forced = found.tokens[0]
    assert list(end[5:7]) == [EOS, PAD] and forced[-1] == PAD
    assert EOS not in forced
    assert end[0] == forced[0] == BOS


def test_clips_of_padding_or_without_captions_have_no_reward_and_no_token():
    ids = np.array(['', 'silent', 'sleep'], object)
    found = Rewards(CAPTIONS, VOCAB)(ids, np.stack([tokens_of('a cat', 'the cat')] * 3))
    assert not found.tokens[:2, :, 1:].any() and found.tokens[2, :, 1:].any()
    for array in (found.reward, found.caption_weight, found.is_sample):
        assert not array[:2].any() and array[2].any()


def config(**changes):
    return parse_config(common.get_config()).changed(**{'train__objective': 'scst', **changes})


def test_steps_of_one_program_are_refused():
    with pytest.raises(UserError, match='steps_per_execution to 1'):
        config(train__steps_per_execution=2)


def one_device():
    return Mesh(np.array(jax.devices()[:1]), (AXIS,))


def sampled_batch():
    """Return a batch whose tokens are samples with rewards; the last clip is padding."""
    batch, rng = fake_batch(3), np.random.default_rng(0)
    batch['tokens'][2] = PAD
    shape = batch['tokens'].shape[:2]
    return batch | {
        'caption_weight': rng.normal(size=shape).astype(np.float32),
        'reward': np.array([[1, 2], [3, 0], [0, 0]], np.float32),
        'is_sample': np.array([[1, 1], [1, 1], [0, 0]], np.float32),
    }


def test_the_update_follows_the_policy_gradient_and_the_cross_entropy():
    model, params = small_network()
    optimizer, batch = optax.sgd(0.1), sampled_batch()

    def expected_loss(params):
        tokens = batch['tokens']
        output = model.apply({'params': params}, batch, tokens[..., :-1], False)['scene']
        log_p = jax.nn.log_softmax(output.logits_BKLV)
        chosen = jnp.take_along_axis(log_p, tokens[..., 1:, None], -1)[..., 0]
        real = tokens[..., 1:] != PAD
        return -(batch['caption_weight'][..., None] * chosen * real).sum() / real.sum()

    xe_gradient = jax.tree.map(jnp.ones_like, params)
    terms = {'xe_scene': 6.0, 'xe_object': 2.0, 'kd': 0.5, 'tokens': 2.0}
    of_xe = jax.tree.map(jnp.float32, terms), xe_gradient
    update = make_update(model, optimizer, config(scst__xe_weight=0.5))
    step = pmapped(update, one_device(), num_replicated=2)
    state = init_state(jax.tree.map(jnp.array, params), optimizer)
    after, metrics = step(
        *replicate((state, of_xe), one_device()), shard_batch(batch, one_device())
    )
    loss, gradient = jax.jit(jax.value_and_grad(expected_loss))(params)
    for found, before, change in zip(
        *map(jax.tree.leaves, (after.params, params, gradient)), strict=True
    ):
        np.testing.assert_allclose(found, before - 0.1 * (change + 0.5), atol=1e-6)
    metrics = {key: float(value) for key, value in metrics.items()}
    assert metrics['policy'] == pytest.approx(float(loss), rel=1e-5)
    assert metrics['loss'] == pytest.approx(float(loss) + 0.5 * (3 + 1 + 4 * 0.25), rel=1e-5)
    assert metrics['sample_cider'] == pytest.approx(150)


def captions_of(num_clips):
    """Return captions of clips in the words of the small network, ids as their numbers."""
    rng = np.random.default_rng(0)
    return {
        str(clip): [' '.join(rng.choice(WORDS, 3)) for _ in range(3)] for clip in range(num_clips)
    }


def take_steps(mesh, num_steps, optimizer, *, xe_weight=0.1, num_clips=16):
    """Return the state after self-critical steps on one batch, and the metrics of each."""
    model, params = small_network(dropout=0.0)
    batch, ids = fake_batch(num_clips), np.array(list(map(str, range(num_clips))), object)
    rewards = Rewards(captions_of(num_clips), VOCAB)
    with Precompiler() as programs:
        steps = SelfCritical(
            model,
            optimizer,
            config(scst__samples=3, scst__xe_weight=xe_weight),
            rewards,
            mesh,
            programs,
            seed=0,
            accumulate=1,
        )
        state, all_metrics = init_state(jax.tree.map(jnp.array, params), optimizer), []
        state = replicate(state, mesh)
        for _ in range(num_steps):
            state, metrics = steps.dispatch(state, [shard_batch(batch, mesh)], [ids])
            all_metrics.append(jax.device_get(metrics))
    return jax.device_get(state), all_metrics


def test_the_reward_of_samples_rises():
    optimizer = optax.adam(0.02)
    _, metrics = take_steps(one_device(), 80, optimizer, xe_weight=0.0, num_clips=4)
    cider = [each['sample_cider'] for each in metrics]
    assert np.mean(cider[-10:]) > 1.25 * np.mean(cider[:10])


def save_both(path):
    assert data_mesh().size == 8
    arrays = [
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(take_steps(mesh, 2, optax.sgd(0.3)))])
        for mesh in (one_device(), data_mesh())
    ]
    np.savez(path, *arrays)


@pytest.mark.slow
def test_eight_devices_take_the_steps_of_one(tmp_path):
    env = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '8'}
    path = tmp_path / 'both.npz'
    code = f'from tests.train.test_scst import save_both; save_both({str(path)!r})'
    subprocess.run([sys.executable, '-c', code], env=env, check=True, cwd=Path(__file__).parents[2])
    with np.load(path) as saved:
        np.testing.assert_allclose(*saved.values(), atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_a_run_starts_from_another_one_stops_and_resumes(tmp_path, monkeypatch):
    data = fake_data.fake_data_folder(tmp_path / 'data', train=13)
    scene = functools.partial(fake_run.tiny_config, data, model__branches='scene')
    assert train(scene(train__epochs=1), tmp_path / 'xe')
    config = scene(
        train__objective='scst',
        train__init_from=str(tmp_path / 'xe'),
        train__epochs=1,
        train__ema=0.9,
    )
    assert train(config, tmp_path / 'whole')
    with monkeypatch.context() as patch:
        wishes = iter([False, False, True])
        patch.setattr(JointStop, 'after_step', lambda self: next(wishes))
        assert not train(config, tmp_path / 'parts')
    assert final_params(tmp_path / 'parts')[1] == 3
    assert train(config, tmp_path / 'parts')
    assert_same(final_params(tmp_path / 'parts'), final_params(tmp_path / 'whole'))
    *steps, epoch = log(tmp_path / 'whole')
    assert {'sample_cider', 'policy', 'xe_scene', 'grad_norm'} <= steps[0].keys()
    assert np.isfinite(epoch['val_loss'])
