"""The objective from packed states, chunk by chunk, against the plain one from all logits."""

import functools
import math
import re

import jax
import numpy as np
import pytest

from stg_jax.data.vocab import PAD
from stg_jax.model.language_decoder import word_logits
from stg_jax.model.losses import Words, objective
from stg_jax.model.network import BranchOutput
from stg_jax.ops import chunked_loss as module
from stg_jax.ops.packing import Packing
from stg_jax.train.feed import add_packing
from tests.fakes.fake_network import (
    VOCAB_SIZE,
    fake_batch,
    loss_spec,
    small_network,
    terms_of_logits,
)

NETWORKS = {
    'full': {},
    'scene': {'branches': 'scene'},
    'object': {'branches': 'object'},
    'concatenated': {'fusion': 'concat'},
}
LOSSES = {
    'default': {},
    'smoothed': {'label_smoothing': 0.2},
    'of the teacher': {'direction': 'teacher', 'temperature': 3.0},
    'detached': {'detach_teacher': True},
    'features': {'kind': 'l2'},
    'detached features': {'kind': 'l2', 'detach_teacher': True},
    'other weights': {'scene_weight': 0.5, 'kd_weight': 0.0},
}


@pytest.fixture(autouse=True)
def chunks_of_a_few_words(monkeypatch):
    monkeypatch.setattr(module, 'CHUNK', 7)


def uneven_batch():
    """Return clips with fewer and fewer captions, one without objects, and a padding clip."""
    batch = fake_batch(4)
    batch['tokens'][-2:, 1] = PAD
    return {key: np.concatenate([x, np.zeros_like(x[:1])]) for key, x in batch.items()}


def packed_batch():
    batch = add_packing(uneven_batch(), num_parts=1)
    assert len(batch['packed_position']) < batch['tokens'][..., 1:].size
    return batch


def words_of(batch):
    target_BKL = batch['tokens'][..., 1:]
    return target_BKL, target_BKL != PAD, batch['object_mask'].any((1, 2))


def packing_of(batch):
    return Packing.of(batch.get('packed_position'), batch['tokens'][..., 1:].shape)


def weighted(spec, terms):
    return sum(spec.weight(name) * value for name, value in terms.items()), terms


def of_params(batch, changes, objective_fn):
    """Return the gradient of an objective of states with respect to parameters, and the terms."""
    model, params = small_network(**changes)

    def total(params):
        tokens, packing = batch['tokens'][..., :-1], packing_of(batch)
        apply = functools.partial(model.apply, {'params': params}, method='states')
        return objective_fn(apply(batch, tokens, False, packing), batch, loss_spec())

    return jax.jit(jax.grad(total, has_aux=True))(params)


def plain_objective(states, batch, spec):
    """Return the weighted sum and the terms from the logits of all positions."""
    packing = Packing(batch['tokens'][..., 1:].shape)
    outputs = {
        name: BranchOutput(packing.unpack(word_logits(of.hidden_MD, of.vector_VD)), of.feature_BD)
        for name, of in states.items()
    }
    return weighted(spec, terms_of_logits(outputs, *words_of(batch), spec))


def chunked_objective(states, batch, spec):
    return objective(states, Words.of(*words_of(batch)), packing_of(batch), spec)


def assert_equal(found, expected):
    close = functools.partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-5)
    jax.tree.map(close, found, expected)


@functools.cache
def plain_of_params(**changes):
    return of_params(uneven_batch(), changes, plain_objective)


@functools.cache
def whole_states():
    """Return the unpacked states of the small network."""
    model, params = small_network()
    batch = uneven_batch()
    apply = jax.jit(functools.partial(model.apply, method='states'), static_argnums=3)
    return apply({'params': params}, batch, batch['tokens'][..., :-1], False)


def packed(states, packing):
    whole = Packing(packing.shape_BKL)
    return {
        name: of.replace(hidden_MD=packing.pack(whole.unpack(of.hidden_MD)))
        for name, of in states.items()
    }


def of_states(states, batch, objective_fn, spec):
    """Return the gradient of an objective with respect to states, and the terms."""
    gradient_fn = jax.grad(lambda states: objective_fn(states, batch, spec), has_aux=True)
    return jax.jit(gradient_fn)(states)


@pytest.mark.parametrize('changes', NETWORKS.values(), ids=NETWORKS)
def test_packed_words_in_chunks_have_the_gradient_of_all_words_at_once(changes):
    found = of_params(packed_batch(), changes, chunked_objective)
    assert_equal(found, plain_of_params(**changes))


