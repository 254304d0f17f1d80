"""Clocks of real files: they restart, leap, start late, pause for hours, or are missing."""

import types
from fractions import Fraction

import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.extract.video.container import repair_timestamps
from stg_jax.extract.video.frames import read_frames, read_segments
from stg_jax.extract.video.timeline import read_timeline
from tests.fakes.fake_video import grey_ramp, ranks, write_timed, write_video

EVEN = np.arange(40) / 10


def packets(dts, pts=None):
    """Return packets with decoding times in seconds, None for one that has no time."""
    tick = Fraction(1, 1000)
    whole = lambda times: [None if x is None else round(x / tick) for x in times]  # noqa: E731
    columns = zip(whole(dts), whole(dts if pts is None else pts), strict=True)
    return [
        types.SimpleNamespace(dts=one, pts=other, time_base=tick, duration=0, size=1)
        for one, other in columns
    ]


def repaired(dts, pts=None, *, may_jump=False):
    """Return the presentation times after repair, in seconds."""
    found = repair_timestamps(packets(dts, pts), may_jump=may_jump)
    return [packet.pts / 1000 for packet in found]


@pytest.mark.parametrize('may_jump', [False, True])
def test_a_clock_that_restarts_goes_on(may_jump):
    times = [5.0, 5.1, 5.2, 0.0, 0.1, 0.2, 9.0]
    expected = [5.0, 5.1, 5.2, 5.3, 5.4, 5.5, 14.3]
    assert repaired(times, may_jump=may_jump) == pytest.approx(expected)


@pytest.mark.parametrize('start', [0.25, 0.0, -3600.0])
def test_parts_that_overlap_follow_each_other(start):
    times = [0.0, 0.1, 0.2, 0.3, 0.4, start, start + 0.1]
    expected = [0, 0.1, 0.2, 0.3, 0.4, *([0.5, 0.6] if start < 0.3 else [start, start + 0.1])]
    assert repaired(times) == pytest.approx(expected)


def test_hours_are_a_pause_unless_the_format_lets_clocks_leap():
    times = [0.0, 0.1, 25_200.0, 25_200.1]
    assert repaired(times) == pytest.approx(times)
    assert repaired(times, may_jump=True) == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize('absurd', [1e9, -1e9, 2e5])
def test_one_absurd_time_stamp_moves_nothing_else(absurd):
    times = [0.0, 0.1, absurd, 0.3, 0.4]
    assert repaired(times) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_an_absurd_presentation_time_becomes_the_decoding_time():
    times = [0.0, 0.1, 0.2, 0.3]
    assert repaired(times, [0.0, 1e6, 0.2, 0.3]) == pytest.approx(times)


def test_the_order_of_b_frames_is_no_restart():
    dts, pts = [-0.2, -0.1, 0.0, 0.1, 0.2], [0.0, 0.3, 0.1, 0.2, 0.4]
    assert repaired(dts, pts) == pytest.approx(pts)
    assert repaired([None] * 5, pts) == pytest.approx(pts)
    assert repaired([None, None, 0.0, 0.1, 0.2], pts) == pytest.approx(pts)


def joined(folder, *parts, options=None):
    paths = [
        write_video(folder / f'{k}.ts', frames, options=options) for k, frames in enumerate(parts)
    ]
    path = folder / 'joined.ts'
    path.write_bytes(b''.join(part.read_bytes() for part in paths))
    return path


