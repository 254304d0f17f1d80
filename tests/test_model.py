"""The network: its variants, what each output may depend on, and stepwise decoding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import msvd
from configs.ablations import ABLATIONS
from stg_jax.data.vocab import BOS, EOS, PAD, UNK
from stg_jax.decode.generate import make_decode_fn
from stg_jax.errors import UserError
from stg_jax.model.captioner import CaptioningModel, ModelSpec
from stg_jax.model.losses import loss_terms
from stg_jax.run.network import param_shapes
from tests.fake_network import (
    MAX_WORDS,
    fake_batch,
    loss_spec,
    random_params,
    small_network,
    small_spec,
)

OBJECT_KEYS = ('object', 'box')
SETTINGS = {
    **ABLATIONS,
    'object branch': {'model.branches': 'object'},
    'forward in time': {'model.temporal_direction': 'forward'},
    'both in time': {'model.temporal_direction': 'both'},
    'layer norm': {'model.graph_norm': 'layer'},
    'fused in time': {'model.scene_fusion': 'time'},
    'concatenated, fused in time': {'model.fusion': 'concat', 'model.scene_fusion': 'time'},
    'bfloat16': {'model.dtype': 'bfloat16'},
}


@functools.cache
def network(**changes):
    return small_network(**changes)


@functools.cache
def forward_fn(**changes):
    """Return a jitted `forward(batch, token_BKL) -> {branch: logits_BKLV}` of `network`."""
    model, params = network(**changes)

    def forward(batch, token_BKL):
        outputs = model.apply({'params': params}, batch, token_BKL, False)
        return {name: output.logits_BKLV for name, output in outputs.items()}

    return jax.jit(forward)


def logits_of(batch, **changes):
    return forward_fn(**changes)(batch, batch['tokens'][..., :-1])


def assert_same_logits(found, expected, atol=1e-5):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=atol, err_msg=name)


def with_padding_clip(batch):
    return {key: np.concatenate([x, np.zeros_like(x[:1])]) for key, x in batch.items()}


@pytest.mark.parametrize('setting', SETTINGS)
def test_every_ablation_has_finite_logits_and_gradients_without_objects_too(setting):
    parts = {'model': {}, 'kd': {}}
    for key, value in SETTINGS[setting].items():
        part, name = key.split('.')
        parts[part][name] = value
    model, params = network(**parts['model'])
    batch = with_padding_clip(fake_batch())
    target_BKL = batch['tokens'][..., 1:]

    def loss_fn(params):
        outputs = model.apply({'params': params}, batch, batch['tokens'][..., :-1], False)
        has_object_B = batch['object_mask'].any((1, 2))
        spec = loss_spec(**parts['kd'])
        terms = loss_terms(outputs, target_BKL, target_BKL != PAD, has_object_B, spec)
        return sum(terms.values()), outputs

    gradient, outputs = jax.jit(jax.grad(loss_fn, has_aux=True))(params)
    for output in outputs.values():
        assert output.logits_BKLV.dtype == jnp.float32
        assert np.isfinite(output.logits_BKLV).all()
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        # The bias of a key shifts all logits of an attention alike: it alone may have none.
        assert np.any(leaf) or 'key' in jax.tree_util.keystr(path), path


@pytest.mark.parametrize(('branches', 'millions'), [('full', 35.2), ('scene', 17.7)])
def test_the_full_size_network_has_the_size_in_the_specification(branches, millions):
    config = msvd.get_config()
    config.model.branches = branches
    spec = ModelSpec(**config.model, max_words=20, vocab_size=10_000, scale=(1.0, 1.0, 1.0))
    shapes = param_shapes(CaptioningModel(spec), config)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == pytest.approx(
        millions * 1e6, abs=0.05e6
    )


def test_a_word_is_scored_by_the_vector_that_embeds_it():
    model, params = network()
    batch = fake_batch()
    word = 12
    batch['tokens'] = np.where(batch['tokens'] == word, 4, batch['tokens'])
    changed = jax.tree_util.tree_map_with_path(
        lambda path, x: x.at[word].add(1.0) if 'embed' in str(path[-1]) else jnp.asarray(x), params
    )
    tokens = batch['tokens'][..., :-1]
    before = model.apply({'params': params}, batch, tokens, False)
    after = model.apply({'params': changed}, batch, tokens, False)
    for name in ('scene', 'object'):
        moved_V = (after[name].logits_BKLV != before[name].logits_BKLV).any((0, 1, 2))
        assert np.flatnonzero(moved_V).tolist() == [word]


def embedding_influence(model, params, batch):
    """Return |d logits[b, k, l] / d word vector[b', k', l']| of the branches, summed."""
    token_BKL = batch['tokens'][..., :-1]
    shift_BKLD = jnp.zeros((*token_BKL.shape, model.spec.width))

    def shifted_logits(shift_BKLD):
        def shift(call, args, kwargs, context):
            output = call(*args, **kwargs)
            return output + shift_BKLD if isinstance(context.module, nn.Embed) else output

        with nn.intercept_methods(shift):
            outputs = model.apply({'params': params}, batch, token_BKL, False)
        return {name: jnp.sum(jnp.sin(o.logits_BKLV), -1) for name, o in outputs.items()}

    jacobian = jax.jit(jax.jacrev(shifted_logits))(shift_BKLD)
    return {name: np.abs(x).sum(-1) for name, x in jacobian.items()}


def test_a_word_depends_on_all_earlier_words_of_its_caption_and_on_nothing_later():
    model, params = network()
    batch = fake_batch(2, 2)
    B, K, L = batch['tokens'][..., 1:].shape
    same_BKBK = np.eye(B * K, dtype=bool).reshape(B, K, 1, B, K, 1)
    may_depend = same_BKBK & np.tri(L, dtype=bool).reshape(1, 1, L, 1, 1, L)
    for influence in embedding_influence(model, params, batch).values():
        np.testing.assert_array_equal(influence > 0, may_depend)


def input_influence(model, params, batch):
    """Return |d logits of clip b / d input x of clip b'| as {branch: {x: (B, B, ...)}}."""
    floats = {key: jnp.asarray(batch[key]) for key in ('appearance', 'motion', 'object', 'box')}

    def logits_B(floats):
        outputs = model.apply({'params': params}, batch | floats, batch['tokens'][..., :-1], False)
        return {name: jnp.sum(jnp.sin(o.logits_BKLV), (1, 2, 3)) for name, o in outputs.items()}

    return jax.tree.map(np.abs, jax.jit(jax.jacrev(logits_B))(floats))


def test_a_branch_reads_its_own_inputs_of_its_own_clip_alone():
    batch = fake_batch()
    B = len(batch['tokens'])
    influence = input_influence(*network(), batch)
    for branch, keys in {'scene': ('appearance', 'motion'), 'object': OBJECT_KEYS}.items():
        for key, change in influence[branch].items():
            reads_BB = change.reshape(B, B, -1).any(-1)
            has_objects_B = batch['object_mask'].any((1, 2))
            reads_B = np.ones(B, bool) if branch == 'scene' else has_objects_B
            np.testing.assert_array_equal(reads_BB, np.diag(reads_B & (key in keys)))


def test_an_absent_object_has_no_influence_and_a_present_one_has():
    batch = fake_batch()
    change_BBTNC = input_influence(*network(), batch)['object']['object']
    reads_BTN = change_BBTNC.any((0, -1))
    np.testing.assert_array_equal(reads_BTN, batch['object_mask'])


def test_what_absent_objects_hold_and_how_many_they_are_changes_nothing():
    batch = fake_batch()
    mask_BTN = np.pad(batch['object_mask'], ((0, 0), (0, 0), (0, 2)))
    rng = np.random.default_rng(0)

    def fill(value):
        wider = np.pad(value, ((0, 0), (0, 0), (0, 2), (0, 0)))
        garbage = rng.uniform(0, 100, wider.shape).astype(np.float32)
        return np.where(mask_BTN[..., None], wider, garbage)

    padded = batch | {key: fill(batch[key]) for key in OBJECT_KEYS} | {'object_mask': mask_BTN}
    assert_same_logits(logits_of(padded), logits_of(batch))


def test_the_order_of_objects_within_a_frame_does_not_matter():
    batch = fake_batch()
    mask_BTN = batch['object_mask']
    index_BTN = np.tile(np.arange(mask_BTN.shape[-1]), (*mask_BTN.shape[:2], 1))
    order_BTN = np.random.default_rng(0).permuted(index_BTN, axis=-1)
    shuffled = batch | {'object_mask': np.take_along_axis(mask_BTN, order_BTN, 2)}
    for key in OBJECT_KEYS:
        shuffled[key] = np.take_along_axis(batch[key], order_BTN[..., None], 2)
    assert (shuffled['object'] != batch['object']).any()
    assert_same_logits(logits_of(shuffled), logits_of(batch))


def test_a_last_frame_without_objects_is_as_if_the_clip_ended_before_it():
    batch = fake_batch()
    assert not batch['object_mask'][:, -1].any()
    shorter = batch | {key: batch[key][:, :-1] for key in (*OBJECT_KEYS, 'object_mask')}
    assert_same_logits(logits_of(shorter, branches='object'), logits_of(batch, branches='object'))


def test_captions_read_together_equal_captions_read_one_by_one():
    batch = fake_batch(num_captions=3)
    together = logits_of(batch)
    for k in range(3):
        alone = logits_of(batch | {'tokens': batch['tokens'][:, k : k + 1]})
        assert_same_logits(alone, {name: x[:, k : k + 1] for name, x in together.items()})


def test_clips_read_together_equal_clips_read_one_by_one():
    batch = fake_batch()
    together = logits_of(batch)
    for b in range(len(batch['tokens'])):
        alone = logits_of({key: x[b : b + 1] for key, x in batch.items()})
        assert_same_logits(alone, {name: x[b : b + 1] for name, x in together.items()})


@pytest.mark.parametrize('changes', [{}, {'fusion': 'concat'}, {'dtype': 'bfloat16'}])
def test_cached_steps_give_the_logits_of_teacher_forcing(changes):
    model, params = network(**changes)
    batch = fake_batch(num_captions=3)
    token_BKL = batch['tokens'][..., :-1]
    B, K, L = token_BKL.shape
    step_fn = jax.jit(
        functools.partial(model.apply, {'params': params}, method='step'), static_argnames='branch'
    )
    atol = 0.05 if changes.get('dtype') else 1e-5
    for branch, expected_BKLV in logits_of(batch, **changes).items():
        apply = functools.partial(model.apply, {'params': params}, branch=branch)
        memory = apply(apply(batch, method='encode'), method='read_memory')
        cache = apply(B, K, method='empty_cache')
        for position in range(L):
            logits_BKV, cache = step_fn(
                token_BKL[..., position], position, cache, memory, branch=branch
            )
            np.testing.assert_allclose(logits_BKV, expected_BKLV[:, :, position], atol=atol)


def dropout_masks():
    """Return what each dropout of a training call lets through, by its path in the network."""
    model, params = network(dropout=0.5)
    batch, masks = fake_batch(), {}

    def record(call, args, kwargs, context):
        if isinstance(context.module, nn.Dropout) and context.method_name == '__call__':
            path = context.module.path
            masks[*path, len(masks)] = np.asarray(call(jnp.ones_like(args[0]), **kwargs))
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        rngs = {'dropout': jax.random.key(0)}
        model.apply({'params': params}, batch, batch['tokens'][..., :-1], True, rngs=rngs)
    return masks


def test_dropout_is_independent_between_branches_captions_and_layers():
    masks = list(dropout_masks().values())
    assert all(set(np.unique(mask)) == {0, 2} for mask in masks)
    seen = {mask[0].tobytes() for mask in masks} | {mask[2].tobytes() for mask in masks}
    assert len(seen) == 2 * len(masks)
    for mask in masks:
        assert mask.ndim == 3 or (mask[:, 0] != mask[:, 1]).any((1, 2)).all()


def test_bfloat16_keeps_parameters_and_logits_in_float32_near_the_float32_result():
    _, params = network(dtype='bfloat16')
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype('float32')}
    batch = fake_batch()
    exact = logits_of(batch)
    for name, logits_BKLV in logits_of(batch, dtype='bfloat16').items():
        assert logits_BKLV.dtype == jnp.float32
        error = np.abs(logits_BKLV - exact[name]).max()
        assert 0 < error < 0.1 * np.std(exact[name])


