"""The training step: its gradient, its randomness, and one device against eight."""

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

from stg_jax.data.vocab import PAD
from stg_jax.ops.platform import traced_for
from stg_jax.parallel.mapped import pmapped
from stg_jax.parallel.sharding import AXIS, data_mesh, replicate, shard_batch
from stg_jax.train.feed import add_packing
from stg_jax.train.multistep import in_sequence, metrics_by_step
from stg_jax.train.optim import averaging
from stg_jax.train.step import init_state, make_eval_step, make_train_step, mean_terms
from tests.fakes.fake_network import fake_batch, loss_spec, small_network

RATE = 0.1
WAYS = (
    'one device',
    'eight devices',
    'literal pmap',
    'eight devices, packed, accumulated',
    'eight devices, both steps in one program',
)


WIDER = ((0, 0), (0, 0), (0, 6))


def uneven_batch():
    """Return 16 clips with ever fewer captions: two each, then one, at the end none."""
    batch = fake_batch(16)
    batch['tokens'][8:, 1] = PAD
    batch['tokens'][14:] = PAD
    return batch


def fresh_state():
    """Return the state before the first step; a step donates it."""
    _, params = small_network()
    return init_state(jax.tree.map(jnp.array, params), optimizer())


def optimizer():
    return averaging(optax.sgd(RATE, momentum=0.9), 0.5)


def train_step(*, accumulate=1):
    """Return the per-device step of a small network, under plain gradient descent."""
    model, _ = small_network()
    return make_train_step(model, loss_spec(), optimizer(), seed=0, accumulate=accumulate)


@functools.cache
def jitted_step(**options):
    return pmapped(train_step(**options), one_device())


def one_device():
    return Mesh(np.array(jax.devices()[:1]), (AXIS,))


def take_steps(step_fn, batches, mesh):
    """Return the state after one step on each batch, and the metrics of every step."""
    state, metrics = replicate(fresh_state(), mesh), []
    for batch in batches:
        state, of_step = step_fn(state, shard_batch(batch, mesh))
        metrics.append(jax.device_get(of_step))
    return jax.device_get(state), metrics


def take_steps_at_once(batches, mesh):
    """Return what `take_steps` does of steps that are one program."""
    step_fn = pmapped(in_sequence(train_step()), mesh)
    state = replicate(fresh_state(), mesh)
    state, metrics = step_fn(state, tuple(shard_batch(batch, mesh) for batch in batches))
    return jax.device_get(state), metrics_by_step(metrics)


def packed(batches, num_parts):
    """Return the batches with longer padding, packed so that every part leaves some of it out."""
    batches = [batch | {'tokens': np.pad(batch['tokens'], WIDER)} for batch in batches]
    batches = [add_packing(batch, num_parts=num_parts) for batch in batches]
    assert all(len(batch['packed_position']) < batch['tokens'][..., 1:].size for batch in batches)
    return batches


def run(*batches, **options):
    return take_steps(jitted_step(**options), batches, one_device())


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def assert_close(found, expected, atol=1e-6):
    np.testing.assert_allclose(flat(found), flat(expected), atol=atol, rtol=1e-6)


def save_all_ways(path):
    """Take two steps in each of WAYS on the eight devices there are; save the outcomes."""
    batches = [uneven_batch(), fake_batch(16, seed=1)]
    step = train_step()
    literal_step = jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None)

    def pmapped_literally(state, batch):
        parts = {key: x.reshape(8, 2, *x.shape[1:]) for key, x in batch.items()}
        return literal_step(state, jax.device_get(parts))

    assert data_mesh().size == 8
    outcomes = [
        take_steps(pmapped(step, one_device()), batches, one_device()),
        take_steps(pmapped(step, data_mesh()), batches, data_mesh()),
        take_steps(pmapped_literally, batches, one_device()),
        take_steps(
            pmapped(train_step(accumulate=2), data_mesh()), packed(batches, 16), data_mesh()
        ),
        take_steps_at_once(batches, data_mesh()),
    ]
    np.savez(path, *(flat(outcome) for outcome in outcomes))


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
    """Return, for each of WAYS, the flat state and metrics; a process of its own has 8 devices."""
    path = tmp_path_factory.mktemp('devices') / 'outcomes.npz'
    env = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '8'}
    code = f'from tests.train.test_step import save_all_ways; save_all_ways({str(path)!r})'
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, '-c', code], env=env, check=True, cwd=root)
    with np.load(path) as saved:
        return dict(zip(WAYS, saved.values(), strict=True))


