"""Which stream of a file is shown, which way up, and what no file can make the reader do."""

import socket
from fractions import Fraction

import av
import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.extract.video.frames import read_frames
from tests.fakes.fake_video import grey_ramp, ranks, set_matrix, write_timed, write_video

QUADRANTS = np.array([[0, 80], [160, 240]], np.uint8)


def quadrants(height=32, width=64):
    """Return a frame whose quarters differ, so that no turn is like another."""
    grey = QUADRANTS.repeat(height // 2, 0).repeat(width // 2, 1)
    return np.repeat(grey[..., None], 3, 2)


def shown(a, b, c, d):
    """Move the stored quadrants as the definition of the matrix says."""
    found = np.zeros_like(QUADRANTS)
    for y, x in np.ndindex(2, 2):
        u, v = 2 * x - 1, 2 * y - 1  # around the centre
        found[(b * u + d * v + 1) // 2, (a * u + c * v + 1) // 2] = QUADRANTS[y, x]
    return found


MATRICES = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)]
MATRICES += [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize('matrix', MATRICES)
def test_all_turns_and_mirror_images_are_shown(tmp_path, matrix):
    path = set_matrix(write_video(tmp_path / 'x.mp4', [quadrants()] * 3), *matrix)
    video = read_frames(path, 1)
    size = (64, 32) if matrix[1] else (32, 64)
    assert (video.height, video.width) == video.frames.shape[1:3] == size
    found = video.frames[0, ..., 0].reshape(2, size[0] // 2, 2, size[1] // 2).mean((1, 3))
    np.testing.assert_allclose(found, shown(*matrix), atol=8)


@pytest.mark.parametrize('matrix', [(0.6, 0.8, -0.8, 0.6), (1, 0.1, -0.1, 1), (0, 0, 0, 0)])
def test_other_matrices_are_rounded_or_ignored(tmp_path, matrix):
    path = set_matrix(write_video(tmp_path / 'x.mp4', [quadrants()] * 3), *matrix)
    turned = matrix[1] > 0.5
    assert read_frames(path, 1).frames.shape[1:3] == ((64, 32) if turned else (32, 64))


@pytest.mark.parametrize(
    ('aspect', 'size'),
    [
        (Fraction(2), (32, 128)),
        (Fraction(1, 2), (64, 64)),
        (Fraction(16, 11), (32, 93)),
        (Fraction(1, 100), (32, 64)),
    ],
)
@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'ts'])
def test_pixels_that_are_not_square_are_stretched_and_never_shrunk(tmp_path, aspect, size, suffix):
    frames = [quadrants()] * 3
    path = write_timed(tmp_path / f'x.{suffix}', frames, [0, 0.1, 0.2], aspect=aspect)
    video = read_frames(path, 1)
    assert (video.height, video.width) == video.frames.shape[1:3] == size


def test_stretching_happens_before_turning(tmp_path):
    path = write_timed(tmp_path / 'x.mp4', [quadrants()] * 3, [0, 0.1, 0.2], aspect=Fraction(2))
    assert read_frames(set_matrix(path, 0, 1, -1, 0), 1).frames.shape[1:3] == (128, 32)


def write_streams(path, streams):
    """Write several video streams of (frames, codec, pixel format, default?)."""
    with av.open(str(path), 'w') as container:
        opened = []
        for frames, codec, pix_fmt, is_default in streams:
            stream = container.add_stream(codec, rate=10)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pix_fmt
            stream.disposition = av.stream.Disposition.default if is_default else 0
            opened.append(stream)
        for stream, (frames, *_) in zip(opened, streams, strict=True):
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
            container.mux(stream.encode())
    return path


FILM = (grey_ramp(40), 'libx264', 'yuv420p', True)
COVER = ([np.full((240, 320, 3), 200, np.uint8)], 'mjpeg', 'yuvj420p', True)
SMALL = (grey_ramp(40, size=(16, 16)), 'libx264', 'yuv420p', True)
SLIDES = ([np.full((240, 320, 3), 200, np.uint8)] * 3, 'mjpeg', 'yuvj420p', True)