@pytest.mark.parametrize('fusion', ['channel', 'time'])
def test_scene_fusion_is_that_of_the_formula(fusion):
    model, params = network(scene_fusion=fusion, branches='scene')
    batch = fake_batch()
    found_BSD, mask_BS = model.apply({'params': params}, batch, 'scene', method='_sequence')
    weight = {name: leaf['kernel'] for name, leaf in params['scene_encoder'].items()}
    parts = [batch['appearance'] @ weight['appearance'], batch['motion'] / 0.5 @ weight['motion']]
    both_BSX = np.concatenate(parts, axis={'channel': 2, 'time': 1}[fusion])
    expected_BSD = np.maximum(both_BSX @ weight['fuse'], 0)
    np.testing.assert_allclose(found_BSD, expected_BSD, atol=1e-5)
    assert mask_BS.all()


def test_features_are_divided_by_their_scale():
    batch = fake_batch()
    scaled = batch | {
        'appearance': batch['appearance'] * 3,
        'motion': batch['motion'] * 4,
        'object': batch['object'] * 5,
    }
    found = logits_of(scaled, scale=(3.0, 2.0, 10.0))
    assert_same_logits(found, logits_of(batch))


def test_features_at_the_limit_of_float16_are_read_without_overflow():
    batch = fake_batch()
    for key in ('appearance', 'motion', 'object'):
        batch[key] = np.sign(batch[key]).astype(np.float16) * np.float16(6e4)
    for logits_BKLV in logits_of(batch, scale=(0.5, 0.5, 0.5)).values():
        assert np.isfinite(logits_BKLV).all()


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('branches', 'both'),
        ('fusion', 'sum'),
        ('scene_fusion', 'sum'),
        ('graph', 'sparse'),
        ('graph_norm', 'batch'),
        ('temporal_direction', 'backward'),
        ('dtype', 'float16'),
        ('heads', 3),
    ],
)
def test_a_setting_that_names_no_variant_is_refused_by_name(key, value):
    with pytest.raises(UserError, match=rf'{key}.*{value}'):
        small_spec(**{key: value})


