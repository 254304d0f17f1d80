"""Copies with captions and boxes of videos as people have them."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

pytest.importorskip('matplotlib')

from stg_jax.captioning.burn_in import burn
from stg_jax.captioning.caption_video import caption_video
from stg_jax.captioning.explained import explain_captioned
from stg_jax.captioning.subtitles import name_subtitles, write_subtitles
from stg_jax.decode.candidates import Candidate
from stg_jax.errors import UserError
from stg_jax.extract.toy_pixels.extractor import PixelExtractor
from tests.fakes.fake_video import grey_ramp, write_timed, write_video

BACKGROUND, SQUARE = (70, 110, 150), (230, 40, 40)


def ball(count=40, step=2):
    """Return frames in which a square moves right by `step` columns a frame."""
    frames = np.full((count, 96, 130, 3), BACKGROUND, np.uint8)
    for rank, frame in enumerate(frames):
        frame[30:60, 10 + step * rank : 40 + step * rank] = SQUARE
    return frames


def choose(clips):
    return [[Candidate('', -1.0, np.array([2, 0]))] for _ in clips]


def burned(path, num_frames=8, seconds=None):
    """Return time and picture of each frame of the copy."""
    captioned = list(caption_video(PixelExtractor(num_frames, 3), choose, path, seconds))
    out = path.with_name('copy.mp4')
    burn(path, out, captioned)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio in (None, 1)
        return [(x.time, x.to_ndarray(format='rgb24')) for x in container.decode(stream)]


def box_and_ball(picture):
    """Return the left columns of the drawn box and of the square."""
    row = picture[45].astype(int)
    red = np.flatnonzero((row[:, 0] > 180) & (row[:, 1] < 90))
    dark = np.flatnonzero(row.mean(-1) < 55)
    return dark.min(), red.min()


def test_boxes_of_a_variable_frame_rate_are_those_nearest_in_time(tmp_path):
    times = np.concatenate([np.arange(10.0), 10 + np.arange(30) / 10])
    path = write_timed(tmp_path / 'x.mp4', ball(), times, options={'crf': '10'})
    frames = burned(path, num_frames=40)
    np.testing.assert_allclose([time for time, _ in frames], times, atol=1e-3)
    for rank in (2, 6, 12, 30):
        box, square = box_and_ball(frames[rank][1])
        assert abs(box - square) <= 6, rank


def test_pixels_that_are_not_square_become_square(tmp_path):
    path = write_timed(tmp_path / 'x.mp4', ball(10), np.arange(10) / 10, aspect=Fraction(16, 11))
    assert {picture.shape for _, picture in burned(path)} == {(96, 188, 3)}


def test_a_pause_of_hours_is_copied(tmp_path):
    times = np.concatenate([np.arange(10) / 10, 7 * 3600 + np.arange(10) / 10])
    path = write_timed(tmp_path / 'x.mkv', ball(20), times)
    np.testing.assert_allclose([time for time, _ in burned(path)], times, atol=2e-3)


def test_a_joined_stream_is_as_long_as_its_parts(tmp_path):
    parts = [write_video(tmp_path / f'{k}.ts', ball(20)) for k in range(2)]
    path = tmp_path / 'joined.ts'
    path.write_bytes(b''.join(part.read_bytes() for part in parts))
    times = [time for time, _ in burned(path)]
    np.testing.assert_allclose(times, np.arange(40) / 10, atol=0.02)


def test_pictures_after_the_sound_keep_their_times(tmp_path):
    path = write_timed(tmp_path / 'x.mkv', ball(), 2 + np.arange(40) / 10, sound=(0, 6))
    times = [time for time, _ in burned(path)]
    assert times[0] == pytest.approx(2, abs=0.05) and times[-1] == pytest.approx(5.9, abs=0.05)


def test_an_encoder_that_fails_leaves_one_sentence_and_no_file(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'x.mp4', ball(5))
    captioned = list(caption_video(PixelExtractor(4, 3), choose, path))

    real_open = av.open

    def refuse(path, *args, **kwargs):
        if 'w' in args:
            raise av.error.PatchWelcomeError(0, 'not implemented')
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(av, 'open', refuse)
    with pytest.raises(UserError, match=r'copy\.mp4 cannot be encoded .*: convert'):
        burn(path, tmp_path / 'copy.mp4', captioned)
    assert [each.name for each in tmp_path.iterdir()] == ['x.mp4']


def test_a_name_that_is_not_utf8_is_captioned(tmp_path, monkeypatch):
    path = tmp_path / os.fsdecode(b'caf\xe9.mp4')
    write_video(tmp_path / 'plain.mp4', grey_ramp(8)).rename(path)
    (captioned,) = caption_video(PixelExtractor(4, 3), choose, path)
    # JSON escapes the byte, and a program that reads it gets the name of the file back.
    assert Path(captioned.as_json()['video']) == path
    write_subtitles(name_subtitles([path], None)[path], [captioned])
    explanation = type('Explanation', (), {'box_TN4': np.zeros((4, 3, 4))})()
    monkeypatch.setattr('stg_jax.captioning.explained.explain_caption', lambda *args: explanation)
    entry = explain_captioned(None, captioned, is_segment=False)
    assert entry.name == 'caf\\xe9.mp4'
