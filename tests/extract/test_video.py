"""Decoding: the right frames of good files, one sentence for bad ones."""

import resource
import socket
import struct
import tempfile
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_jax.data.frame_sampling import context_index, sample_index
from stg_jax.errors import UserError
from stg_jax.extract.video.frames import read_frames
from tests.fakes.fake_video import grey_ramp, ranks, write_video
from tests.fakes.real_data import real_data


def quarter_turned(path, clockwise):
    """Rewrite the display matrix in the track header of an MP4 file; None has no direction."""
    matrices = {
        None: (0,) * 9,
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


def test_a_title_in_an_unknown_encoding_does_not_hide_the_pictures(tmp_path):
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp())
    content = path.read_bytes()
    assert content.count(b'Lavf') == 1  # the name of the writer, which a reader sees as a title
    path.write_bytes(content.replace(b'Lavf', b'\xe9\xff\xfe\xe9'))
    assert ranks(read_frames(path, 4).frames).tolist() == [5, 15, 25, 35]


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
    index = np.array([0, 4, 8])
    assert context_index(index, 3, 9).tolist() == [[0, 0, 1], [3, 4, 5], [7, 8, 8]]
    assert context_index(index, 2, 9).tolist() == [[0, 0], [3, 4], [7, 8]]
    assert context_index(index, 4, 9).tolist() == [[0, 0, 0, 1], [2, 3, 4, 5], [6, 7, 8, 8]]


@pytest.mark.parametrize('window', [1, 2, 3, 16])
@pytest.mark.parametrize('num_frames', [1, 7, 40, 60])
def test_frames_come_in_presentation_order(tmp_path, num_frames, window):
    options = {'bf': '3', 'b-adapt': '0', 'g': '12'}
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp(), options=options)
    video = read_frames(path, num_frames, context=window)
    assert video.num_frames == 40
    np.testing.assert_array_equal(video.index, sample_index(40, num_frames))
    np.testing.assert_array_equal(ranks(video.contexts), context_index(video.index, window, 40))
    np.testing.assert_array_equal(ranks(video.frames), video.index)
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


def test_a_rotation_without_a_direction_is_none(tmp_path):
    path = quarter_turned(write_video(tmp_path / 'odd.mp4', grey_ramp()), None)
    assert read_frames(path, 2).frames.shape == (2, 32, 48, 3)


def test_frames_are_scaled_to_the_size_asked_for(tmp_path):
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp())
    video = read_frames(path, 5, size=(20, 10))
    assert video.frames.shape == (5, 20, 10, 3)
    assert (video.height, video.width) == (32, 48)
    np.testing.assert_array_equal(ranks(video.frames), video.index)


@pytest.mark.parametrize(
    ('max_side', 'shown'), [(100, (32, 48)), (48, (32, 48)), (24, (16, 24)), (1, (1, 1))]
)
def test_large_frames_are_scaled_down_and_small_ones_left(tmp_path, max_side, shown):
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp())
    video = read_frames(path, 5, max_side=max_side)
    assert video.frames.shape == (5, *shown, 3)
    assert (video.height, video.width) == (32, 48)
    np.testing.assert_array_equal(ranks(video.frames), video.index)
    portrait = read_frames(quarter_turned(path, 90), 5, max_side=max_side)
    assert portrait.frames.shape == (5, *shown[::-1], 3)


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


@pytest.mark.parametrize(
    'name', ['clip:1.mp4', 'http:x.mp4', 'a%03d.mp4', '-i.mp4', 'b c\udcff.mp4']
)
def test_any_name_is_a_file_name(tmp_path, monkeypatch, name):
    write_video(tmp_path / 'plain.mp4', grey_ramp()).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert read_frames(name, 4).num_frames == 40


@pytest.mark.parametrize(
    'text',
    [
        '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\nhttp://{0}/x.mp4\n#EXT-X-ENDLIST\n',
        'ffconcat version 1.0\nfile http://{0}/x.mp4\n',
        'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n'
        'a=rtpmap:96 H264/90000\n',
    ],
)
def test_a_file_cannot_send_the_reader_to_an_address(tmp_path, text):
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.settimeout(0.1)
        host, port = server.getsockname()
        for suffix in ('mp4', 'm3u8', 'sdp'):
            path = tmp_path / f'list.{suffix}'
            path.write_text(text.format(f'{host}:{port}'))
            with pytest.raises(UserError, match='list'):
                read_frames(path, 4)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_change_of_size_keeps_the_first_size(tmp_path):
    parts = [
        write_video(tmp_path / 'a.ts', grey_ramp(10)),
        write_video(tmp_path / 'b.ts', grey_ramp(20, size=(48, 64))[10:]),
    ]
    path = tmp_path / 'both.ts'
    path.write_bytes(b''.join(part.read_bytes() for part in parts))
    video = read_frames(path, 20)
    assert video.frames.shape == (20, 32, 48, 3)
    assert ranks(video.frames).tolist() == list(range(20))


