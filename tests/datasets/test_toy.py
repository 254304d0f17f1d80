"""The toy world: seeded, held out by combination, and its events are what their names say."""

import itertools

import numpy as np
import pytest

from stg_jax.data.text import normalise
from stg_jax.datasets.toy import render
from stg_jax.datasets.toy.events import CONTACT, EVENTS
from stg_jax.datasets.toy.phrases import TEMPLATES
from stg_jax.datasets.toy.render import SIDE
from stg_jax.datasets.toy.scenes import SPLITS, compose
from stg_jax.errors import UserError
from stg_jax.extract.video.frames import read_frames

NUM_SCENES = {'train': 300, 'val': 60, 'test': 60}


@pytest.fixture(scope='module')
def scenes():
    return {split: [compose(split, i, seed=3) for i in range(n)] for split, n in NUM_SCENES.items()}


def scenes_of(scenes, event):
    return [scene for scene in scenes['train'] if scene.event.name == event]


def gap(scene):
    """Return the distance of the two actors' centres in units of their radii's sum, (F,)."""
    subject, patient = scene.things[:2]
    distance = np.linalg.norm(subject.path - patient.path, axis=-1)
    return distance / (subject.radius + patient.radius)


def moved(thing):
    return np.linalg.norm(thing.path - thing.path[0], axis=-1)


def test_a_clip_depends_on_seed_split_and_rank_only(tmp_path):
    few = list(render(tmp_path / 'few', seed=5, num_clips={'val': 2}))
    many = list(render(tmp_path / 'many', seed=5, num_clips={'train': 1, 'val': 3}))[1:3]
    for one, other in zip(few, many, strict=True):
        assert (one.id, one.captions) == (other.id, other.captions)
        np.testing.assert_array_equal(one.true_box, other.true_box)
        assert one.path.read_bytes() == other.path.read_bytes()


def test_another_seed_gives_another_world(tmp_path):
    clips = [next(render(tmp_path / str(s), seed=s, num_clips={'train': 1})) for s in (0, 1)]
    assert clips[0].captions != clips[1].captions
    assert clips[0].path.read_bytes() != clips[1].path.read_bytes()


def test_ids_and_files_are_unique(tmp_path):
    clips = list(render(tmp_path, seed=0, num_clips=dict.fromkeys(SPLITS, 2)))
    assert len({clip.id for clip in clips}) == len({clip.path for clip in clips}) == 6


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(UserError, match='valid'):
        list(render(tmp_path, seed=0, num_clips={'valid': 1}))


def test_combinations_are_held_out_and_words_are_not(scenes):
    def combination(scene):
        actors = scene.things[: scene.event.num_actors]
        return scene.event.name, *((thing.colour, thing.shape) for thing in actors)

    combinations = {split: set(map(combination, each)) for split, each in scenes.items()}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not combinations[one] & combinations[other]

    words = {
        split: {word for scene in each for caption in scene.captions for word in caption.split()}
        for split, each in scenes.items()
    }
    assert words['val'] | words['test'] <= words['train']


def test_captions_are_normalised_paraphrases_that_name_the_actors(scenes):
    for scene in scenes['train']:
        assert 4 <= len(set(scene.captions)) == len(scene.captions) <= 6
        for caption in scene.captions:
            assert normalise(caption) == caption
            assert all(t.colour in caption for t in scene.things[: scene.event.num_actors])


def test_every_event_has_its_templates_and_happens():
    assert {event.name for event in EVENTS} == set(TEMPLATES)
    names = {compose('test', i, seed=0).event.name for i in range(len(EVENTS))}
    assert names == set(TEMPLATES)


def test_one_to_six_things_some_of_which_enter_or_leave(scenes):
    assert {len(scene.things) for scene in scenes['train']} == {1, 2, 3, 4, 5, 6}
    visible = [t.boxes().any(-1) for s in scenes['train'] for t in s.things]
    assert sum(not v[0] and v[-1] for v in visible) > 10
    assert sum(v[0] and not v[-1] for v in visible) > 10


def test_distractors_touch_nobody(scenes):
    for scene in scenes['train']:
        for one, other in itertools.combinations(scene.things, 2):
            if other in scene.things[scene.event.num_actors :]:
                distance = np.linalg.norm(one.path - other.path, axis=-1)
                assert distance.min() > one.radius + other.radius


def test_actors_stay_in_the_picture_unless_one_leaves(scenes):
    for scene in scenes['train']:
        for thing in scene.things[: scene.event.num_actors]:
            path = thing.path if scene.event.stays else thing.path[:1]
            assert (path > thing.radius).all()
            assert (path < 1 - thing.radius).all()


