"""The loss terms against float64 NumPy and cases worked by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.data.vocab import PAD
from stg_jax.errors import UserError
from stg_jax.model.losses import Words, cross_entropy, divergence, word_terms
from stg_jax.model.network import BranchOutput
from stg_jax.ops.platform import traced_for
from tests.fakes.fake_network import fake_batch, loss_spec, small_network, terms_of_logits

B, K, L, V, D = 3, 2, 4, 7, 5


def log_softmax(x):
    x = np.asarray(x, np.float64)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def fake_outputs(seed=0):
    rng = np.random.default_rng(seed)

    def branch():
        logits_BKLV = rng.normal(scale=2, size=(B, K, L, V))
        feature_BD = rng.normal(size=(B, D))
        return BranchOutput(*(jnp.asarray(x, jnp.float32) for x in (logits_BKLV, feature_BD)))

    return {'scene': branch(), 'object': branch()}


def fake_targets(seed=1):
    """Return words, which of them are real (7 of 24), and which clips have objects (not 1)."""
    target_BKL = np.random.default_rng(seed).integers(1, V, (B, K, L)).astype(np.int32)
    length_BK = np.array([[2, 1], [2, 0], [0, 2]])
    real_BKL = np.arange(L) < length_BK[..., None]
    return np.where(real_BKL, target_BKL, PAD), real_BKL, np.array([True, False, True])


def terms_of(outputs, **changes):
    return terms_of_logits(outputs, *fake_targets(), loss_spec(**changes))


def nll_by_hand(output, target_BKL):
    log_p_BKLV = log_softmax(output.logits_BKLV)
    return -np.take_along_axis(log_p_BKLV, target_BKL[..., None], -1)[..., 0]


def kl_by_hand(left, right, temperature=1.0):
    log_left, log_right = (
        log_softmax(np.asarray(x.logits_BKLV) / temperature) for x in (left, right)
    )
    return (np.exp(log_left) * (log_left - log_right)).sum(-1)


def test_cross_entropy_of_chances_one_half_and_one_quarter():
    logits_V = jnp.log(jnp.array([0.25, 0.5, 0.25]))
    found = cross_entropy(jnp.stack([logits_V] * 2)[None, None], jnp.array([[[1, 2]]]), 0.0)
    np.testing.assert_allclose(found, [[[np.log(2), np.log(4)]]], rtol=1e-6)


def test_label_smoothing_mixes_the_target_with_the_uniform_one():
    logits_V = jnp.log(jnp.array([0.25, 0.5, 0.25]))
    found = cross_entropy(logits_V[None, None, None], jnp.array([[[1]]]), 0.3)
    uniform = (np.log(4) + np.log(2) + np.log(4)) / 3
    np.testing.assert_allclose(found, [[[0.7 * np.log(2) + 0.3 * uniform]]], rtol=1e-6)


def test_terms_are_sums_over_real_tokens():
    outputs = fake_outputs()
    target_BKL, real_BKL, has_object_B = fake_targets()
    taught_BKL = real_BKL & has_object_B[:, None, None]
    terms = terms_of(outputs)
    scene, teacher = outputs['scene'], outputs['object']
    expected = {
        'xe_scene': nll_by_hand(scene, target_BKL)[real_BKL].sum(),
        'xe_object': nll_by_hand(teacher, target_BKL)[taught_BKL].sum(),
        'kd': kl_by_hand(scene, teacher)[taught_BKL].sum(),
    }
    assert terms.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(terms[key], value, rtol=1e-5, err_msg=key)


def test_weights_of_captions_scale_their_cross_entropy_and_not_the_divergence():
    outputs, (target_BKL, real_BKL, has_object_B) = fake_outputs(), fake_targets()
    logits = {name: output.logits_BKLV for name, output in outputs.items()}
    weight_BK = np.array([[2.0, 0.0], [-1.0, 1.0], [0.5, 3.0]])
    found = word_terms(logits, Words.of(target_BKL, real_BKL, has_object_B, weight_BK), loss_spec())
    nll_BKL = nll_by_hand(outputs['scene'], target_BKL) * weight_BK[..., None]
    np.testing.assert_allclose(found['xe_scene'], nll_BKL[real_BKL].sum(), rtol=1e-5)
    plain = word_terms(logits, Words.of(target_BKL, real_BKL, has_object_B), loss_spec())
    assert found['kd'] == plain['kd'] and found['xe_scene'] != plain['xe_scene']


def test_distillation_is_the_expectation_under_the_student_or_the_teacher():
    outputs = fake_outputs()
    _, real_BKL, has_object_B = fake_targets()
    taught_BKL = real_BKL & has_object_B[:, None, None]
    expected = kl_by_hand(outputs['object'], outputs['scene'])[taught_BKL].sum()
    found = terms_of(outputs, direction='teacher')['kd']
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert abs(found - terms_of(outputs, direction='student')['kd']) > 0.1


def test_a_temperature_softens_both_branches_and_keeps_the_size_of_the_gradient():
    outputs = fake_outputs()
    _, real_BKL, has_object_B = fake_targets()
    taught_BKL = real_BKL & has_object_B[:, None, None]
    softened = kl_by_hand(outputs['scene'], outputs['object'], 3.0)[taught_BKL].sum()
    found = terms_of(outputs, temperature=3.0)['kd']
    np.testing.assert_allclose(found, 9 * softened, rtol=1e-5)


@pytest.mark.parametrize('changes', [{}, {'direction': 'teacher'}, {'temperature': 2.0}])
def test_distillation_is_zero_where_the_branches_agree_and_positive_elsewhere(changes):
    outputs = fake_outputs()
    assert terms_of(outputs, **changes)['kd'] > 1
    agreeing = {'scene': outputs['scene'], 'object': outputs['scene']}
    np.testing.assert_allclose(terms_of(agreeing, **changes)['kd'], 0, atol=1e-6)


@pytest.mark.parametrize('changes', [{}, {'direction': 'teacher'}, {'temperature': 2.0}])
def test_distillation_has_the_gradient_of_its_definition(changes):
    spec, (student, teacher) = loss_spec(**changes), fake_outputs().values()
    weight_BKL = jnp.asarray(np.random.default_rng(2).normal(size=(B, K, L)))

    def by_definition(student_BKLV, teacher_BKLV):
        left, right = (
            jax.nn.log_softmax(x / spec.temperature) for x in (student_BKLV, teacher_BKLV)
        )
        if spec.direction == 'teacher':
            left, right = right, left
        return spec.temperature**2 * jnp.sum(jnp.exp(left) * (left - right), -1)

    found, expected = (
        jax.grad(lambda *pair, fn=fn: jnp.sum(weight_BKL * fn(*pair)), argnums=(0, 1))(
            student.logits_BKLV, teacher.logits_BKLV
        )
        for fn in (functools.partial(divergence, config=spec), by_definition)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, expected)


@pytest.mark.parametrize('shift', [-1e4, 1e4])
def test_logits_of_any_size_have_a_finite_loss_and_gradient(shift):
    student, teacher = (output.logits_BKLV for output in fake_outputs().values())

    def loss(student, teacher):
        kd = divergence(student, teacher, loss_spec()).sum()
        return kd + cross_entropy(student, jnp.ones((B, K, L), jnp.int32), 0.1).sum()

    gradient_fn = jax.value_and_grad(loss, argnums=(0, 1))
    found = gradient_fn(student + shift, teacher - shift)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-2, atol=1e-2),
        found,
        gradient_fn(student, teacher),
    )


def test_accelerators_find_the_chosen_logit_in_another_way():
    logits_BKLV, target_BKL = fake_outputs()['scene'].logits_BKLV, fake_targets()[0]
    gradient_fn = jax.value_and_grad(lambda x: cross_entropy(x, target_BKL, 0.1).sum())
    expected = gradient_fn(logits_BKLV)
    with traced_for('gpu'):
        found = gradient_fn(logits_BKLV)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, expected)


def test_distillation_of_features_is_their_squared_distance_at_every_real_token():
    outputs = fake_outputs()
    distance_B = ((outputs['scene'].feature_BD - outputs['object'].feature_BD) ** 2).sum(-1)
    found = terms_of(outputs, kind='l2')['kd']
    np.testing.assert_allclose(found, 3 * distance_B[0] + 2 * distance_B[2], rtol=1e-5)


def test_label_smoothing_touches_cross_entropy_only():
    plain, smooth = (terms_of(fake_outputs(), label_smoothing=x) for x in (0.0, 0.2))
    assert smooth['kd'] == plain['kd']
    assert smooth['xe_scene'] != plain['xe_scene']
    assert smooth['xe_object'] != plain['xe_object']


def test_what_the_network_says_at_padding_changes_no_term():
    outputs, others = fake_outputs(), fake_outputs(seed=9)
    _, real_BKL, _ = fake_targets()
    changed = {
        name: output.replace(
            logits_BKLV=jnp.where(real_BKL[..., None], output.logits_BKLV, others[name].logits_BKLV)
        )
        for name, output in outputs.items()
    }
    for key, value in terms_of(outputs).items():
        np.testing.assert_allclose(terms_of(changed)[key], value, rtol=1e-6)


def test_a_clip_without_objects_enters_the_cross_entropy_of_the_scene_alone():
    gradient = jax.grad(lambda outputs: sum(terms_of(outputs).values()))(fake_outputs())
    assert np.any(gradient['scene'].logits_BKLV[1])
    assert not np.any(gradient['object'].logits_BKLV[1])
    xe_gradient = jax.grad(lambda outputs: terms_of(outputs)['xe_scene'])(fake_outputs())
    np.testing.assert_array_equal(
        gradient['scene'].logits_BKLV[1], xe_gradient['scene'].logits_BKLV[1]
    )


def test_a_single_branch_or_joint_decoder_has_cross_entropy_alone():
    output = fake_outputs()['scene']
    for name in ('scene', 'object', 'joint'):
        assert terms_of({name: output}).keys() == {f'xe_{name}'}
    joint, scene = terms_of({'joint': output}), terms_of({'scene': output})
    assert joint['xe_joint'] == scene['xe_scene']


@pytest.mark.parametrize('changes', [{'kind': 'cosine'}, {'direction': 'both'}])
def test_a_setting_that_names_no_variant_is_refused_by_name(changes):
    [(key, value)] = changes.items()
    with pytest.raises(UserError, match=f'{key}.*{value}'):
        loss_spec(**changes)


@functools.cache
def network_outputs():
    """Return the outputs of a small network, and what pulls their gradient back to parameters."""
    model, params = small_network()
    batch = fake_batch()

    def forward(params):
        return model.apply({'params': params}, batch, batch['tokens'][..., :-1], False)

    return jax.jit(forward)(params), jax.jit(
        lambda gradient: jax.vjp(forward, params)[1](gradient)[0]
    )


def gradient_of(term, **changes):
    """Return the gradient of a term with respect to the parameters of the small network."""
    outputs, pull_back = network_outputs()
    batch = fake_batch()
    target_BKL, has_object_B = batch['tokens'][..., 1:], batch['object_mask'].any((1, 2))
    words = target_BKL, target_BKL != PAD, has_object_B
    return pull_back(
        jax.grad(lambda x: terms_of_logits(x, *words, loss_spec(**changes))[term])(outputs)
    )


def reached(gradient, branch):
    """Tell which modules of a branch a gradient reaches."""
    modules = (f'{branch}_encoder', f'decoders_{branch}')
    return [any(np.any(leaf) for leaf in jax.tree.leaves(gradient[name])) for name in modules]


def test_cross_entropy_of_a_branch_reaches_that_branch_alone():
    for branch, other in (('scene', 'object'), ('object', 'scene')):
        gradient = gradient_of(f'xe_{branch}')
        assert reached(gradient, branch) == [True, True]
        assert reached(gradient, other) == [False, False]


@pytest.mark.parametrize('direction', ['student', 'teacher'])
def test_distillation_reaches_both_branches_unless_the_teacher_is_detached(direction):
    joint = gradient_of('kd', direction=direction)
    assert reached(joint, 'scene') == reached(joint, 'object') == [True, True]
    detached = gradient_of('kd', direction=direction, detach_teacher=True)
    assert reached(detached, 'object') == [False, False]
    for name in ('scene_encoder', 'decoders_scene'):
        jax.tree.map(np.testing.assert_array_equal, detached[name], joint[name])


def test_distillation_of_features_reaches_the_encoders_alone():
    gradient = gradient_of('kd', kind='l2')
    assert reached(gradient, 'scene') == reached(gradient, 'object') == [True, False]
    detached = gradient_of('kd', kind='l2', detach_teacher=True)
    assert reached(detached, 'scene') == [True, False]
    assert reached(detached, 'object') == [False, False]
