"""Segments of a long video, against the whole of it."""

import dataclasses
import itertools

import numpy as np
import pytest

from stg_jax.data.frame_sampling import sample_index
from stg_jax.errors import UserError
from stg_jax.extract.video.frames import read_frames, read_segments
from stg_jax.extract.video.timeline import Timeline, read_timeline
from tests.fakes.fake_video import grey_ramp, ranks, write_video
from tests.fakes.real_data import real_data

B_FRAMES = {'bf': '3', 'b-adapt': '0', 'g': '12'}


def test_one_segment_is_the_whole_video(tmp_path):
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp(), options=B_FRAMES)
    (segment,) = read_segments(path, 9.0, 7, context=3, max_side=24)
    whole = read_frames(path, 7, context=3, max_side=24)
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(segment, field.name), getattr(whole, field.name))
    assert (segment.start, segment.end) == (0, 4)


@pytest.mark.parametrize('suffix', ['mp4', 'avi', 'mkv', 'ts'])
def test_a_segment_is_read_like_a_file_of_its_own(tmp_path, suffix):
    path = write_video(tmp_path / f'ramp.{suffix}', grey_ramp(), options=B_FRAMES)
    segments = list(read_segments(path, 1.0, 4, context=2))
    assert [(w.start, round(w.end, 3)) for w in segments] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    for number, segment in enumerate(segments):
        shown = 10 * number + sample_index(10, 4)
        np.testing.assert_array_equal(ranks(segment.frames), shown)
        np.testing.assert_allclose(segment.second_T, shown / 10, atol=1e-3)
        # The frame before the first of a segment belongs to another segment.
        before = np.maximum(shown - 1, 10 * number)
        np.testing.assert_array_equal(ranks(segment.contexts[:, 0]), before)


def test_the_last_segment_takes_what_is_left():
    timeline = Timeline(0.0, np.arange(40) / 10, 4.0, 10.0, 1)
    for seconds, edges in ((1.5, [0, 1.5, 3, 4]), (1.2, [0, 1.2, 2.4, 4]), (9, [0, 4])):
        numbers = np.unique(timeline.segment_of(timeline.second, seconds))
        found = [timeline.edges(number, seconds) for number in numbers]
        assert found == list(itertools.pairwise(edges))


def test_a_short_segment_repeats_its_frames(tmp_path):
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp(4))
    segments = list(read_segments(path, 0.2, 6))
    assert [ranks(w.frames).tolist() for w in segments] == [
        [0, 0, 0, 1, 1, 1],
        [2, 2, 2, 3, 3, 3],
    ]


def test_a_file_that_breaks_off_gives_the_segments_before(tmp_path):
    path = write_video(tmp_path / 'ramp.ts', grey_ramp(), options={'g': '1'})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    segments = list(read_segments(path, 1.0, 3))
    assert 2 <= len(segments) <= 3
    assert ranks(segments[0].frames).tolist() == sample_index(10, 3).tolist()
    left = sum(segment.num_frames for segment in segments)
    assert round(segments[-1].end * 10) == left < 30


def test_nothing_to_decode_is_refused(tmp_path):
    path = tmp_path / 'empty.mp4'
    path.write_bytes(b'')
    with pytest.raises(UserError, match=r'empty\.mp4'):
        list(read_segments(path, 1.0, 3))


def test_times_that_jump_in_an_avi_are_put_in_order():
    path = real_data('videos', '-_hbPLsZvvo_323_328.avi')
    counts = [w.num_frames for w in read_segments(path, 3.0, 2, max_side=16)]
    second = read_timeline(path).second
    assert counts == [int((second < 3).sum()), int((second >= 3).sum())]
