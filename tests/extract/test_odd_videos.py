"""What people really have: every odd file gives the frames it shows, or one clear sentence."""

import av
import numpy as np
import pytest

from stg_jax.data.frame_sampling import sample_index
from stg_jax.errors import UserError
from stg_jax.extract.video.frames import read_frames
from tests.fakes.real_data import real_data

# Frames that can be decoded, height and width as shown, frames a second.
SHOWN = {
    'decord_corrupted.mp4': (49, 720, 1280, 10),
    'decord_video_0.mov': (3, 320, 568, 30),
    'decord_video_270.mov': (3, 568, 320, 30),
    'imageio_realshort.mp4': (36, 240, 320, 30),
    'moviepy_fire2_vfr_rotated180.mp4': (25, 720, 1280, 10.5),
    'moviepy_pigs.gif': (30, 273, 314, 10),
    'moviepy_transparent_alpha.webm': (150, 200, 200, 30),
    'torchcodec_av1_video.mkv': (125, 360, 640, 25),
    'torchcodec_h264_10bits.mp4': (30, 200, 200, 30),
    'torchcodec_h265_video.mp4': (10, 128, 128, 10),
}
REFUSED = {
    'moviepy_audio_with_attached_pic.mp3': 'holds no video stream',
    'moviepy_empty_0byte.webm': 'is no readable video',
}
NEARLY_STILL = {'decord_video_0.mov', 'decord_video_270.mov'}


def odd(name):
    return real_data('odd_videos', name)


def test_every_odd_file_has_an_expectation():
    assert {path.name for path in odd('').iterdir()} == {*SHOWN, *REFUSED}


@pytest.mark.parametrize('name', REFUSED)
def test_what_shows_nothing_is_one_sentence(name):
    with pytest.raises(UserError, match=REFUSED[name]) as error:
        read_frames(odd(name), 4)
    assert name in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', SHOWN)
def test_what_shows_something_gives_the_frames_of_a_plain_decoder(name):
    video = read_frames(odd(name), 5)
    count, height, width, fps = SHOWN[name]
    assert (video.num_frames, video.height, video.width) == (count, height, width)
    assert video.fps == pytest.approx(fps, rel=0.01)
    np.testing.assert_array_equal(video.index, sample_index(count, 5))
    for rank, frame in zip(video.index, video.frames, strict=True):
        plain = plain_frames(odd(name))[rank]
        assert np.abs(frame.astype(int) - plain).mean() < 1.5
    assert video.frames.std() > 5
    if name not in NEARLY_STILL:
        changes = np.abs(np.diff(video.frames.astype(int), axis=0)).max((1, 2, 3))
        assert (changes > 100).all()


def plain_frames(path):
    """Decode everything in the simplest way, and turn it upright."""
    if path not in PLAIN:
        frames = []
        with av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1  # one way to patch up what is broken
            for packet in container.demux(container.streams.video[0]):
                try:
                    frames += packet.decode()
                except av.error.InvalidDataError:
                    continue
        PLAIN.clear()  # one large video at a time is enough
        PLAIN[path] = [
            np.rot90(frame.to_ndarray(format='rgb24'), frame.rotation // 90) for frame in frames
        ]
    return PLAIN[path]


PLAIN = {}


def test_a_turned_laptop_stands_upright():
    frame = read_frames(odd('decord_video_270.mov'), 1).frames[0].astype(int)
    red = np.clip(frame[..., 0] - frame[..., 1], 0, None)
    # The red line above its touch pad runs from left to right.
    across, along = red.mean(axis=1), red.mean(axis=0)
    assert across.max() > 3 * np.median(across)
    assert along.max() < 3 * np.median(along)
    assert 0.3 < across.argmax() / len(across) < 0.5


def test_a_video_that_was_filmed_upside_down_stands_upright():
    frame = read_frames(odd('moviepy_fire2_vfr_rotated180.mp4'), 1, size=(72, 128)).frames[0]
    # The light wall is behind the things on the floor, a red basket among them.
    redness = frame[..., 0].astype(int) - frame[..., 1]
    top, bottom = redness[:24], redness[48:]
    assert bottom.max() > 60
    assert bottom.mean() > top.mean()


def test_two_files_of_one_test_picture_look_the_same():
    bars = []
    for name in ('decord_corrupted.mp4', 'torchcodec_av1_video.mkv'):
        frame = read_frames(odd(name), 1, size=(36, 64)).frames[0]
        bars.append(frame[4:20, 4:44].astype(int))
    assert np.abs(bars[0] - bars[1]).mean() < 8


def test_what_lies_beneath_transparency_is_shown():
    frames = read_frames(odd('moviepy_transparent_alpha.webm'), 8).frames.astype(int)
    disc = frames[..., 0] > 128
    assert (disc.sum((1, 2)) > 50).all()
    assert frames[~disc].mean() < 3
    centres = [np.argwhere(mask).mean(axis=0) for mask in disc]
    assert np.linalg.norm(np.ptp(centres, axis=0)) > 50
    corner = read_frames(odd('moviepy_pigs.gif'), 3).frames[:, :20, :5]
    np.testing.assert_array_equal(corner, 255)


def test_ten_bits_a_colour_become_eight():
    frame = read_frames(odd('torchcodec_h264_10bits.mp4'), 1).frames[0].astype(int)
    # The first bars of the test picture, below the line that crosses it.
    for column, expected in [(16, (255, 0, 0)), (49, (0, 255, 0)), (140, (255, 0, 255))]:
        assert (
            np.abs(np.median(frame[190:, column - 5 : column + 5], axis=(0, 1)) - expected).max()
            < 40
        )
