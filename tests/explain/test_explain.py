import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.decode.captioner import stack_clips
from stg_jax.errors import UserError
from stg_jax.explain import attention, explain_caption
from stg_jax.explain.attention import logits_and_attention
from stg_jax.explain.explain import object_links, pad_words
from stg_jax.explain.forward import student_of, teacher_of
from stg_jax.explain.occlusion import cell_saliency, cells_make_frames, shown_log_p_fn
from stg_jax.explain.relevance import PATH, cell_relevance
from stg_jax.run.build import build_model
from tests.fakes.fake_captioner import MAX_WORDS, fake_captioner
from tests.fakes.fake_data import (
    APPEARANCE,
    CELL,
    CELLS,
    FRAMES,
    OBJECTS,
    fake_clips,
    with_grid,
)
from tests.fakes.fake_network import fake_batch, random_params, small_model, small_network

CAPTION = 'the red ball pushes'


@pytest.fixture(scope='module')
def clip():
    return fake_clips(1)[0]


@pytest.fixture(scope='module')
def explanation(clip):
    captioner = fake_captioner()
    return explain_caption(captioner, clip, captioner.run.vocab.encode(CAPTION, MAX_WORDS))


@pytest.fixture(scope='module')
def network():
    """Return the captioner's model, its parameters, and the tokens of the caption."""
    run = fake_captioner().run
    model = build_model(run.config, run.manifest, run.vocab)
    token_L = pad_words(run.vocab.encode(CAPTION, MAX_WORDS)[1:5], MAX_WORDS)
    return model, fake_captioner().params, token_L


@pytest.fixture(scope='module')
def batch(clip):
    return stack_clips([clip], OBJECTS)


@pytest.fixture(scope='module')
def log_p_fn(network):
    """Return the function from a batch of one clip to log-probabilities (L, V) by branch."""
    model, params, token_L = network

    @jax.jit
    def log_p(batch):
        outputs = model.apply({'params': params}, batch, token_L[None, None, :-1], False)
        return {name: jax.nn.log_softmax(x.logits_BKLV[0, 0]) for name, x in outputs.items()}

    return log_p


def of_words(log_p_LV, token_L):
    """Return the log-probability of each token after the first."""
    return np.asarray(log_p_LV)[np.arange(len(token_L) - 1), token_L[1:]]


def test_recomputed_attention_reads_what_the_layer_reads():
    model, params = small_network(decoder_layers=2)
    batch = fake_batch()

    @jax.jit
    def both(batch):
        token_BKL = batch['tokens'][..., :-1]
        _, layers, sequence = attention.capture_attention(model, params, batch, token_BKL, 'object')
        weights = [attention.weight_BKHLS(layer, sequence.mask_BS) for layer in layers]
        read = [
            jnp.einsum('BKHLS,BSHE->BKLHE', weight, layer['value'])
            for weight, layer in zip(weights, layers, strict=True)
        ]
        return read, [layer['attend'] for layer in layers]

    found, expected = both(batch)
    assert len(expected) == 2
    for found_BKLHE, expected_BQHE in zip(found, expected, strict=True):
        found_BQHE = found_BKLHE.reshape(expected_BQHE.shape)
        np.testing.assert_allclose(found_BQHE, expected_BQHE, atol=1e-5)


def test_attention_sums_to_one_and_skips_frames_without_objects(explanation, clip):
    for weight_LT in explanation.attention.values():
        np.testing.assert_allclose(weight_LT.sum(-1), 1, atol=1e-5)
    absent_T = ~clip.object_mask.any(-1)
    assert absent_T.any()
    assert (explanation.attention['object'][:, absent_T] < 1e-6).all()
    assert (explanation.attention['object'][:, ~absent_T] > 0).all()


def test_relevance_is_the_derivative_by_the_size_of_an_object(
    explanation, network, batch, log_p_fn
):
    token_L, step = network[2], 0.02
    for t, n in ((0, 0), (0, 2), (1, 0)):
        slopes = []
        for factor in PATH:
            ends = []
            for sign in (1, -1):
                changed = factor * batch['object']
                changed[0, t, n] *= 1 + sign * step / factor
                ends.append(of_words(log_p_fn(batch | {'object': changed})['object'], token_L))
            slopes.append((ends[0] - ends[1]) / (2 * step))
        found_L = explanation.relevance_LTN[:, t, n]
        np.testing.assert_allclose(found_L, np.mean(slopes, 0)[:4], atol=3e-3)