def test_pushed_thing_rests_until_contact_then_keeps_pace(scenes):
    for scene in scenes_of(scenes, 'push'):
        subject, patient = scene.things[:2]
        touching = gap(scene) < CONTACT + 1e-6
        assert moved(patient)[~touching].max() < 1e-9
        np.testing.assert_allclose(
            np.diff(subject.path[touching], axis=0), np.diff(patient.path[touching], axis=0)
        )
        assert moved(patient)[-1] > 0.2


def test_chaser_takes_the_way_of_the_chased(scenes):
    for scene in scenes_of(scenes, 'chase'):
        subject, patient = scene.things[:2]
        distance = np.linalg.norm(subject.path[-1] - patient.path, axis=-1)
        assert distance.min() < 0.02
        assert gap(scene).min() > 0.95
        assert np.minimum(moved(subject), moved(patient))[-1] > 0.3


def test_jumper_ends_inside_and_flies_upwards_first(scenes):
    for scene in scenes_of(scenes, 'jump into'):
        subject, patient = scene.things[:2]
        inner, outer = subject.boxes(), patient.boxes()
        assert gap(scene)[0] > 1
        assert (inner[-1, :2] >= outer[-1, :2]).all()
        assert (inner[-1, 2:] <= outer[-1, 2:]).all()
        assert subject.path[:, 1].min() < subject.path[0, 1] - 0.15
        assert moved(patient).max() == 0


def test_passer_disappears_behind_and_comes_out(scenes):
    for scene in scenes_of(scenes, 'pass behind'):
        assert scene.draw_order[-1] is scene.things[1]
        distance = gap(scene)
        assert distance.min() < 0.3
        assert distance[0] > 1
        assert distance[-1] > 1


def test_circling_goes_all_the_way_round(scenes):
    for scene in scenes_of(scenes, 'circle'):
        subject, patient = scene.things[:2]
        x, y = (subject.path - patient.path).T
        assert abs(np.ptp(np.unwrap(np.arctan2(y, x)))) > 2 * np.pi
        assert np.ptp(gap(scene)) < 1e-9


def test_leaver_starts_in_touch_and_ends_far_away(scenes):
    for scene in scenes_of(scenes, 'leave'):
        distance = gap(scene)
        assert distance[0] < 1
        assert distance[-1] > 2
        assert moved(scene.things[1]).max() == 0


def test_bumper_touches_and_bounces_back(scenes):
    for scene in scenes_of(scenes, 'bump'):
        distance = gap(scene)
        hit = distance.argmin()
        assert distance[hit] < 1.1
        assert distance[0] > distance[hit] + 0.5
        assert distance[-1] > distance[hit] + 0.5


def test_those_who_meet_both_come(scenes):
    for scene in scenes_of(scenes, 'meet'):
        one, other = scene.things[:2]
        assert gap(scene)[-1] < 1
        np.testing.assert_allclose(moved(one), moved(other))
        assert moved(one)[-1] > 0.15


def test_hopping_and_crossing_are_done_alone(scenes):
    for scene in scenes_of(scenes, 'hop') + scenes_of(scenes, 'cross'):
        assert len(scene.things) == 1
    for scene in scenes_of(scenes, 'hop'):
        assert np.ptp(scene.things[0].path[:, 0]) < 1e-9


def test_true_boxes_bound_the_pixels_that_a_reader_sees(tmp_path):
    clips = list(render(tmp_path, seed=11, num_clips={'train': 30}))
    alone = [clip for clip in clips if not clip.true_box[:, 1:].any()]
    assert len(alone) == 6
    for clip in alone:
        video = read_frames(clip.path, len(clip.true_box))
        assert video.num_frames == len(clip.true_box)
        for frame, box in zip(video.frames, clip.true_box[:, 0], strict=True):
            differs = np.abs(frame - np.median(frame, axis=(0, 1))).max(-1) > 60
            y, x = np.nonzero(differs)
            seen = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
            np.testing.assert_allclose(seen, box * SIDE, atol=2.5)


def test_boxes_are_zero_while_off_screen(scenes):
    for scene in scenes['train'][:100]:
        for thing in scene.things:
            box = thing.boxes()
            outside = (thing.path < -thing.radius).any(-1) | (thing.path > 1 + thing.radius).any(-1)
            assert not box[outside].any()
            assert (box >= 0).all()
            assert (box <= 1).all()
