from hypothesis import given
from hypothesis import strategies as st

from stg_jax.feature_files.objects import group_images

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
