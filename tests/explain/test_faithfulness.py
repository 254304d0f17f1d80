import dataclasses
import types

import numpy as np
import pytest

from stg_jax.data.clip import Clip
from stg_jax.datasets.toy.scenes import compose
from stg_jax.explain import Explanation, faithfulness, pointing_game
from stg_jax.explain.faithfulness import follow, measure, summarise
from tests.fakes.fake_captioner import fake_captioner
from tests.fakes.fake_data import CELL, CELLS, fake_clips, with_grid

SHARES = np.linspace(0, 1, 11)


def of_one_item(item):
    """Return the log-probability of one word that is certain where `item` is shown, else 1/4."""
    return lambda shown_PI: np.where(shown_PI[:, item], 0, np.log(0.25))[:, None]


def curves_of(relevance_I):
    return follow(
        of_one_item(3), np.array([relevance_I]), np.ones(10, bool), np.random.default_rng(0)
    )


def test_a_faithful_order_takes_away_and_adds_at_once():
    curves = curves_of(1.0 * (np.arange(10) == 3))
    np.testing.assert_allclose(curves.deletion_LS[0], np.where(SHARES > 0, 0.25, 1))
    np.testing.assert_allclose(curves.insertion_LS[0], np.where(SHARES > 0, 1, 0.25))


def test_the_opposite_order_takes_away_and_adds_at_last():
    curves = curves_of(-1.0 * (np.arange(10) == 3))
    np.testing.assert_allclose(curves.deletion_LS[0], np.where(SHARES < 1, 1, 0.25))
    np.testing.assert_allclose(curves.insertion_LS[0], np.where(SHARES < 1, 0.25, 1))


def test_areas_are_compared_with_a_random_order():
    rng = np.random.default_rng(0)
    relevance_LI = np.tile(1.0 * (np.arange(10) == 3), (400, 1))
    log_p_fn = of_one_item(3)
    curves = follow(
        lambda shown: np.tile(log_p_fn(shown), (1, 400)), relevance_LI, np.ones(10, bool), rng
    )
    found = summarise([curves])
    assert found['words'] == 400
    assert found['deletion_area'] == pytest.approx(0.25 + 0.75 / 20)
    assert found['insertion_area'] == pytest.approx(1 - 0.75 / 20)
    # The one item that counts is, at random, as likely gone as not.
    assert found['deletion_random_area'] == pytest.approx(0.625, abs=0.03)
    assert found['insertion_random_area'] == pytest.approx(found['deletion_random_area'])


def test_absent_objects_are_never_shown_and_each_word_is_followed_by_itself():
    present = np.array([[True, False], [True, True]])
    relevance_LTN = np.array([[[3, 9], [2, 1]], [[1, 9], [2, 3]]])
    seen = []

    def log_p_fn(shown_PTN):
        seen.append(shown_PTN)
        # Word 0 lives by object (0, 0), word 1 by object (1, 1).
        return np.log(np.where(shown_PTN[:, [0, 1], [0, 1]], 1, 0.5))

    curves = follow(log_p_fn, relevance_LTN, present, np.random.default_rng(0))
    assert not seen[0][:, 0, 1].any()
    for deletion_S in curves.deletion_LS:
        # One of three objects is gone when half of a third is.
        np.testing.assert_allclose(deletion_S, np.where(SHARES * 3 > 0.5, 0.5, 1))


def test_a_run_is_measured_in_both_branches():
    found = measure(fake_captioner(), fake_clips(3))
    assert found['clips'] == 3
    assert 'pointing' not in found
    for branch in ('scene', 'object'):
        curves = found['faithfulness'][branch]
        assert curves['deletion'][0] == curves['insertion'][-1]
        assert curves['deletion'][-1] == curves['insertion'][0]
        assert curves['deletion'] != curves['deletion_random']


def test_cells_of_a_grid_are_taken_away_and_added_too(monkeypatch):
    # The words to follow: with random parameters this captioner would say nothing.
    monkeypatch.setattr(faithfulness, 'word_ids', lambda token_L: [4, 9, 5])
    cells = {'data__grid_cells': CELLS, 'data__grid_dim': CELL}
    grid_only = {'model__branches': 'scene', 'model__scene_tokens': 'grid'}
    found = measure(fake_captioner(**cells, **grid_only), map(with_grid, fake_clips(2)))
    assert set(found['faithfulness']) == {'scene', 'scene_cells'}
    curves = found['faithfulness']['scene_cells']
    assert curves['deletion'][0] == curves['insertion'][-1]
    assert curves['deletion'][-1] == curves['insertion'][0]
    assert curves['deletion_area'] < curves['insertion_area']