@pytest.mark.parametrize('way', WAYS[1:])
def test_every_way_takes_the_steps_of_one_device(outcomes, way):
    assert np.isfinite(outcomes[way]).all()
    np.testing.assert_allclose(outcomes[way], outcomes['one device'], atol=1e-6, rtol=1e-6)


def test_a_mean_of_the_means_of_devices_would_be_another_step():
    batch = uneven_batch()
    of_devices = []
    for device in range(8):
        part = {key: x[2 * device : 2 * device + 2] for key, x in batch.items()}
        of_devices.append(flat(run(part)[0].params))
    whole = flat(run(batch)[0].params)
    assert np.abs(np.mean(of_devices, axis=0) - whole).max() > 1e-3


def mean_loss(params, batch):
    """Return the loss of docs/model.md and its terms, each a mean over real tokens."""
    model, _ = small_network()
    target_BKL = batch['tokens'][..., 1:]
    real_BKL = target_BKL != PAD
    taught_BKL = real_BKL & batch['object_mask'].any((1, 2))[:, None, None]
    outputs = model.apply({'params': params}, batch, batch['tokens'][..., :-1], False)
    log_p = {name: jax.nn.log_softmax(output.logits_BKLV) for name, output in outputs.items()}

    def cross_entropy(name):
        return -jnp.take_along_axis(log_p[name], target_BKL[..., None], -1)[..., 0]

    divergence_BKL = (jnp.exp(log_p['scene']) * (log_p['scene'] - log_p['object'])).sum(-1)
    terms = {
        'xe_scene': (cross_entropy('scene') * real_BKL).sum() / real_BKL.sum(),
        'xe_object': (cross_entropy('object') * taught_BKL).sum() / real_BKL.sum(),
        'kd': (divergence_BKL * taught_BKL).sum() / real_BKL.sum(),
    }
    return terms['xe_object'] + 1.0 * terms['xe_scene'] + 4.0 * terms['kd'], terms


def test_a_step_descends_the_gradient_of_the_mean_loss_per_token():
    batch, before = uneven_batch(), fresh_state()
    gradient_fn = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    (loss, terms), gradient = gradient_fn(before.params, batch)
    after, [metrics] = run(batch)
    assert_close(after.params, jax.tree.map(lambda x, g: x - RATE * g, before.params, gradient))
    norm = np.linalg.norm(flat(gradient))
    num_tokens = (batch['tokens'][..., 1:] != PAD).sum()
    expected = {'loss': loss, **terms, 'tokens': num_tokens, 'grad_norm': norm}
    assert metrics.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(metrics[key], value, rtol=1e-5, err_msg=key)
    assert after.step == 1


def test_accumulated_micro_batches_take_the_step_of_the_whole_batch():
    batches = [uneven_batch(), fake_batch(16, seed=1)]
    assert_close(run(*batches, accumulate=4), run(*batches))
    assert_close(run(*packed(batches, 4), accumulate=4), run(*batches))


@functools.cache
def eval_step():
    model, _ = small_network()
    step = make_eval_step(model, loss_spec())
    return jax.jit(jax.shard_map(step, mesh=one_device(), in_specs=jax.P(), out_specs=jax.P()))


def sums_of(batch):
    return jax.device_get(eval_step()(fresh_state().params, batch))


def test_the_validation_loss_is_the_training_loss_without_dropout():
    batch = uneven_batch()
    _, [metrics] = run(batch)
    for sums in (sums_of(batch), sums_of(packed([batch], 1)[0])):
        for key, value in mean_terms(sums, loss_spec()).items():
            np.testing.assert_allclose(value, metrics[key], rtol=1e-5, err_msg=key)