def test_relevances_add_up_to_what_all_objects_bring(explanation, network, batch, log_p_fn):
    nothing = batch | {'object': 1e-6 * batch['object']}
    ends = [of_words(log_p_fn(each)['object'], network[2])[:4] for each in (batch, nothing)]
    assert np.abs(ends[0] - ends[1]).max() > 0.1
    np.testing.assert_allclose(explanation.relevance_LTN.sum((1, 2)), ends[0] - ends[1], atol=0.01)


def test_relevance_follows_its_object_and_is_zero_without_one(explanation, clip):
    assert (explanation.relevance_LTN[:, ~clip.object_mask] == 0).all()
    assert (explanation.relevance_LTN[:, clip.object_mask] != 0).any()
    captioner = fake_captioner()
    order = [2, 0, 1]
    fields = ('object', 'box', 'score', 'label', 'object_mask')
    moved = dataclasses.replace(clip, **{key: getattr(clip, key)[:, order] for key in fields})
    found = explain_caption(captioner, moved, captioner.run.vocab.encode(CAPTION, MAX_WORDS))
    np.testing.assert_allclose(
        found.relevance_LTN, explanation.relevance_LTN[..., order], atol=1e-5
    )


def test_hiding_the_last_frame_is_as_if_the_clip_ended_before_it(network, batch, log_p_fn):
    model, params, token_L = network
    shown_PT = np.ones((2, FRAMES), bool)
    shown_PT[1, -1] = False
    found_PL = shown_log_p_fn(model, 'scene', 'frame')(params, batch, token_L, shown_PT)
    shorter = {key: value[:, :-1] for key, value in batch.items()}
    for found_L, seen in zip(found_PL, (batch, shorter), strict=True):
        np.testing.assert_allclose(found_L, of_words(log_p_fn(seen)['scene'], token_L), atol=1e-5)


def test_what_is_hidden_changes_nothing(network, batch):
    model, params, token_L = network
    other = stack_clips(fake_clips(3)[2:], OBJECTS)
    none_PT, none_PTN = np.zeros((2, FRAMES), bool), np.zeros((2, FRAMES, OBJECTS), bool)
    for branch, part, shown in (('scene', 'frame', none_PT), ('object', 'object', none_PTN)):
        log_p_fn = shown_log_p_fn(model, branch, part)
        found = [log_p_fn(params, each, token_L, shown) for each in (batch, other)]
        np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_hiding_an_object_is_as_if_it_were_not_there(network, batch, log_p_fn):
    model, params, token_L = network
    shown_PTN = np.ones((2, FRAMES, OBJECTS), bool)
    shown_PTN[:, 0, 1] = False
    found_PL = shown_log_p_fn(model, 'object', 'object')(params, batch, token_L, shown_PTN)
    without = log_p_fn(batch | {'object_mask': batch['object_mask'] & shown_PTN[:1]})
    np.testing.assert_allclose(found_PL[0], of_words(without['object'], token_L), atol=1e-5)


def test_saliency_is_what_a_word_loses_without_the_frame(explanation, network, batch):
    model, params, token_L = network
    shown_PT = np.ones((2, FRAMES), bool)
    shown_PT[1, 1] = False
    log_p_fn = shown_log_p_fn(model, 'scene', 'frame')
    all_L, without_L = log_p_fn(params, batch, token_L, shown_PT)
    np.testing.assert_allclose(explanation.saliency_LT[:, 1], (all_L - without_L)[:4], atol=1e-5)


@pytest.fixture(scope='module')
def grid():
    """Return a batch of one clip whose frames are the means of their four cells."""
    rng = np.random.default_rng(1)
    batch = {key: value[:1] for key, value in fake_batch().items() if key != 'tokens'}
    cell_BTNC = rng.normal(size=(1, FRAMES, 4, APPEARANCE)).astype(np.float32)
    box_BTN4 = np.broadcast_to(np.float32([0, 0, 1, 1]), (1, FRAMES, 4, 4))
    return batch | {
        'object': cell_BTNC,
        'appearance': cell_BTNC.mean(2),
        'box': box_BTN4,
        'object_mask': np.ones((1, FRAMES, 4), bool),
    }