@pytest.mark.parametrize('changes', LOSSES.values(), ids=LOSSES)
def test_every_variant_of_the_loss_is_that_of_whole_logits(changes):
    batch, spec = packed_batch(), loss_spec(**changes)
    packing = packing_of(batch)
    found = of_states(packed(whole_states(), packing), batch, chunked_objective, spec)
    gradient, terms = of_states(whole_states(), batch, plain_objective, spec)
    assert_equal(found, (packed(gradient, packing), terms))


@pytest.mark.parametrize(('size', 'most'), [(1, 100), (16, 3), (1000, 8)])
def test_the_size_of_chunks_changes_nothing(monkeypatch, size, most):
    monkeypatch.setattr(module, 'CHUNK', size)
    monkeypatch.setattr(module, 'MOST_CHUNKS', most)
    arguments = uneven_batch(), chunked_objective, loss_spec()
    found = of_states(whole_states(), *arguments)
    assert_equal(found, of_states(whole_states(), uneven_batch(), plain_objective, loss_spec()))


def test_a_second_pass_adds_the_mean_of_both_divergences_and_averages_the_rest():
    batch, spec, first = uneven_batch(), loss_spec(r_drop=0.7), whole_states()
    second = jax.tree.map(lambda x: x * 1.5, first)
    arguments = Words.of(*words_of(batch)), packing_of(batch), spec
    total, terms = objective(first, *arguments, second)
    log_p = {
        name: [
            jax.nn.log_softmax(word_logits(of.hidden_MD, of.vector_VD).astype(float))
            for of in (first[name], second[name].replace(vector_VD=first[name].vector_VD))
        ]
        for name in first
    }
    real, taught = (x.reshape(-1) for x in (arguments[0].real_N, arguments[0].taught_N))
    expected = sum(
        (((np.exp(p) - np.exp(q)) * (p - q)).sum(-1) / 2)[real if name == 'scene' else taught].sum()
        for name, (p, q) in log_p.items()
    )
    np.testing.assert_allclose(terms['r_drop'], expected, rtol=1e-4)
    each = [objective(states, *arguments)[1] for states in (first, second)]
    # The word vectors of both passes are the same parameters: those of the first are used.
    assert each[0].keys() == {'xe_scene', 'xe_object', 'kd'} == terms.keys() - {'r_drop'}
    same = objective(first, *arguments, first)
    np.testing.assert_allclose(same[1].pop('r_drop'), 0, atol=1e-5)
    assert_equal(same, objective(first, *arguments))
    assert total > sum(spec.weight(name) * terms[name] for name in each[0])


def test_the_objective_is_the_weighted_sum_of_its_terms_with_and_without_a_gradient():
    arguments = whole_states(), uneven_batch(), loss_spec()
    alone = jax.jit(lambda x: chunked_objective(x, *arguments[1:]))(arguments[0])
    total, terms = jax.jit(lambda x: plain_objective(x, *arguments[1:]))(arguments[0])
    assert_equal(alone, (total, terms))
    with_gradient = jax.vjp(lambda x: chunked_objective(x, *arguments[1:]), arguments[0])[0]
    assert_equal(with_gradient, alone)


def test_a_gradient_from_above_scales_that_of_the_objective():
    def thrice(states, batch, spec):
        total, terms = chunked_objective(states, batch, spec)
        return 3 * total, terms

    arguments = uneven_batch(), loss_spec()
    once, _ = of_states(whole_states(), arguments[0], chunked_objective, arguments[1])
    found, _ = of_states(whole_states(), arguments[0], thrice, arguments[1])
    assert_equal(found, jax.tree.map(lambda x: 3 * x, once))


def test_no_more_logits_exist_at_once_than_a_chunk_has():
    batch = uneven_batch()

    def total(states):
        return chunked_objective(states, batch, loss_spec())

    program = str(jax.make_jaxpr(jax.grad(total, has_aux=True))(whole_states()))
    shapes = re.findall(rf'f32\[([\d,]*),{VOCAB_SIZE}\]', program)
    num_words = batch['tokens'][..., 1:].size
    assert {math.prod(map(int, shape.split(','))) for shape in shapes} == {-(-num_words // 8)}


def test_captions_of_a_clip_have_the_gradient_of_samples_of_one_caption():
    batch = uneven_batch()
    K = batch['tokens'].shape[1]
    samples = {key: np.repeat(x, K, axis=0) for key, x in batch.items()}
    samples['tokens'] = batch['tokens'].reshape(-1, 1, batch['tokens'].shape[-1])
    assert_equal(of_params(samples, {}, chunked_objective), plain_of_params())