def test_padding_clips_captions_and_words_change_no_sum():
    batch = fake_batch()
    wider = {key: np.concatenate([x, np.zeros_like(x[:2])]) for key, x in batch.items()}
    wider['tokens'] = np.pad(wider['tokens'], ((0, 0), (0, 1), (0, 3)), constant_values=PAD)
    assert_close(sums_of(wider), sums_of(batch), atol=1e-5)


def test_a_batch_without_any_word_changes_no_parameter():
    batch = uneven_batch()
    batch['tokens'][:] = PAD
    after, [metrics] = run(batch)
    assert_close(after.params, fresh_state().params, atol=0)
    assert metrics['tokens'] == metrics['loss'] == 0


@functools.cache
def dropout_losses(seed, accumulate):
    """Return a jitted `losses(step, batch)`, the leading axis of the batch being devices."""
    model, params = small_network(branches='scene', dropout=0.3)
    optimizer = optax.sgd(RATE)
    step_fn = make_train_step(model, loss_spec(), optimizer, seed=seed, accumulate=accumulate)
    mapped = jax.vmap(step_fn, in_axes=(None, 0), axis_name=AXIS)

    def losses(step, batch):
        state = init_state(params, optimizer).replace(step=step)
        return mapped(state, batch)[1]['loss']

    return jax.jit(losses)


def dropout_loss(seed=0, step=0, devices=1, accumulate=1):
    """Return the loss of clips that every device and micro-batch has a copy of."""
    batch = {
        key: np.stack([np.concatenate([x] * accumulate)] * devices)
        for key, x in fake_batch(2).items()
    }
    return float(dropout_losses(seed, accumulate)(step, batch)[0])


def test_dropout_repeats_for_the_same_seed_and_step():
    assert dropout_loss(step=3) == dropout_loss(step=3)


@pytest.mark.parametrize('change', [{'seed': 1}, {'step': 1}, {'devices': 2}, {'accumulate': 2}])
def test_dropout_differs_between_seeds_steps_devices_and_micro_batches(change):
    assert abs(dropout_loss(**change) - dropout_loss()) > 1e-5


def test_after_a_loss_that_is_not_finite_nothing_changes_any_more():
    good, bad = uneven_batch(), uneven_batch()
    bad['appearance'] = np.full_like(bad['appearance'], np.nan)
    before, _ = run(good)
    after, metrics = run(good, bad, good)
    assert np.isfinite(metrics[0]['loss']) and np.isnan(metrics[1]['loss'])
    assert before.finite and not after.finite
    assert after.step == 1
    assert_close([after.params, after.opt_state], [before.params, before.opt_state], atol=0)


@pytest.mark.parametrize('bad', [0, 1, 2])
def test_a_program_of_several_steps_is_these_steps_up_to_one_that_is_not_finite(bad):
    batches = [uneven_batch(), fake_batch(16, seed=1), fake_batch(16, seed=2)]
    batches[bad]['appearance'] = np.full_like(batches[bad]['appearance'], np.nan)
    (state, metrics), (expected, of_steps) = (
        take_steps_at_once(batches, one_device()),
        run(*batches),
    )
    assert state.step == bad
    assert_close([state.params, state.opt_state], [expected.params, expected.opt_state])
    finite = [np.isfinite(values['loss']) for values in metrics]
    assert finite == [np.isfinite(values['loss']) for values in of_steps]
    assert finite.index(False) == bad


def test_the_program_of_accelerators_takes_the_steps_of_a_cpu():
    own_step = train_step()

    def step_of_accelerators(state, batch):
        with traced_for('gpu'):
            return own_step(state, batch)

    step = pmapped(step_of_accelerators, one_device())
    good, bad = uneven_batch(), uneven_batch()
    bad['appearance'] = np.full_like(bad['appearance'], np.nan)
    for batches in ([good, fake_batch(16, seed=1)], [good, bad, good]):
        assert_close(take_steps(step, batches, one_device()), run(*batches))