@pytest.mark.parametrize(('fusion', 'branch'), [('none', 'scene'), ('concat', 'joint')])
def test_a_hidden_cell_is_as_if_the_frame_were_the_others(grid, network, fusion, branch):
    token_L = network[2]
    model = small_model(fusion=fusion, max_words=MAX_WORDS, vocab_size=20)
    params = random_params(model, grid, token_L[None, None, :-1], train=False)
    find = jax.jit(lambda batch: cell_saliency(model, params, batch, token_L, branch))
    found_LTN = find(grid)
    assert found_LTN.shape == (len(token_L) - 1, FRAMES, 4)
    others = dict(grid, appearance=grid['appearance'].copy())
    others['appearance'][0, 1] = np.delete(grid['object'][0, 1], 2, axis=0).mean(0)
    others['object_mask'] = grid['object_mask'].copy()
    others['object_mask'][0, 1, 2] = False
    ends = []
    for batch in (grid, others):
        logits_BKLV = model.apply({'params': params}, batch, token_L[None, None, :-1], False)[
            branch
        ]
        ends.append(of_words(jax.nn.log_softmax(logits_BKLV.logits_BKLV[0, 0]), token_L))
    assert np.abs(ends[0] - ends[1]).max() > 1e-3
    np.testing.assert_allclose(found_LTN[:, 1, 2], ends[0] - ends[1], atol=1e-5)


def test_only_cells_whose_mean_is_the_frame_are_hidden(grid, batch):
    of_grid = {'nodes': 'grid'}
    assert cells_make_frames(of_grid, grid)
    assert not cells_make_frames({'nodes': 'boxes'}, grid)
    assert not cells_make_frames(of_grid, batch)  # of other widths
    assert not cells_make_frames(of_grid, grid | {'appearance': grid['appearance'] + 0.1})
    some = {key: grid[key][:, :, :3] for key in ('object', 'object_mask', 'box')}
    assert not cells_make_frames(of_grid, grid | some)


def test_an_explanation_says_what_the_branches_say(explanation, network, batch, log_p_fn):
    assert explanation.words == tuple(CAPTION.split())
    assert explanation.relevance_LTG is None
    log_p = log_p_fn(batch)
    for name, found_L in explanation.log_p.items():
        np.testing.assert_allclose(found_L, of_words(log_p[name], network[2])[:4], atol=1e-5)
    kl_L = (np.exp(log_p['scene']) * (log_p['scene'] - log_p['object'])).sum(-1)
    np.testing.assert_allclose(explanation.disagreement_L, kl_L[:4], atol=1e-5)
    assert (explanation.disagreement_L > 0).all()


def test_each_part_names_a_branch_that_the_run_has(clip):
    tokens = fake_captioner().run.vocab.encode(CAPTION, MAX_WORDS)
    # Two positions of the sequence belong to each frame here.
    of_scene = fake_captioner(model__branches='scene', model__scene_fusion='time')
    scene = explain_caption(of_scene, clip, tokens)
    assert (scene.teacher, scene.student) == (None, 'scene')
    assert scene.links is scene.relevance_LTN is scene.disagreement_L is None
    assert scene.attention['scene'].shape == scene.saliency_LT.shape == (4, FRAMES)
    np.testing.assert_allclose(scene.attention['scene'].sum(-1), 1, atol=1e-5)


def test_one_decoder_over_both_branches_is_teacher_and_student():
    model, params = small_network(fusion='concat')
    assert (teacher_of(model), student_of(model)) == ('joint', 'joint')
    batch = fake_batch()
    token_BKL = batch['tokens'][..., :-1]
    read = jax.jit(lambda batch: logits_and_attention(model, params, batch, token_BKL, 'joint'))
    _, weight_BKLT = read({key: batch[key] for key in batch if key != 'tokens'})
    assert weight_BKLT.shape == (*token_BKL.shape, FRAMES)
    np.testing.assert_allclose(weight_BKLT.sum(-1), 1, atol=1e-5)


GRID = {'scene_tokens': 'grid', 'grid_frames': 2, 'grid_poolings': 1}


@pytest.fixture(scope='module')
def of_grid():
    """Return a function from a grid (1, T, G, C) to logits of words (L,), a grid, and relevance."""
    model = small_model(max_words=MAX_WORDS, vocab_size=20, **GRID)
    token_L = pad_words([5, 9, 7], MAX_WORDS)
    batch = {key: value[:1] for key, value in fake_batch().items() if key != 'tokens'}
    # Larger than usual, so that the grid makes a difference for every word.
    params = random_params(model, batch, token_L[None, None, :-1], train=False, gain=2.0)

    @jax.jit
    def logits(grid):
        seen = batch | {'grid': grid}
        outputs = model.apply({'params': params}, seen, token_L[None, None, :-1], False)
        logits_LV = outputs['scene'].logits_BKLV[0, 0]
        return jnp.take_along_axis(logits_LV, token_L[1:, None], axis=-1)[:, 0]

    relevance = jax.jit(lambda factors: cell_relevance(*clip, factors))
    clip = (model, params, batch, token_L, 'scene')
    return logits, batch['grid'], relevance


