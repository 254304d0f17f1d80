"""Decoding: the right frames of good files, one sentence for bad ones."""

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_jax.data.sampling import sample_index, window_index
from stg_jax.errors import UserError
from stg_jax.extract.video import read_frames

REAL = Path(__file__).parents[2] / 'shared' / 'real'


def write_video(path, frames, codec='libx264', pix_fmt='yuv420p', options=None):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode())
    return path


def grey_ramp(count=40, step=6, size=(32, 48)):
    """Return frames whose brightness tells their rank."""
    return [np.full((*size, 3), step * rank, np.uint8) for rank in range(count)]


def ranks(frames, step=6):
    return np.round(frames.mean((-1, -2, -3)) / step).astype(int)


def quarter_turned(path, clockwise):
    """Rewrite the display matrix in the track header of an MP4 file."""
    matrices = {
        90: (0, 1, 0, -1, 0, 0, 0, 0, 1),
        180: (-1, 0, 0, 0, -1, 0, 0, 0, 1),
        270: (0, -1, 0, 1, 0, 0, 0, 0, 1),
    }
    one = np.array([65536, 65536, 2**30] * 3)
    matrix = (np.array(matrices[clockwise]) * one).astype('>i4').tobytes()
    content = bytearray(path.read_bytes())
    start = content.index(b'tkhd') + 44
    content[start : start + 36] = matrix
    path.write_bytes(content)
    return path


def test_samples_are_the_centres_of_equal_parts():
    assert sample_index(10, 5).tolist() == [1, 3, 5, 7, 9]
    assert sample_index(9, 3).tolist() == [1, 4, 7]
    assert sample_index(3, 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert sample_index(1, 4).tolist() == [0, 0, 0, 0]


@given(st.integers(1, 10**6), st.integers(1, 100))
def test_samples_are_spread_evenly(num_frames, num_samples):
    index = sample_index(num_frames, num_samples)
    steps = np.diff(index)
    assert 0 <= index[0] <= index[-1] < num_frames
    assert len(index) == num_samples
    assert num_samples == 1 or np.ptp(steps) <= 1
    assert abs(index[0] - (num_frames - 1 - index[-1])) <= 1


def test_windows_repeat_the_ends():
    assert window_index(np.array([0, 4, 8]), 3, 9).tolist() == [[0, 0, 1], [3, 4, 5], [7, 8, 8]]


@pytest.mark.parametrize('num_frames', [1, 7, 40, 60])
def test_frames_come_in_presentation_order(tmp_path, num_frames):
    options = {'bf': '3', 'b-adapt': '0', 'g': '12'}
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp(), options=options)
    video = read_frames(path, num_frames, window=3)
    assert video.num_frames == 40
    np.testing.assert_array_equal(video.index, sample_index(40, num_frames))
    np.testing.assert_array_equal(ranks(video.windows), window_index(video.index, 3, 40))
    np.testing.assert_array_equal(video.frames, video.windows[:, 1])
    assert (video.fps, video.height, video.width) == (10, 32, 48)


@pytest.mark.parametrize('clockwise', [90, 180, 270])
def test_rotation_is_honoured(tmp_path, clockwise):
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:, :24] = 255
    path = quarter_turned(write_video(tmp_path / 'turned.mp4', [stored] * 4), clockwise)
    shown = np.rot90(stored, -clockwise // 90)
    video = read_frames(path, 2)
    assert (video.height, video.width) == shown.shape[:2]
    assert np.abs(video.frames.astype(int) - shown).mean() < 10


def test_frames_are_scaled_to_the_size_asked_for(tmp_path):
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp())
    video = read_frames(path, 5, size=(20, 10))
    assert video.frames.shape == (5, 20, 10, 3)
    assert (video.height, video.width) == (32, 48)
    np.testing.assert_array_equal(ranks(video.frames), video.index)


def test_a_file_that_breaks_off_gives_the_frames_before(tmp_path):
    noise = np.random.default_rng(0).integers(0, 30, (40, 32, 48, 3), dtype=np.uint8)
    frames = [ramp + grain for ramp, grain in zip(grey_ramp(step=5), noise, strict=True)]
    path = write_video(tmp_path / 'cut.mkv', frames, options={'g': '1'})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    video = read_frames(path, 4)
    assert 10 < video.num_frames < 30
    np.testing.assert_array_equal(video.index, sample_index(video.num_frames, 4))
    brightness = video.frames.mean((1, 2, 3))
    np.testing.assert_allclose(brightness, 5 * video.index + 14.5, atol=3)


def test_a_one_pixel_video_is_a_video(tmp_path):
    frames = [np.full((1, 1, 3), 200, np.uint8)] * 3
    path = write_video(tmp_path / 'dot.mkv', frames, codec='ffv1', pix_fmt='bgr0')
    video = read_frames(path, 2, size=(8, 8))
    assert (video.height, video.width) == (1, 1)
    np.testing.assert_allclose(video.frames, 200, atol=2)


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / 'sound.wav'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000, layout='mono')
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), 's16', 'mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UserError, match=r'sound\.wav holds no video stream'):
        read_frames(path, 4)


@pytest.mark.parametrize('content', [b'', b'no video at all', None])
def test_what_is_no_video_is_one_sentence(tmp_path, content):
    path = tmp_path / 'clip.mp4'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r'clip\.mp4') as error:
        read_frames(path, 4)
    assert '\n' not in str(error.value)


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(UserError, match='not a file'):
        read_frames(tmp_path, 4)


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'avi'])
def test_damage_anywhere_gives_frames_or_one_sentence(tmp_path, suffix):
    path = write_video(tmp_path / f'whole.{suffix}', grey_ramp(12))
    content = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(40):
        damaged = content[: rng.integers(len(content) // 2, 2 * len(content))].copy()
        place = rng.integers(0, len(damaged), rng.integers(30))
        damaged[place] = rng.integers(0, 256, len(place))
        path.write_bytes(damaged.tobytes())
        try:
            video = read_frames(path, 3, size=(16, 16))
            assert video.frames.shape == (3, 16, 16, 3)
            outcomes.add('frames')
        except UserError:
            outcomes.add('sentence')
    assert outcomes == {'frames', 'sentence'}


def real_folder(name):
    if not (REAL / name).is_dir():
        pytest.skip(f'{REAL / name} is absent')
    return sorted((REAL / name).iterdir())


def test_odd_videos_give_frames_or_one_sentence():
    refused = set()
    for path in real_folder('odd_videos'):
        try:
            video = read_frames(path, 4, window=3)
        except UserError:
            refused.add(path.name)
            continue
        assert video.windows.shape == (4, 3, video.height, video.width, 3)
    assert refused == {'moviepy_audio_with_attached_pic.mp3', 'moviepy_empty_0byte.webm'}


def test_real_videos_are_read_to_their_end():
    for path in real_folder('videos')[:6]:
        video = read_frames(path, 10, size=(90, 120))
        assert video.index[-1] >= 0.9 * video.num_frames - 1
        assert video.num_frames > video.fps
        assert video.frames.std() > 10
