"""Captions of the toy world are read back to what happened, and scored by it."""

import pytest

from stg_jax.datasets.toy.attributes import SCORES, SYMMETRIC, judge, parse, score_attributes
from stg_jax.datasets.toy.scenes import compose
from stg_jax.errors import UserError

PUSH = parse('a red ball pushes the blue hoop')


def test_every_caption_of_a_scene_has_the_meaning_of_the_scene():
    for index in range(200):
        scene = compose('train', index, seed=4)
        actors = scene.things[: scene.event.num_actors]
        kinds = [(thing.colour, thing.shape) for thing in actors]
        for caption in scene.captions:
            meaning = parse(caption)
            assert meaning.event == scene.event.name
            assert list(meaning.roles.values()) in (kinds, kinds[::-1])
            assert meaning.event in SYMMETRIC or meaning.roles['subject'] == kinds[0]
            assert judge(caption, parse(scene.captions[0])).everything


def test_passive_captions_have_the_same_roles():
    assert parse('the blue ring is pushed by a red circle').roles == PUSH.roles


def test_a_caption_outside_the_grammar_keeps_its_things():
    meaning = parse('a red ball is bouncing near the green star')
    assert meaning.event is None
    assert meaning.things == (('red', 'ball'), ('green', 'star'))
    assert meaning.roles == {}
    assert parse('').things == ()


@pytest.mark.parametrize(
    ('caption', 'expected'),
    [
        ('the red circle shoves a blue ring forward', (True, 2, True, True)),
        ('a red ball chases a blue ring', (False, 2, True, False)),
        ('a blue ring pushes a red ball', (True, 2, True, False)),
        ('a red ring pushes a blue ball', (True, 0, False, False)),
        ('a red ball pushes a red ball', (True, 1, False, False)),
        ('a red ball pushes a blue ring a blue ring', (False, 2, False, False)),
        ('a red ball jumps up and down', (False, 1, False, False)),
    ],
)
def test_judgements(caption, expected):
    found = judge(caption, PUSH)
    assert (found.event, found.things, found.all_things, found.everything) == expected


def test_colors_and_shapes_count_apart_from_things():
    swapped = judge('a red ring pushes a blue ball', PUSH)
    assert (swapped.color, swapped.shape, swapped.things) == (2, 2, 0)
    assert not swapped.subject and not swapped.object


def test_those_who_meet_may_be_named_in_either_order():
    truth = parse('a red ball meets a blue ring')
    assert judge('the blue ring and the red ball meet', truth).everything
    assert not judge('the blue ball and the red ring meet', truth).everything


def test_scores_are_percentages_of_clips_and_of_things():
    references = {'a': ['a red ball pushes a blue ring'], 'b': ['a green star keeps jumping']}
    predictions = {'a': 'a red ball pushes a blue box', 'b': 'a green star keeps jumping'}
    result = score_attributes(predictions, references)
    assert list(result['attributes']) == list(SCORES.values())
    assert result['attributes']['event right'] == 100
    assert result['attributes']['things right'] == pytest.approx(200 / 3)
    assert result['attributes']['all things right'] == 50
    assert result['attributes']['object right'] == 0
    assert result['per_clip']['b']['everything'] and not result['per_clip']['a']['everything']


def test_foreign_references_and_missing_clips_are_refused():
    with pytest.raises(UserError, match='not captions of the toy world'):
        score_attributes({'a': 'a dog'}, {'a': ['a man runs']})
    with pytest.raises(UserError, match='different clips'):
        score_attributes({'a': 'a dog'}, {'b': ['a man runs']})
