"""The knobs of the toy world: harder scenes and a worse detector."""

import numpy as np
import pytest

from stg_jax.datasets.toy.scenes import KINDS, MAX_THINGS, Difficulty, compose
from stg_jax.extract.toy_pixels.extractor import DetectorNoise
from stg_jax.extract.toy_pixels.regions import Region


def scenes(split, number=60, **knobs):
    return [compose(split, index, 2, Difficulty(**knobs)) for index in range(number)]


def kinds_of(all_scenes):
    return {
        (thing.colour, thing.shape)
        for scene in all_scenes
        for thing in scene.things[: scene.event.num_actors]
    }


def test_distractors_are_added_up_to_six_things():
    usual, more = (scenes('train', distractors=number) for number in (0, 2))
    assert sum(len(s.things) for s in more) > sum(len(s.things) for s in usual) + 40
    assert max(len(scene.things) for scene in more) == MAX_THINGS
    # Who does what stays the same.
    assert [scene.captions for scene in more] == [scene.captions for scene in usual]


def test_captions_are_the_first_ones():
    for scene, few in zip(scenes('train'), scenes('train', captions=1), strict=True):
        assert few.captions == scene.captions[:1]


def test_held_out_kinds_take_no_part_in_training():
    train = kinds_of(scenes('train', 400, held_out='kinds'))
    assert 15 <= len(train) < len(KINDS)
    for split in ('val', 'test'):
        for scene in scenes(split, held_out='kinds'):
            assert not kinds_of([scene]) <= train
    # All colors and shapes are known, only some combinations are not.
    assert {color for color, _ in train} == {color for color, _ in KINDS}
    assert {shape for _, shape in train} == {shape for _, shape in KINDS}


def region(corner=(40, 50)):
    x, y = corner
    box = np.float32([x, y, x + 20, y + 10]) / 112
    return Region(box, 0.5, np.ones((10, 20), bool), corner)


@pytest.fixture(scope='module')
def frames():
    return np.random.default_rng(0).integers(0, 255, (200, 112, 112, 3)).astype(np.uint8)


def test_without_noise_the_regions_are_those_found(frames):
    regions = [[region()]] * len(frames)
    assert DetectorNoise().spoil(regions, frames) is regions


def test_a_share_of_the_regions_is_missed(frames):
    regions = [[region(), region((0, 0))]] * len(frames)
    kept = DetectorNoise(dropout=0.25).spoil(regions, frames)
    assert sum(map(len, kept)) == pytest.approx(300, abs=40)
    again = DetectorNoise(dropout=0.25).spoil(regions, frames)
    assert [len(of_frame) for of_frame in kept] == [len(of_frame) for of_frame in again]


def test_boxes_move_by_a_share_of_their_size_and_stay_in_the_picture(frames):
    regions = [[region(), region((92, 102))]] * len(frames)
    moved = DetectorNoise(jitter=0.3).spoil(regions, frames)
    corner = np.array([of_frame[0].corner for of_frame in moved]) - (40, 50)
    np.testing.assert_allclose(corner.std(0), (6, 3), rtol=0.25)
    for of_frame in moved:
        for each in of_frame:
            assert each.box.min() >= 0 and each.box.max() <= 1
            np.testing.assert_allclose(each.box[:2] * 112, each.corner, atol=1e-4)