def claim_size(path, height, width):
    """Rewrite the size in the header of a PNG picture."""
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack('>II', width, height)
    content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
    path.write_bytes(content)
    return path


def test_a_header_that_claims_a_huge_picture_is_refused_at_once(tmp_path):
    frames = [np.zeros((32, 32, 3), np.uint8)]
    path = write_video(tmp_path / 'dot.apng', frames, codec='apng', pix_fmt='rgb24')
    assert read_frames(path, 1).num_frames == 1
    claim_size(path, 16000, 16000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r'dot\.apng'):
        read_frames(path, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_video_of_more_pixels_than_anybody_films_says_so(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp())
    monkeypatch.setattr('stg_jax.extract.video.container.MAX_PIXELS', 32 * 48 - 1)
    with pytest.raises(UserError, match=r'ramp\.mp4 claims 48 x 32 pixels'):
        read_frames(path, 1)
    monkeypatch.setattr('stg_jax.extract.video.container.MAX_PIXELS', 64 * 48)
    assert read_frames(path, 1).num_frames == 40


CONTAINERS = {
    'mp4': ('libx264', 'yuv420p'),
    'mkv': ('libx264', 'yuv420p10le'),  # the wheel's x265 encoder aborts now and then
    'webm': ('libvpx-vp9', 'yuv420p'),
    'avi': ('mpeg4', 'yuv420p'),
    'mov': ('mjpeg', 'yuvj420p'),
    'ts': ('mpeg2video', 'yuv420p'),
    'flv': ('flv', 'yuv420p'),
    'gif': ('gif', 'rgb8'),
}


@pytest.fixture(scope='module')
def whole_files(tmp_path_factory):
    av.logging.set_level(None)  # damaged files make codecs talk
    folder = tmp_path_factory.mktemp('whole')
    return {
        suffix: write_video(folder / f'whole.{suffix}', grey_ramp(12), codec, pix_fmt).read_bytes()
        for suffix, (codec, pix_fmt) in CONTAINERS.items()
    }


@pytest.mark.parametrize('suffix', CONTAINERS)
def test_every_container_holds_the_same_frames(tmp_path, whole_files, suffix):
    path = tmp_path / f'whole.{suffix}'
    path.write_bytes(whole_files[suffix])
    video = read_frames(path, 12)
    assert video.num_frames == 12
    tolerance = 20 if suffix == 'gif' else 6  # GIF has three bits a colour
    np.testing.assert_allclose(video.frames.mean((1, 2, 3)), np.arange(12) * 6, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(CONTAINERS)),
    st.sampled_from(list(CONTAINERS)),
    st.floats(0, 1),
    # Half of the damage lies in the header, where it hurts most.
    st.lists(st.tuples(st.floats(0, 1) | st.floats(0, 0.05), st.integers(0, 255)), max_size=12),
    st.booleans(),
)
def test_damage_anywhere_gives_frames_or_one_sentence(
    whole_files, suffix, name, length, damage, shuffled
):
    content = bytearray(whole_files[suffix])
    for place, value in damage:
        content[int(place * (len(content) - 1))] = value
    cut = int(length * len(content))
    content = content[cut:] + content[:cut] if shuffled else content[:cut]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f'damaged.{name}'
        path.write_bytes(content)
        try:
            video = read_frames(path, 3, context=2, max_side=32)
        except UserError as error:
            assert 'damaged' in str(error)
            assert '\n' not in str(error)
        else:
            assert video.contexts.shape[:2] == (3, 2)
            assert max(video.contexts.shape[2:4]) <= 32
            assert video.num_frames >= 1
            assert 0 <= video.index[0] <= video.index[-1] < video.num_frames


def test_real_videos_are_read_to_their_end():
    for path in sorted(real_data('videos').iterdir())[:6]:
        video = read_frames(path, 10, size=(90, 120))
        assert video.index[-1] >= 0.9 * video.num_frames - 1
        assert video.num_frames > video.fps
        assert video.frames.std() > 10
