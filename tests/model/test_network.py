"""The network: its variants, its size, dropout, number formats and stepwise decoding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import msvd
from configs.ablations import ABLATIONS
from stg_jax.config import parse_config
from stg_jax.data.vocab import BOS, PAD
from stg_jax.errors import UserError
from stg_jax.ops.dropout import Dropout
from stg_jax.ops.platform import traced_for
from stg_jax.run.build import build_model_without_data, param_shapes
from tests.fakes.fake_network import (
    assert_same_logits,
    fake_batch,
    logits_of,
    loss_spec,
    small_model,
    small_network,
    terms_of_logits,
)

SETTINGS = {
    **ABLATIONS,
    'object branch': {'model.branches': 'object'},
    'forward in time': {'model.temporal_direction': 'forward'},
    'both in time': {'model.temporal_direction': 'both'},
    'boxes': {'model.branches': 'object', 'model.box_embedding': True},
    'layer norm': {'model.graph_norm': 'layer'},
    'fused in time': {'model.scene_fusion': 'time'},
    'concatenated, fused in time': {'model.fusion': 'concat', 'model.scene_fusion': 'time'},
    'tokens': {'model.scene_tokens': 'grid', 'model.object_memory': 'nodes'},
    'tokens, fused in time': {'model.scene_tokens': 'grid', 'model.scene_fusion': 'time'},
    'tokens, concatenated': {'model.scene_tokens': 'grid', 'model.fusion': 'concat'},
}


def with_padding_clip(batch):
    return {key: np.concatenate([x, np.zeros_like(x[:1])]) for key, x in batch.items()}


@pytest.mark.parametrize('setting', SETTINGS)
def test_every_ablation_has_finite_logits_and_gradients_without_objects_too(setting):
    parts = {'model': {}, 'kd': {}}
    for key, value in SETTINGS[setting].items():
        part, name = key.split('.')
        parts[part][name] = value
    model, params = small_network(**parts['model'])
    batch = with_padding_clip(fake_batch())
    target_BKL = batch['tokens'][..., 1:]

    def loss_fn(params):
        outputs = model.apply({'params': params}, batch, batch['tokens'][..., :-1], False)
        has_object_B = batch['object_mask'].any((1, 2))
        spec = loss_spec(**parts['kd'])
        terms = terms_of_logits(outputs, target_BKL, target_BKL != PAD, has_object_B, spec)
        return sum(terms.values()), outputs

    # Not jitted: the settings share most operations, and with them their compilation.
    gradient, outputs = jax.grad(loss_fn, has_aux=True)(params)
    for output in outputs.values():
        assert output.logits_BKLV.dtype == jnp.float32
        assert np.isfinite(output.logits_BKLV).all()
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        # The bias of a key shifts all logits of an attention alike: it alone may have none.
        assert np.any(leaf) or 'key' in jax.tree_util.keystr(path), path


@pytest.mark.parametrize(('branches', 'millions'), [('full', 35.2), ('scene', 17.7)])
def test_the_full_size_network_has_the_size_in_the_specification(branches, millions):
    config = parse_config(msvd.get_config()).changed(model__branches=branches)
    shapes = param_shapes(build_model_without_data(config, 10_000), config.data)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == pytest.approx(
        millions * 1e6, abs=0.05e6
    )


def test_a_word_is_scored_by_the_vector_that_embeds_it():
    model, params = small_network()
    batch = fake_batch()
    word = 12
    batch['tokens'] = np.where(batch['tokens'] == word, 4, batch['tokens'])
    changed = jax.tree.map(np.copy, params)
    for name in ('scene', 'object'):
        changed[f'decoders_{name}']['embed']['embedding'][word] += 1
    tokens = batch['tokens'][..., :-1]
    before = model.apply({'params': params}, batch, tokens, False)
    after = model.apply({'params': changed}, batch, tokens, False)
    for name in ('scene', 'object'):
        moved_V = (after[name].logits_BKLV != before[name].logits_BKLV).any((0, 1, 2))
        assert np.flatnonzero(moved_V).tolist() == [word]


@pytest.mark.parametrize(
    'changes', [{'decoder_layers': 2}, {'fusion': 'concat'}, {'dtype': 'bfloat16'}]
)
@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
def test_cached_steps_give_the_logits_of_teacher_forcing(changes, platform):
    model, params = small_network(**changes)
    batch = fake_batch()
    token_BKL = batch['tokens'][..., :-1]
    B, K, L = token_BKL.shape
    step_fn = jax.jit(
        functools.partial(model.apply, {'params': params}, method='step'), static_argnames='branch'
    )
    atol = 0.05 if changes.get('dtype') else 1e-5
    for branch, expected_BKLV in logits_of(batch, **changes).items():
        apply = functools.partial(model.apply, {'params': params}, branch=branch)
        memory = apply(apply(batch, method='encode'), method='read_memory')
        clip_R = np.arange(B).repeat(K)
        # The captions change places in the cache from word to word.
        place_RL = np.stack([np.random.default_rng(i).permutation(B * K) for i in range(L)], 1)
        cache = apply(B * K, method='empty_cache')
        for position in range(L):
            token_R = token_BKL[..., position].reshape(B * K)
            with traced_for(platform):
                logits_RV, entry = step_fn(
                    token_R, position, cache, place_RL, memory, clip_R, branch=branch
                )
            expected_RV = expected_BKLV[:, :, position].reshape(B * K, -1)
            np.testing.assert_allclose(logits_RV, expected_RV, atol=atol)
            written = position, place_RL[:, position]
            cache = jax.tree.map(lambda old, new, at=written: old.at[at].set(new), cache, entry)


def dropout_masks():
    """Record what each dropout of a training call lets through, by its path in the network."""
    model, params = small_network(dropout=0.5, attention_dropout=0.5)
    batch, masks = fake_batch(), {}

    def record(call, args, kwargs, context):
        if isinstance(context.module, Dropout) and context.method_name == '__call__':
            path = context.module.path
            masks[*path, len(masks)] = np.asarray(call(jnp.ones_like(args[0]), **kwargs))
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        rngs = {'dropout': jax.random.key(0)}
        model.apply({'params': params}, batch, batch['tokens'][..., :-1], True, rngs=rngs)
    return batch, masks


def test_dropout_is_independent_between_branches_captions_and_layers():
    batch, by_path = dropout_masks()
    masks = list(by_path.values())
    B, K, L = batch['tokens'][..., 1:].shape
    assert all(set(np.unique(mask)) == {0, 2} for mask in masks)
    seen = {mask[0].tobytes() for mask in masks} | {mask[2].tobytes() for mask in masks}
    assert len(seen) == 2 * len(masks)
    for mask in masks:
        if len(mask) == B * K * L:  # of words: the captions of a clip differ
            mask_BKX = mask.reshape(B, K, -1)
            assert (mask_BKX[:, 0] != mask_BKX[:, 1]).any(-1).all()


def test_a_decoder_does_not_see_some_positions_in_training_but_never_none():
    model, params = small_network(branches='scene', token_dropout=0.5)
    batch = fake_batch(40)

    def mask_of(train):
        def encode(model):
            found = model.sequence(batch, 'scene')
            inputs = found.x_BSD, found.mask_BS, train, found.layout
            return model.decoders['scene'].encode(*inputs).mask_BS

        return model.apply({'params': params}, method=encode, rngs={'dropout': jax.random.key(0)})

    assert mask_of(train=False).all()
    mask_BS = np.asarray(mask_of(train=True))
    assert mask_BS.any(1).all()
    assert 0.4 < mask_BS.mean() < 0.65  # of four positions one in 16 clips loses all, and none then


def test_bfloat16_keeps_parameters_and_logits_in_float32_near_the_float32_result():
    _, params = small_network(dtype='bfloat16')
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype('float32')}
    batch = fake_batch()
    exact = logits_of(batch)
    for name, logits_BKLV in logits_of(batch, dtype='bfloat16').items():
        assert logits_BKLV.dtype == jnp.float32
        error = np.abs(logits_BKLV - exact[name]).max()
        assert 0 < error < 0.1 * np.std(exact[name])


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_gradient_of_a_word_counts_all_its_places(dtype):
    # In bfloat16 a sum of 3,000 equal numbers stands still at the 256th.
    model, params = small_network(dtype=dtype)
    token_BKL = jnp.full((1, 3000, 1), BOS)

    def embedded(params):
        def states(module):
            return module.decoders['scene']._embed(token_BKL, jnp.zeros(8))

        return model.apply({'params': params}, method=states).astype(jnp.float32).sum()

    gradient = jax.grad(embedded)(params)['decoders_scene']['embed']['embedding']
    np.testing.assert_allclose(gradient[BOS], 3000 * 8**0.5, rtol=1e-2)


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
        small_model(**{key: value})


def test_concatenation_without_both_branches_is_refused():
    with pytest.raises(UserError, match='concat'):
        small_model(branches='scene', fusion='concat')