def test_relevances_of_cells_add_up_to_what_the_whole_grid_brings(of_grid):
    logits, grid_BTGC, relevance = of_grid
    level_BTGC = np.broadcast_to(np.median(grid_BTGC, axis=2, keepdims=True), grid_BTGC.shape)
    brought_L = logits(grid_BTGC) - logits(level_BTGC)
    most = np.abs(brought_L).max()
    assert most > 0.02
    # Finer than `PATH`: the maximum over cells has kinks, which count more in so small a network.
    found_LTG = relevance((np.arange(200) + 0.5) / 200)
    assert found_LTG.shape == (len(brought_L), FRAMES, CELLS)
    np.testing.assert_allclose(found_LTG.sum((1, 2)), brought_L, atol=0.1 * most)


def test_the_relevance_of_a_cell_is_what_the_words_lose_as_it_fades(of_grid):
    logits, grid_BTGC, relevance = of_grid
    level_BT1C = np.median(grid_BTGC, axis=2, keepdims=True)
    found_LTG = relevance(np.ones(1))
    # The cell that matters most: others may lose every maximum.
    _, t, n = np.unravel_index(np.abs(found_LTG).argmax(), found_LTG.shape)
    ends, step = [], 1e-3  # small, as the network is linear only piece by piece
    for size in (1 + step, 1 - step):
        faded = grid_BTGC.copy()
        faded[0, t, n] = level_BT1C[0, t, 0] + size * (grid_BTGC - level_BT1C)[0, t, n]
        ends.append(logits(faded))
    slope_L = (ends[0] - ends[1]) / (2 * step)
    most = np.abs(slope_L).max()
    assert most > 1e-3
    np.testing.assert_allclose(found_LTG[:, t, n], slope_L, atol=0.05 * most)


def test_a_student_that_reads_a_grid_is_explained_by_its_cells(clip):
    cells = {'data__grid_cells': CELLS, 'data__grid_dim': CELL}
    grid_only = {'model__branches': 'scene', 'model__scene_tokens': 'grid'}
    captioner = fake_captioner(**cells, **grid_only)
    tokens = captioner.run.vocab.encode(CAPTION, MAX_WORDS)
    found = explain_caption(captioner, with_grid(clip), tokens)
    assert (found.teacher, found.student) == (None, 'scene')
    assert found.relevance_LTG.shape == (4, FRAMES, CELLS)
    assert found.relevance_LTN is found.saliency_LTN is None
    with pytest.raises(UserError, match="lack 'grid'"):
        explain_caption(captioner, clip, tokens)


def test_special_tokens_and_what_follows_the_end_are_no_words(explanation, clip):
    captioner = fake_captioner()
    ids = captioner.run.vocab.encode(CAPTION, MAX_WORDS)[1:]
    found = explain_caption(captioner, clip, [*ids, 5, 0, 0])
    assert found.words == explanation.words
    assert explain_caption(captioner, clip, [2, 0, 0]).relevance_LTN.shape == (0, FRAMES, OBJECTS)


def test_features_of_another_width_are_refused(clip):
    narrow = dataclasses.replace(clip, appearance=clip.appearance[:, 1:])
    with pytest.raises(UserError, match='appearance has shape'):
        explain_caption(fake_captioner(), narrow, [4])


def test_links_are_raw_overlaps_and_cosines():
    box = np.array([[[0, 0, 2, 2], [1, 0, 3, 2], [0, 0, 2, 2]]] * 2, np.float32)
    feature = np.array([[[1, 0], [0, 2], [9, 9]], [[3, 3], [0, 1], [9, 9]]], np.float32)
    mask = np.array([[True, True, False]] * 2)
    links = object_links({'object': feature[None], 'box': box[None], 'object_mask': mask[None]})
    expected = np.zeros((3, 3))
    expected[0, 1] = expected[1, 0] = 1 / 3
    np.testing.assert_allclose(links.iou_TNN, [expected, expected], atol=1e-6)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(links.cosine_TNN, [[[half, 0, 0], [half, 1, 0], [0] * 3]], atol=1e-6)