def toy_case(relevance):
    """Return a scene with two actors, its caption explained, and its clip; objects swapped."""
    scene = next(s for s in (compose('test', i, 0) for i in range(9)) if s.event.num_actors == 2)
    one, other = scene.things[:2]
    words = ('a', other.colour, other.shape, 'and', 'the', one.colour, one.shape)
    true_box = np.array([[[0, 0, 0.2, 0.2], [0.5, 0.5, 0.9, 0.9]]] * 2, np.float32)
    mask = np.array([[True, True], [True, False]])
    fields = dict.fromkeys(Explanation.__dataclass_fields__)
    box = true_box[:, ::-1] * mask[..., None]
    fields |= {'words': words, 'box_TN4': box, 'object_mask_TN': mask, 'relevance_LTN': relevance}
    clip = types.SimpleNamespace(true_box=true_box)
    scene = dataclasses.replace(scene, things=(one, other))
    return Explanation(**fields), clip, scene


def test_a_noun_points_right_where_its_best_object_is_the_thing():
    relevance_LTN = np.zeros((7, 2, 2))
    relevance_LTN[2, 1, 0] = 1.0  # the second actor's noun, at the second actor
    relevance_LTN[2, 1, 1] = 9.0  # no object is there
    relevance_LTN[6, 0, 0] = 1.0  # the first actor's noun, at the second actor
    relevance_LTN[5, 0, 1] = 2.0  # its colour, at the first
    one, other = pointing_game.point(*toy_case(relevance_LTN))
    assert (other.named, other.meant, other.phrase) == (True, True, True)
    assert (one.named, one.meant, one.phrase) == (False, False, True)
    assert (other.meant_chance, one.meant_chance) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    found = pointing_game.summarise([one, other])
    assert (found['nouns'], found['named'], found['meant'], found['phrase']) == (2, 0.5, 0.5, 1.0)
    assert found['meant_chance'] == pytest.approx(0.5)


def test_a_noun_names_every_thing_of_its_shape_and_means_one():
    relevance_LTN = np.zeros((7, 2, 2))
    relevance_LTN[6, 0, 0] = 1.0  # the first actor's noun, at the second actor
    explanation, clip, scene = toy_case(relevance_LTN)
    one, other = scene.things[:2]
    twin = dataclasses.replace(other, shape=one.shape)
    words = tuple(one.shape if word == other.shape else word for word in explanation.words)
    explanation = dataclasses.replace(explanation, words=words)
    scene = dataclasses.replace(scene, things=(one, twin))
    found = pointing_game.point(explanation, clip, scene)[0]
    assert (found.named, found.meant) == (True, False)
    assert (found.named_chance, found.meant_chance) == (1.0, pytest.approx(1 / 3))


def test_cells_are_judged_by_their_centers():
    explanation, clip, scene = toy_case(None)
    # In a grid of 5 x 5 the first thing has the center of cell 0, the second that of cell 18.
    relevance_LTG = np.zeros((7, 2, 25))
    relevance_LTG[5, 0, 0] = 1.0  # the first actor's colour, at the first actor
    relevance_LTG[6, 1, 18] = 2.0  # its noun, at the second actor
    relevance_LTG[1, 1, 18] = 1.0  # the second actor's colour, at it
    relevance_LTG[2, 1, 13] = 0.5  # its noun, at a cell that the second actor's box only touches
    explanation = dataclasses.replace(explanation, relevance_LTG=relevance_LTG)
    one, other = pointing_game.point_cells(explanation, clip, scene)
    assert (one.colour, one.shape, one.phrase) == (True, False, False)
    assert (other.colour, other.shape, other.phrase) == (True, False, True)
    assert (one.phrase_chance, other.phrase_chance) == (1 / 25, 1 / 25)
    found = pointing_game.summarise([one, other])
    assert (found['nouns'], found['colour'], found['shape'], found['phrase']) == (2, 1.0, 0.0, 0.5)


def test_a_lone_actor_and_a_thing_that_is_not_there_say_nothing():
    explanation, clip, scene = toy_case(np.zeros((7, 2, 2)))
    lone = next(s for s in (compose('test', i, 0) for i in range(10)) if s.event.num_actors == 1)
    assert pointing_game.point(explanation, clip, lone) == []
    words = tuple('plaid' if word == scene.things[0].colour else word for word in explanation.words)
    assert len(pointing_game.point(dataclasses.replace(explanation, words=words), clip, scene)) == 1


def test_the_scene_of_a_toy_clip_is_found_again(tmp_path):
    from stg_jax.datasets import toy

    (film,) = toy.render(tmp_path, seed=3, num_clips={'val': 1})
    clip = Clip(**dict.fromkeys(Clip.__dataclass_fields__) | {'id': film.id})
    assert pointing_game.toy_scene(clip, {'seed': 3}).captions == film.captions
