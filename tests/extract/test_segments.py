"""Windows of a long video, against the whole of it."""

import numpy as np
import pytest

from stg_jax.data.frame_sampling import sample_index
from stg_jax.errors import UserError
from stg_jax.extract.video.frames import read_frames
from stg_jax.extract.video.segments import Timeline, read_timeline, read_windows
from tests.fakes.fake_video import grey_ramp, ranks, write_video
from tests.fakes.real_data import real_data

B_FRAMES = {'bf': '3', 'b-adapt': '0', 'g': '12'}


def test_one_window_is_the_whole_video(tmp_path):
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp(), options=B_FRAMES)
    (window,) = read_windows(path, float('inf'), 7, window=3, max_side=24)
    whole = read_frames(path, 7, window=3, max_side=24)
    np.testing.assert_array_equal(window.video.windows, whole.windows)
    np.testing.assert_array_equal(window.video.index, whole.index)
    assert (window.video.num_frames, window.video.fps) == (whole.num_frames, whole.fps)
    assert (window.start, window.end) == (0, 4)


@pytest.mark.parametrize('suffix', ['mp4', 'avi', 'mkv', 'ts'])
def test_a_window_is_read_like_a_file_of_its_own(tmp_path, suffix):
    path = write_video(tmp_path / f'ramp.{suffix}', grey_ramp(), options=B_FRAMES)
    windows = list(read_windows(path, 1.0, 4, window=2))
    assert [(w.start, round(w.end, 3)) for w in windows] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    for number, window in enumerate(windows):
        shown = 10 * number + sample_index(10, 4)
        np.testing.assert_array_equal(ranks(window.video.frames), shown)
        np.testing.assert_allclose(window.second_T, shown / 10, atol=1e-3)
        # The frame before the first of a window belongs to another window.
        before = np.maximum(shown - 1, 10 * number)
        np.testing.assert_array_equal(ranks(window.video.windows[:, 0]), before)


def test_the_last_window_takes_what_is_left():
    edges = Timeline(0.0, np.arange(40) / 10, 4.0, 10.0).edges
    assert edges(1.5) == [0, 1.5, 3, 4]
    assert edges(1.2) == [0, 1.2, 2.4, 4]
    assert edges(9) == [0, 4]


def test_a_short_window_repeats_its_frames(tmp_path):
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp(4))
    windows = list(read_windows(path, 0.2, 6))
    assert [ranks(w.video.frames).tolist() for w in windows] == [
        [0, 0, 0, 1, 1, 1],
        [2, 2, 2, 3, 3, 3],
    ]


def test_a_file_that_breaks_off_gives_the_windows_before(tmp_path):
    path = write_video(tmp_path / 'ramp.ts', grey_ramp(), options={'g': '1'})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    windows = list(read_windows(path, 1.0, 3))
    assert 2 <= len(windows) <= 3
    assert ranks(windows[0].video.frames).tolist() == sample_index(10, 3).tolist()
    left = sum(window.video.num_frames for window in windows)
    assert round(windows[-1].end * 10) == left < 30


def test_nothing_to_decode_is_refused(tmp_path):
    path = tmp_path / 'empty.mp4'
    path.write_bytes(b'')
    with pytest.raises(UserError, match=r'empty\.mp4'):
        list(read_windows(path, 1.0, 3))


def test_times_that_jump_in_an_avi_are_put_in_order():
    path = real_data('videos', '-_hbPLsZvvo_323_328.avi')
    counts = [w.video.num_frames for w in read_windows(path, 3.0, 2, max_side=16)]
    second = read_timeline(path).second
    assert counts == [int((second < 3).sum()), int((second >= 3).sum())]
