"""Features from pixels: the boxes are found, the descriptors tell things apart and follow them."""

import dataclasses
import json

import av
import cv2
import numpy as np
import pytest

from stg_jax.data.frame_sampling import sample_index
from stg_jax.datasets.toy import render
from stg_jax.errors import UserError
from stg_jax.extract.registry import build_extractor
from stg_jax.extract.toy_pixels.cells import WIDTH, describe_cells
from stg_jax.extract.toy_pixels.descriptors import (
    GRID,
    HUES,
    WIDTHS,
    describe_frame,
    describe_motion,
    motion_of,
    moving_pixels,
    optical_flow,
)
from stg_jax.extract.toy_pixels.extractor import PixelExtractor
from stg_jax.extract.toy_pixels.regions import distance, find_regions, ground_colour
from tests.fakes.real_data import real_data

NUM_FRAMES, NUM_OBJECTS = 10, 6
ARRAYS = ('appearance', 'motion', 'object', 'box', 'score', 'label', 'object_mask')


@pytest.fixture(scope='module')
def toys(tmp_path_factory):
    """Return [(what the renderer knows at the sampled frames, what the extractor saw)]."""
    extractor = PixelExtractor(NUM_FRAMES, NUM_OBJECTS)
    pairs = []
    for toy in render(tmp_path_factory.mktemp('toys'), seed=17, num_clips={'train': 40}):
        clip = extractor.extract(toy.path, clip_id=toy.id, captions=toy.captions)
        index = sample_index(len(toy.true_box), NUM_FRAMES)
        pairs.append((dataclasses.replace(toy, true_box=toy.true_box[index]), clip))
    return pairs


def iou(one, other):
    """Return the overlap of (P, 4) and (Q, 4) boxes, (P, Q); 0 for empty ones."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    area = [(box[:, 2:] - box[:, :2]).prod(-1) for box in (one, other)]
    return shared / np.maximum(area[0][:, None] + area[1][None] - shared, 1e-9)


def write_video(path, frames):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=10, options={'crf': '10'})
        stream.height, stream.width = frames[0].shape[:2]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode())
    return path


def picture(*things, side=112, ground=(225, 220, 215)):
    """Draw (colour, x1, y1, x2, y2) rectangles."""
    frame = np.full((side, side, 3), ground, np.uint8)
    for colour, x1, y1, x2, y2 in things:
        frame[y1:y2, x1:x2] = colour
    return frame


def regions_of(*frames, max_regions=6):
    lab = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2LAB) for frame in frames])
    return find_regions(lab, max_regions)


RED, BLUE, GREEN = (210, 40, 40), (40, 70, 205), (40, 160, 60)


def test_visible_things_are_found_and_little_else(toys):
    found = clear = right = proposed = 0
    for toy, clip in toys:
        for true, box, mask in zip(toy.true_box, clip.box, clip.object_mask, strict=True):
            overlap = iou(true, box[mask])
            apart = (iou(true, true) * (1 - np.eye(len(true)))).max(-1) < 0.1
            # A sliver at the picture's edge is no visible thing.
            visible = (true[:, 2:] - true[:, :2]).prod(-1) > 0.01
            found += (overlap.max(-1, initial=0) >= 0.5)[apart & visible].sum()
            clear += (apart & visible).sum()
            right += (overlap.max(0) >= 0.5).sum()
            proposed += mask.sum()
    assert clear > 1000
    assert found / clear > 0.97
    assert right / proposed > 0.93


def test_cosine_follows_a_thing_to_the_next_frame(toys):
    right = total = 0
    for toy, clip in toys:
        for t in range(NUM_FRAMES - 1):
            here, there = (iou(toy.true_box[k], clip.box[k]) > 0.5 for k in (t, t + 1))
            now, then = (
                clip.object[k] / np.maximum(np.linalg.norm(clip.object[k], axis=-1), 1e-9)[:, None]
                for k in (t, t + 1)
            )
            cosine = np.where(clip.object_mask[t + 1], now @ then.T, -1)
            for thing in np.flatnonzero(here.any(-1) & there.any(-1)):
                right += there[thing, cosine[here[thing].argmax()].argmax()]
                total += 1
    assert total > 1000
    assert right / total > 0.97


def test_absent_objects_are_zero_and_present_ones_lead_by_score(toys):
    for _, clip in toys:
        assert (np.diff(clip.object_mask.astype(int), axis=1) <= 0).all()
        assert (np.diff(clip.score, axis=1) <= 0).all()
        assert ((clip.score > 0) == clip.object_mask).all()
        assert (clip.score <= 1).all()
        assert not clip.object[~clip.object_mask].any()
        assert not clip.box[~clip.object_mask].any()
        assert (clip.box[..., 2:] > clip.box[..., :2])[clip.object_mask].all()
        assert (clip.label == -1).all()


def test_fewer_objects_are_the_first_of_more(toys):
    for toy, clip in toys[:5]:
        few = PixelExtractor(NUM_FRAMES, 2).extract(toy.path)
        for name in ('object', 'box', 'score', 'object_mask'):
            np.testing.assert_array_equal(getattr(few, name), getattr(clip, name)[:, :2])


def test_motion_is_exact_to_the_last_bit():
    """OpenCV's magnitude is not, and its error depends on where in memory its arguments are."""
    flow = np.random.default_rng(0).normal(size=(112, 112, 2)).astype(np.float32)
    x, y = np.moveaxis(flow, -1, 0)
    layers = np.stack([x, y, np.sqrt(x * x + y * y)], axis=-1)
    expected = cv2.resize(layers, (GRID, GRID), interpolation=cv2.INTER_AREA)
    found = describe_motion(motion_of(flow, np.ones((112, 112), bool)))
    np.testing.assert_array_equal(found, expected.ravel() / 2)


