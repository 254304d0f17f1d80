"""What the logits depend on and what they must not: by gradients, and by changing the input."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tests.fakes.fake_network import assert_same_logits, fake_batch, logits_of, small_network

OBJECT_KEYS = ('object', 'box')


def embedding_influence(model, params, batch):
    """Return |d logits[b, k, l] / d word vector[b', k', l']| of the branches, summed."""
    token_BKL = batch['tokens'][..., :-1]
    shift_BKLD = jnp.zeros((*token_BKL.shape, model.config.width))

    def shifted_logits(shift_BKLD):
        def shift(call, args, kwargs, context):
            output = call(*args, **kwargs)
            is_lookup = isinstance(context.module, nn.Embed) and output is not None
            return output + shift_BKLD.reshape(output.shape) if is_lookup else output

        with nn.intercept_methods(shift):
            outputs = model.apply({'params': params}, batch, token_BKL, False)
        return {name: jnp.sum(jnp.sin(o.logits_BKLV), -1) for name, o in outputs.items()}

    jacobian = jax.jit(jax.jacrev(shifted_logits))(shift_BKLD)
    return {name: np.abs(x).sum(-1) for name, x in jacobian.items()}


def test_a_word_depends_on_all_earlier_words_of_its_caption_and_on_nothing_later():
    model, params = small_network()
    batch = fake_batch(2, 2)
    B, K, L = batch['tokens'][..., 1:].shape
    same_BKBK = np.eye(B * K, dtype=bool).reshape(B, K, 1, B, K, 1)
    may_depend = same_BKBK & np.tri(L, dtype=bool).reshape(1, 1, L, 1, 1, L)
    for influence in embedding_influence(model, params, batch).values():
        np.testing.assert_array_equal(influence > 0, may_depend)


def input_influence(model, params, batch):
    """Return |d logits of clip b / d input x of clip b'| as {branch: {x: (B, B, ...)}}."""
    floats = {key: jnp.asarray(batch[key]) for key in ('appearance', 'motion', 'object', 'box')}

    def summed_logits(floats):
        outputs = model.apply({'params': params}, batch | floats, batch['tokens'][..., :-1], False)
        return {name: jnp.sum(jnp.sin(o.logits_BKLV), (1, 2, 3)) for name, o in outputs.items()}

    return jax.tree.map(np.abs, jax.jit(jax.jacrev(summed_logits))(floats))


def test_a_branch_reads_its_own_inputs_of_its_own_clip_alone():
    batch = fake_batch()
    B = len(batch['tokens'])
    influence = input_influence(*small_network(), batch)
    for branch, keys in {'scene': ('appearance', 'motion'), 'object': OBJECT_KEYS}.items():
        for key, change in influence[branch].items():
            reads_BB = change.reshape(B, B, -1).any(-1)
            has_objects_B = batch['object_mask'].any((1, 2))
            reads_B = np.ones(B, bool) if branch == 'scene' else has_objects_B
            np.testing.assert_array_equal(reads_BB, np.diag(reads_B & (key in keys)))


def test_an_absent_object_has_no_influence_and_a_present_one_has():
    batch = fake_batch()
    change_BBTNC = input_influence(*small_network(), batch)['object']['object']
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
    found_BKLV = logits_of(shorter, branches='object')['object']
    expected_BKLV = logits_of(batch, branches='object')['object']
    has_objects_B = batch['object_mask'].any((1, 2))
    np.testing.assert_allclose(found_BKLV[has_objects_B], expected_BKLV[has_objects_B], atol=1e-5)


def test_captions_read_together_equal_captions_read_one_by_one():
    batch = fake_batch()
    together = logits_of(batch)
    for k in range(2):
        alone = logits_of(batch | {'tokens': batch['tokens'][:, k : k + 1]})
        assert_same_logits(alone, {name: x[:, k : k + 1] for name, x in together.items()})


def test_clips_read_together_equal_clips_read_one_by_one():
    batch = fake_batch()
    together = logits_of(batch)
    for b in range(len(batch['tokens'])):
        alone = logits_of({key: x[b : b + 1] for key, x in batch.items()})
        assert_same_logits(alone, {name: x[b : b + 1] for name, x in together.items()})