@pytest.mark.parametrize(
    'streams',
    [
        (COVER, FILM),
        (SLIDES, FILM),
        (SMALL, FILM),
        (FILM, SMALL),
        (FILM, COVER),
        ((*COVER[:3], False), (*SMALL[:3], False), FILM),
        ((grey_ramp(40, size=(64, 64)), 'libx264', 'yuv420p', False), FILM),
    ],
)
def test_the_film_is_read_whatever_stands_before_it(tmp_path, streams):
    video = read_frames(write_streams(tmp_path / 'x.mkv', streams), 8)
    assert (video.num_frames, video.height, video.width) == (40, 32, 48)
    assert ranks(video.frames).tolist() == [2, 7, 12, 17, 22, 27, 32, 37]


@pytest.mark.parametrize('suffix', ['mkv', 'mp4', 'ts', 'avi'])
def test_a_stream_without_packets_is_passed_over(tmp_path, suffix):
    path = tmp_path / f'x.{suffix}'
    with av.open(str(path), 'w') as container:
        for height, width in ((240, 320), (32, 48)):
            stream = container.add_stream('mpeg4', rate=10)
            stream.height, stream.width, stream.pix_fmt = height, width, 'yuv420p'
        for frame in grey_ramp(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode())
    assert ranks(read_frames(path, 4).frames).tolist() == [5, 15, 25, 35]


def test_a_stream_that_does_not_decode_is_passed_over(tmp_path):
    path = write_streams(tmp_path / 'x.mkv', [(*SMALL[:3], True), (*FILM[:3], True)])
    content = bytearray(path.read_bytes())
    plain = write_video(tmp_path / 'small.mkv', SMALL[0])
    with av.open(str(plain)) as container:
        dead = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for packet in dead:
        place = content.find(packet)
        if place >= 0:
            content[place : place + len(packet)] = bytes(len(packet))
    path.write_bytes(content)
    assert read_frames(path, 4).frames.shape[1:3] == (32, 48)


def test_a_single_picture_is_a_video_of_one_frame(tmp_path):
    path = write_video(tmp_path / 'x.mkv', [quadrants()])
    assert read_frames(path, 3).num_frames == 1


SECRET = 'film.mp4'
PLAY_LISTS = {
    'hls': '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\n{0}\n#EXT-X-ENDLIST\n',
    'concat': "ffconcat version 1.0\nfile '{0}'\n",
    'dash': (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT4S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        '<BaseURL>{0}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    ),
    'sdp': 'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n',
    'svg': '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="{0}"/></svg>',
    'text': 'the lines of a text are frames to FFmpeg\n' * 20,
}


@pytest.mark.parametrize('kind', PLAY_LISTS)
@pytest.mark.parametrize('suffix', ['mp4', 'm3u8', 'mpd', 'ffconcat', 'sdp', 'svg', 'txt'])
def test_a_file_cannot_have_another_file_read(tmp_path, monkeypatch, kind, suffix):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / SECRET, grey_ramp())
    for name in (SECRET, tmp_path / SECRET, f'file:{tmp_path / SECRET}'):
        path = tmp_path / f'list.{suffix}'
        path.write_text(PLAY_LISTS[kind].format(name))
        with pytest.raises(UserError, match=r'list\.\w+ is (a play list|no readable)') as error:
            read_frames(path, 4)
        assert '\n' not in str(error.value)


def test_a_pattern_of_names_is_a_plain_name(tmp_path):
    write_video(tmp_path / 'a%03d.mp4', grey_ramp(4))
    write_video(tmp_path / 'a001.mp4', grey_ramp(9))
    assert read_frames(tmp_path / 'a%03d.mp4', 2).num_frames == 4


def test_an_address_in_a_play_list_is_never_opened(tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.settimeout(0.1)
        host, port = server.getsockname()
        for kind in PLAY_LISTS:
            path = tmp_path / f'{kind}.mp4'
            path.write_text(PLAY_LISTS[kind].format(f'http://{host}:{port}/x.mp4'))
            with pytest.raises(UserError):
                read_frames(path, 4)
        with pytest.raises(TimeoutError):
            server.accept()
