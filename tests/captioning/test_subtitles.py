"""Subtitles, read back by FFmpeg's own parsers."""

import types

import av
import pytest

from stg_jax.captioning.subtitles import (
    name_subtitles,
    parse_seconds,
    timestamp,
    to_srt,
    to_vtt,
    without_text,
    write_subtitles,
)
from stg_jax.errors import UserError

TEXTS = ['a man runs', 'ein Mädchen & <b>ein</b> --> Hund {\\an8}', '犬が\n\n走る']


def cue(start, end, caption):
    return types.SimpleNamespace(start=start, end=end, caption=caption)


CUES = [cue(0, 9.9996, TEXTS[0]), cue(10, 20, TEXTS[1]), cue(3599.5, 3725.0625, TEXTS[2])]


def parsed(path):
    """Return (start, end, text) of each cue, in milliseconds."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        for packet in container.demux(stream):
            for subtitle in packet.decode() if packet.size else ():
                text = subtitle.ass.decode().split(',', 8)[-1]
                times = [float(x * stream.time_base) for x in (packet.pts, packet.duration)]
                found.append((round(times[0] * 1000), round(sum(times) * 1000), text))
    return found


@pytest.mark.parametrize('suffix', ['srt', 'vtt'])
def test_players_read_the_times_and_the_very_text(tmp_path, suffix):
    write_subtitles(tmp_path / 'a.captions', [*CUES, cue(4000, 4001, '')])
    found = parsed(tmp_path / f'a.captions.{suffix}')
    assert [each[:2] for each in found] == [(0, 10000), (10000, 20000), (3599500, 3725062)]
    shown = [
        each[2].replace('\u2060', '').replace('{{}', '{').replace('\\{', '{') for each in found
    ]
    assert shown == [' '.join(text.split()) for text in TEXTS]


def test_formats_are_those_of_the_standards():
    assert to_srt(CUES[:1]) == '1\n00:00:00,000 --> 00:00:10,000\na man runs\n'
    assert to_vtt(CUES[:1]) == 'WEBVTT\n\n00:00:00.000 --> 00:00:10.000\na man runs\n'
    assert '&amp; &lt;b&gt;ein&lt;/b&gt; --&gt; Hund' in to_vtt(CUES)


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(0, '00:00:00,000'), (3661.0015, '01:01:01,002'), (359999.9999, '100:00:00,000')],
)
def test_timestamps(seconds, text):
    assert timestamp(seconds, ',') == text


@pytest.mark.parametrize(
    ('text', 'seconds'), [('10s', 10), ('10', 10), (' 1.5m', 90), ('500ms', 0.5), ('.5 h', 1800)]
)
def test_durations(text, seconds):
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize('text', ['', 'ten', '-3s', '0s', '1:30', 'inf', 'nan', '1e3'])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UserError, match='not a duration'):
        parse_seconds(text)


def test_videos_that_would_share_a_file_are_refused(tmp_path):
    one, other = tmp_path / 'a' / 'film.mp4', tmp_path / 'b' / 'film.mp4'
    beside = name_subtitles([one, other], None)
    assert beside == {one: one.parent / 'film.captions', other: other.parent / 'film.captions'}
    with pytest.raises(UserError, match='share the subtitles'):
        name_subtitles([one, other], tmp_path)


def test_a_place_that_takes_no_file_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='--subtitles'):
        write_subtitles(tmp_path / 'file' / 'a.captions', CUES)


def test_only_videos_without_a_text_beside_them_are_left(tmp_path):
    one, two = (tmp_path / name for name in ('one.mp4', 'two.mp4'))
    one.with_suffix('.txt').write_text('written by a person')
    assert without_text([one, two]) == [two]
    with pytest.raises(UserError, match=r'two\.avi and .*two\.mp4 would share .*two\.txt'):
        without_text([two, two.with_suffix('.avi')])