def test_the_extractor_of_a_manifest_sees_the_same(toys):
    toy, clip = toys[0]
    settings = json.loads(json.dumps(PixelExtractor(NUM_FRAMES, NUM_OBJECTS).settings))
    again = build_extractor(settings).extract(toy.path)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(clip, name))


def test_a_clip_carries_what_it_was_given_and_the_source(toys):
    toy, clip = toys[0]
    assert (clip.id, clip.captions) == (toy.id, toy.captions)
    assert (clip.fps, clip.height, clip.width) == (12, 112, 112)
    assert clip.true_box.shape == (NUM_FRAMES, 0, 4)
    assert {kind: getattr(clip, kind).shape[-1] for kind in WIDTHS} == WIDTHS
    assert PixelExtractor(4, 1).extract(toy.path).id == toy.path.stem


def test_size_of_the_source_hardly_matters(tmp_path):
    small = picture((RED, 20, 30, 50, 60), (BLUE, 70, 70, 100, 90))
    large = np.kron(small, np.ones((3, 3, 1), np.uint8))
    one, other = (
        PixelExtractor(2, 3).extract(write_video(tmp_path / f'{len(each)}.mp4', [each] * 3))
        for each in (small, large)
    )
    np.testing.assert_array_equal(one.object_mask, other.object_mask)
    np.testing.assert_allclose(one.box, other.box, atol=0.02)
    np.testing.assert_allclose(one.appearance, other.appearance, atol=0.15)


def test_nothing_to_see_gives_no_object_and_finite_features(tmp_path):
    path = write_video(tmp_path / 'blank.mp4', [picture()] * 5)
    clip = PixelExtractor(3, 4).extract(path)
    assert not clip.object_mask.any()
    assert not clip.object.any()
    assert all(np.isfinite(getattr(clip, name)).all() for name in ARRAYS)
    assert np.abs(clip.motion).max() < 0.05


def test_touching_things_of_different_colour_come_apart():
    [regions] = regions_of(picture((RED, 30, 40, 56, 66), (BLUE, 56, 44, 80, 70)))
    boxes = np.stack([region.box for region in regions])
    expected = np.array([[30, 40, 56, 66], [56, 44, 80, 70]]) / 112
    assert len(regions) == 2
    assert (iou(boxes, expected).max(0) > 0.85).all()


def test_a_thing_inside_another_is_seen_as_well():
    [regions] = regions_of(picture((GREEN, 20, 20, 80, 80), (RED, 40, 40, 60, 60)))
    outer, inner = sorted(regions, key=lambda region: -region.mask.size)
    np.testing.assert_allclose(outer.box, np.array([20, 20, 80, 80]) / 112)
    np.testing.assert_allclose(inner.box, np.array([40, 40, 60, 60]) / 112)
    assert not outer.mask[30, 30]


def test_a_thing_that_left_leaves_no_ghost():
    here, there = (RED, 20, 20, 45, 45), (RED, 70, 70, 95, 95)
    *before, after = regions_of(*[picture(here)] * 5, picture(there))
    assert all(len(regions) == 1 for regions in before)
    np.testing.assert_allclose([region.box for region in after], [np.array(there[1:]) / 112])


def test_only_the_best_regions_are_kept():
    things = [(RED, 10, 10, 18, 20), (BLUE, 30, 30, 60, 60), (GREEN, 80, 10, 100, 30)]
    [everything] = regions_of(picture(*things))
    [best] = regions_of(picture(*things), max_regions=2)
    assert [region.score for region in best] == [region.score for region in everything[:2]]
    assert everything[-1].mask.size == 80


def test_motion_has_place_and_direction(tmp_path):
    frames = [picture((RED, 10 + 2 * k, 44, 40 + 2 * k, 68)) for k in range(20)]
    forward, backward = (
        PixelExtractor(1, 1).extract(write_video(tmp_path / f'{name}.mp4', each))
        for name, each in (('forward', frames), ('backward', frames[::-1]))
    )
    layout = forward.motion.reshape(GRID, GRID, 3)
    assert layout[2:4, 1:3, 0].mean() > 0.3
    assert np.abs(layout[[0, 5]]).max() < 0.1
    # Two neighbours of a frame are two steps of two pixels apart; the descriptor halves that.
    right, down, speed = forward.object[0, 0, -3:]
    assert right == pytest.approx(2, abs=0.4)
    assert down == pytest.approx(0, abs=0.2)
    assert speed == pytest.approx(np.hypot(right, down))
    assert backward.object[0, 0, -3] == pytest.approx(-2, abs=0.4)