@pytest.mark.parametrize('options', [{'bf': '0'}, {'bf': '3', 'b-adapt': '0', 'g': '12'}])
def test_joined_transport_streams_play_one_after_the_other(tmp_path, options):
    path = joined(tmp_path, grey_ramp(20), grey_ramp(40)[20:], options=options)
    timeline = read_timeline(path)
    np.testing.assert_allclose(timeline.second, EVEN, atol=0.02)
    assert timeline.end == pytest.approx(4, abs=0.02)
    segments = list(read_segments(path, 1.0, 2))
    assert [(round(x.start), round(x.end)) for x in segments] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    for number, segment in enumerate(segments):
        assert (ranks(segment.frames) // 10 == number).all()


def test_a_leap_of_hours_in_a_transport_stream_is_one_of_its_clock(tmp_path):
    times = np.where(EVEN < 2, EVEN, EVEN + 7 * 3600)
    path = write_timed(tmp_path / 'x.ts', grey_ramp(), times)
    np.testing.assert_allclose(read_timeline(path).second, EVEN, atol=1e-3)


def test_a_pause_of_hours_is_a_pause_elsewhere(tmp_path):
    times = np.where(EVEN < 2, EVEN, EVEN + 7 * 3600)
    path = write_timed(tmp_path / 'x.mkv', grey_ramp(), times)
    np.testing.assert_allclose(read_timeline(path).second, times, atol=1e-3)
    assert [segment.num_frames for segment in read_segments(path, 3600, 2)] == [20, 20]


def test_days_are_no_pause(tmp_path):
    times = np.where(EVEN < 2, EVEN, EVEN + 40 * 3600)
    path = write_timed(tmp_path / 'x.mkv', grey_ramp(), times)
    np.testing.assert_allclose(read_timeline(path).second, EVEN, atol=1e-3)


@pytest.mark.parametrize('suffix', ['mp4', 'mkv'])
def test_pictures_that_begin_after_the_sound_keep_the_times_of_players(tmp_path, suffix):
    path = write_timed(tmp_path / f'x.{suffix}', grey_ramp(), EVEN + 2, sound=(0, 6))
    video = read_frames(path, 4)
    np.testing.assert_allclose(video.second_T, [2.5, 3.5, 4.5, 5.5], atol=0.05)
    assert video.end == pytest.approx(6, abs=0.05)
    segments = list(read_segments(path, 2.0, 1))
    assert [round(segment.start) for segment in segments] == [2, 4]


def test_sound_that_begins_after_the_pictures_changes_nothing(tmp_path):
    path = write_timed(tmp_path / 'x.mkv', grey_ramp(), EVEN, sound=(1, 4))
    np.testing.assert_allclose(read_timeline(path).second, EVEN, atol=2e-3)


VARIABLE = np.concatenate([np.arange(10.0), 10 + np.arange(30) / 10])


@pytest.mark.parametrize('suffix', ['mp4', 'mkv'])
def test_a_variable_frame_rate_is_read_from_the_time_stamps(tmp_path, suffix):
    path = write_timed(tmp_path / f'x.{suffix}', grey_ramp(), VARIABLE)
    video = read_frames(path, 8)
    np.testing.assert_allclose(video.second_T, VARIABLE[video.index], atol=2e-3)
    assert video.end == pytest.approx(13, abs=0.02)
    assert video.fps == pytest.approx(39 / 12.9, rel=0.02)


def test_a_file_without_time_stamps_uses_its_frame_rate(tmp_path):
    write_video(tmp_path / 'x.h264', grey_ramp())
    video = read_frames(tmp_path / 'x.h264', 4)
    np.testing.assert_allclose(video.second_T, video.index / video.fps)
    assert video.end == pytest.approx(40 / video.fps)


def cut(path, share):
    """Drop the first packets of a transport stream; its tables are repeated further on."""
    content = path.read_bytes()
    start = int(len(content) // 188 * share) * 188
    path.write_bytes(content[start:])
    return path


@pytest.mark.parametrize('codec', ['libx264', 'mpeg2video'])
def test_a_cut_that_starts_between_key_frames_counts_what_decodes(tmp_path, codec):
    noise = np.random.default_rng(0).integers(0, 9, (60, 64, 96, 3), dtype=np.uint8)
    frames = [ramp + grain for ramp, grain in zip(grey_ramp(60, 4, (64, 96)), noise, strict=True)]
    path = write_video(tmp_path / 'x.ts', frames, codec, options={'g': '20', 'bf': '0'})
    cut(path, 0.25)
    whole = read_frames(path, 60)
    assert 20 <= whole.num_frames < 50
    brightness = np.round(whole.frames.mean((1, 2, 3)) / 4 - 1)
    # The frames are the last ones of the film, and each has its own time.
    assert brightness[-1] == 59
    np.testing.assert_allclose(np.diff(brightness) / 10, np.diff(whole.second_T), atol=0.02)
    segments = list(read_segments(path, 1.0, 3))
    assert sum(segment.num_frames for segment in segments) == whole.num_frames
    offset = brightness[0] / 10 - whole.second_T[0]
    for segment in segments:
        rank = np.round(segment.frames.mean((1, 2, 3)) / 4 - 1)
        np.testing.assert_allclose(rank / 10 - segment.second_T, offset, atol=0.02)


def test_frames_that_are_all_at_one_time_use_the_frame_rate(monkeypatch, tmp_path):
    path = write_video(tmp_path / 'x.mkv', grey_ramp(20))

    def frozen(packets, may_jump):
        for packet in packets:
            if packet.size:
                packet.pts = packet.dts = 7
            yield packet

    monkeypatch.setattr('stg_jax.extract.video.container.repair_timestamps', frozen)
    video = read_frames(path, 4)
    np.testing.assert_allclose(video.second_T, video.index / 10, atol=1e-3)


def test_neither_times_nor_a_rate_is_one_sentence(monkeypatch, tmp_path):
    path = write_video(tmp_path / 'x.mkv', grey_ramp(4))

    def timeless(packets, may_jump):
        for packet in packets:
            packet.pts = packet.dts = None
            yield packet

    monkeypatch.setattr('stg_jax.extract.video.container.repair_timestamps', timeless)
    video = read_frames(path, 2)
    assert video.num_frames == 4
    monkeypatch.setattr('stg_jax.extract.video.timeline.stated_rate', lambda stream: 0.0)
    with pytest.raises(UserError, match=r'x\.mkv has neither time stamps nor a frame rate'):
        read_frames(path, 2)
