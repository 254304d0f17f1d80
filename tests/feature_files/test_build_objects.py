"""Detected objects: their frames, their boxes and the best of each frame."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_jax.data.clip import no_objects
from stg_jax.feature_files.objects import best_objects, build_objects, group_images, stack_steps


@st.composite
def boxes_in_pixels(draw):
    height, width = draw(st.tuples(st.integers(20, 2000), st.integers(20, 2000)))
    unit = st.floats(0, 1, width=32)
    corners = draw(st.lists(st.tuples(unit, unit, unit, unit), min_size=1, max_size=5))
    box = np.array(corners, np.float32).reshape(-1, 2, 2)
    box = np.sort(box, axis=1).reshape(1, -1, 4)
    box[0, 0] = [0, 0, 1, 1]  # no file of pixel boxes has only boxes of a pixel
    return box, height, width


@given(boxes_in_pixels(), st.integers(-1, 1))
def test_boxes_read_the_same_in_pixels_and_in_shares_of_the_frame(drawn, off):
    box, height, width = drawn
    size = np.float32([width, height, width, height])
    feature = np.ones((*box.shape[:2], 3))
    shares = build_objects('x', feature, box).box
    pixels = build_objects('x', feature, box * size, height=height, width=width).box
    np.testing.assert_array_equal(shares, box)
    np.testing.assert_allclose(pixels, box, atol=1e-6)
    if min(height, width) >= 50:  # rounding by a pixel is forgiven
        rounded = build_objects('x', feature, box * size + off, height=height, width=width).box
        assert ((rounded >= 0) & (rounded <= 1)).all()
        np.testing.assert_allclose(rounded, box, atol=1 / min(height, width) + 1e-6)


def test_pictures_with_fewer_objects_are_padded():
    few, many = (build_objects('x', np.ones((num, 3))) for num in (1, 4))
    joined = stack_steps([few, many])
    assert joined.mask.tolist() == [[True, False, False, False], [True] * 4]
    assert joined.label.tolist() == [[-1] * 4] * 2 and not joined.feature[0, 1:].any()


@given(st.data(), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=50)
def test_the_best_objects_of_the_picked_steps_keep_what_belongs_to_them(data, num_frames, most):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(0, 5)))
    objects = build_objects(
        'x',
        rng.normal(size=(*shape, 3)),
        score=rng.choice([0.25, 0.5, 1], shape),
        label=rng.integers(0, 9, shape),
        mask=rng.random(shape) < 0.6,
    )
    index = rng.integers(0, shape[0], num_frames)
    arranged = best_objects(objects, index, most)
    empty = no_objects(num_frames, most, 3)
    for frame, step in enumerate(index):
        real = np.flatnonzero(objects.mask[step])
        best = sorted(real, key=lambda i: -objects.score[step, i])[:most]  # sorted() is stable
        pairs = {'object': 'feature', 'object_mask': 'mask'}
        for kind, values in arranged.items():
            source = getattr(objects, pairs.get(kind, kind))
            np.testing.assert_array_equal(values[frame, : len(best)], source[step, best])
            np.testing.assert_array_equal(values[frame, len(best) :], empty[kind][0, len(best) :])
            assert values.dtype == empty[kind].dtype


CLIP_NAMES = st.sampled_from(['a', 'a_b', 'video7', '-AwoiGR6c8M_10_14', '_x-_', 'vid1', 'x_3'])


@given(
    clips=st.dictionaries(CLIP_NAMES, st.sets(st.integers(0, 3000), min_size=2), min_size=2),
    separator=st.sampled_from(['_', '-', '/', '_frame_', '/frame', '/img-']),
    digits=st.sampled_from([1, 6]),
    ending=st.sampled_from(['', '.jpg']),
    shuffle=st.randoms(use_true_random=False),
)
def test_images_are_grouped_by_clip_in_the_order_of_their_numbers(
    clips, separator, digits, ending, shuffle
):
    expected = {
        clip: [f'{clip}{separator}{frame:0{digits}}{ending}' for frame in sorted(frames)]
        for clip, frames in clips.items()
    }
    names = [name for images in expected.values() for name in images]
    shuffle.shuffle(names)
    assert group_images(names) == expected


def test_one_clip_is_told_by_the_word_before_the_number():
    names = ['a_frame_9', 'a_frame_10']
    assert group_images(names) == {'a': names}


def test_the_annotations_tell_numbered_clips_from_numbered_frames():
    def fit(clips):
        return lambda keys: (len(set(keys) & set(clips)), 0)

    frames = ['a_1', 'a_2']
    alone = {name: [name] for name in frames}
    assert group_images(frames, fit(['a'])) == {'a': frames}
    assert group_images(frames, fit(frames)) == alone
    assert group_images(frames, fit(['b'])) == alone
    frames = ['a_1', 'a_2', 'b_1', 'b_2']
    assert group_images(frames, fit(frames)) == {name: [name] for name in frames}
    assert group_images(frames, fit(['c'])) == {'a': frames[:2], 'b': frames[2:]}


def test_names_that_only_look_like_frames_stay_alone():
    for names in (
        ['-AwoiGR6c8M_10_14', 'a_1_2', 'a_1_9', 'b_3_4'],
        ['COCO_train2014_000000132417', 'COCO_train2014_000000573195'],
        [f'video_{i}' for i in range(7000)],
        [f'video_{i:03}' for i in range(1, 41)],
        ['a_1', 'a_2', 'b_1'],
        ['a_1', 'a_2', 'b'],
        ['a_1', 'a_01'],
        ['video0', 'video1'],
    ):
        assert group_images(names) == {name: [name] for name in names}