def test_a_frame_has_the_hue_of_its_things_and_grey_has_none():
    def hues(frame):
        lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)
        return describe_frame(lab, ground_colour(lab))[3 * GRID**2 :][:HUES]

    red, blue, grey = (hues(picture((c, 30, 30, 60, 60))) for c in (RED, BLUE, (60, 60, 60)))
    assert red.argmax() != blue.argmax()
    assert red.max() > 0.3
    assert grey.max() < 0.05
    moved = hues(picture((RED, 50, 70, 80, 100)))
    np.testing.assert_allclose(moved, red, atol=1e-5)


@pytest.mark.parametrize(
    ('settings', 'sentence'),
    [
        ({'name': 'imported', 'file': 'features.hdf5'}, "'imported' is none of this project's"),
        ({}, "'None' is none of this project's"),
        ({'name': 'pixels', 'version': 0, 'frames': 4, 'objects': 2}, 'version 0'),
        ({'name': 'pixels', 'version': 2, 'frames': 4}, "lacks 'objects'"),
    ],
)
def test_features_of_another_extractor_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        build_extractor(settings)


def test_real_videos_give_finite_features_or_one_sentence():
    folders = [real_data('odd_videos'), real_data('videos')]
    extractor, seen = PixelExtractor(4, 5), 0
    for path in [path for folder in folders for path in sorted(folder.iterdir())[:12]]:
        try:
            clip = extractor.extract(path)
        except UserError:
            continue
        assert all(np.isfinite(getattr(clip, name)).all() for name in ARRAYS)
        assert clip.object_mask.any(-1).any() or clip.appearance.any()
        seen += clip.object_mask.any()
    assert seen > 15


def cells_of(*things, before=None):
    """Return the cells (7, 7, WIDTH) of a picture that stood still, or came from another one."""
    now = picture(*things)
    frames = [now if before is None else picture(*before), now, now]
    lab = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2LAB) for frame in frames])
    ground = ground_colour(lab[1])[None]
    contrast = distance(lab[1:2], ground[:, None, None])
    motion = motion_of(optical_flow(lab[0], lab[2]), moving_pixels(lab[0], lab[2]))
    return describe_cells(lab[1:2], ground, contrast, [motion]).reshape(7, 7, WIDTH)


def test_a_cell_has_the_color_that_is_in_it_and_others_have_none():
    cells = cells_of((RED, 20, 20, 28, 28), (BLUE, 84, 84, 92, 92))
    red, blue = cells[1, 1], cells[5, 5]
    assert cells[..., :15].any(-1).sum() == 2
    assert red[3:15].argmax() != blue[3:15].argmax()
    np.testing.assert_allclose(cells[3, 3], 0, atol=0.05)


def test_edges_have_their_direction_and_a_hole_has_the_opposite_ones():
    solid = cells_of((RED, 32, 32, 48, 48))
    directions = solid[1:4, 1:4, 27:43].sum((0, 1))
    assert sorted(directions.argsort()[-4:]) == [0, 4, 8, 12]
    # The left edge of a thing brightens to the right of the background, its right edge to the left.
    left, right = solid[2, 1, 27:43] + solid[2, 2, 27:43], solid[2, 3, 27:43]
    assert right.argmax() == 8 and left[0] > 0


def test_curvature_tells_corners_from_straight_edges():
    cells = cells_of((RED, 24, 24, 72, 72))
    corner, edge = cells[1, 1, 43:49], cells[1, 3, 43:49]
    assert edge.argmax() == 2
    assert corner[3:].sum() > 2 * edge[3:].sum()


def test_a_cell_has_the_motion_of_what_is_in_it():
    moved = cells_of((RED, 36, 40, 60, 64), before=[(RED, 32, 40, 56, 64)])
    assert moved[3, 3, 49] > 0.5 and abs(moved[3, 3, 50]) < 0.3
    assert not moved[0, 0, 49:].any()


def test_of_two_things_in_a_cell_the_moving_one_gives_its_hue():
    resting, before, now = (BLUE, 42, 58, 54, 64), (RED, 40, 40, 52, 50), (RED, 44, 40, 56, 50)
    cell = cells_of(resting, now, before=[resting, before])[3, 3]
    hues, moving_hues = cell[3:15], cell[15:27]
    red, blue = (cells_of((c, 40, 40, 56, 56))[3, 3, 3:15].argmax() for c in (RED, BLUE))
    assert hues[red] > 0.1 and hues[blue] > 0.1
    assert moving_hues[red] > 3 * moving_hues[blue]
    assert not cells_of(resting, now)[..., 15:27].any()