def test_concatenation_without_both_branches_is_refused():
    with pytest.raises(UserError, match='concat'):
        small_spec(branches='scene', fusion='concat')


def test_an_unknown_branch_is_refused_with_those_there_are():
    model, _ = network(branches='scene')
    with pytest.raises(UserError, match=r"'object'.*scene"):
        make_decode_fn(model, branch='object', beam_size=1, length_penalty=0.0)


def talkative_network(**changes):
    """Return a small network whose parameters are so large that clips get different captions."""
    model = CaptioningModel(small_spec(**changes))
    batch = fake_batch(1, 1)
    return model, random_params(model, batch, batch['tokens'][..., :-1], train=False, noise=0.7)


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
    decode = make_decode_fn(model, branch=branch, beam_size=1, length_penalty=0.0)
    found_B1L = np.asarray(jax.jit(decode)(params, batch).token_BKL)
    np.testing.assert_array_equal(found_B1L, naive_captions(model, params, batch, branch))
    assert len(np.unique(found_B1L, axis=0)) > 2


@pytest.mark.parametrize('branch', ['scene', 'object'])
def test_beams_are_scored_by_the_probability_of_their_words(branch):
    model, params = talkative_network()
    batch = fake_batch(6)
    decode = make_decode_fn(model, branch=branch, beam_size=3, length_penalty=0.6)
    found = jax.jit(decode)(params, batch)
    target_BKL = np.asarray(found.token_BKL)
    token_BKL = np.concatenate([np.full_like(target_BKL[..., :1], BOS), target_BKL], -1)
    output = model.apply({'params': params}, batch, token_BKL[..., :-1], False)[branch]
    log_p_BKLV = jax.nn.log_softmax(output.logits_BKLV)
    log_p_BKL = np.take_along_axis(np.asarray(log_p_BKLV), target_BKL[..., None], -1)[..., 0]
    real_BKL = target_BKL != PAD
    penalty_BK = ((5 + real_BKL.sum(-1)) / 6) ** 0.6
    expected_BK = (log_p_BKL * real_BKL).sum(-1) / penalty_BK
    np.testing.assert_allclose(found.score_BK, expected_BK, rtol=1e-4, atol=1e-4)
