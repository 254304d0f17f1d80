"""Captions of raw videos and of their windows, and the copy with boxes burned in."""

import os
import subprocess

import av
import numpy as np
import pytest

from stg_jax.captioning.burn_in import burn
from stg_jax.captioning.caption_video import caption_video
from stg_jax.decode.candidates import Candidate
from stg_jax.errors import UserError
from stg_jax.extract.toy_pixels.extractor import PixelExtractor
from stg_jax.extract.video.files import list_videos
from stg_jax.files import check_writable
from tests.fakes import fake_run
from tests.fakes.fake_video import write_video

BACKGROUND, SQUARE = (70, 110, 150), (230, 40, 40)


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    """Return a video of 4 s at 10 frames a second in which a square moves right."""
    frames = np.full((40, 96, 130, 3), BACKGROUND, np.uint8)
    for rank, frame in enumerate(frames):
        frame[30:60, 10 + 2 * rank : 40 + 2 * rank] = SQUARE
    path = tmp_path_factory.mktemp('film') / 'film.mp4'
    return write_video(path, frames, options={'crf': '10'})


def choose(clips):
    """Tell the place of the first box instead of asking a model."""
    (clip,) = clips
    return [[Candidate(f'x {clip.box[0, 0, 0]:.1f}', -1.0, np.array([4, 2, 0]))]]


def test_windows_are_captioned_one_by_one_with_times(film):
    extractor = PixelExtractor(4, 3)
    found = list(caption_video(extractor, choose, film, 2.0))
    assert [each.as_json()['start'] for each in found] == [0, 2]
    assert [each.caption for each in found] == ['x 0.1', 'x 0.4']
    for start, each in enumerate(found):
        np.testing.assert_allclose(each.second_T, 2 * start + np.array([0.2, 0.7, 1.2, 1.7]))
    for each in found:
        assert list(each.as_json()['seconds']) == ['decode', 'embed', 'caption']
        assert each.frames[0].shape == (96, 130, 3)  # the extractor's own are square


def test_without_windows_the_features_are_those_of_training(film):
    extractor = PixelExtractor(4, 3)
    extractor.class_names = ('thing',)
    (whole,) = caption_video(extractor, choose, film)
    assert whole.label_names == ('thing',)
    np.testing.assert_array_equal(whole.clip.object, extractor.extract(film).object)
    assert (whole.start, whole.end) == (0, 4)


@pytest.fixture(scope='module')
def burned(film):
    """Return the frames of the burned copy, of which only the first half has a caption."""
    pytest.importorskip('matplotlib')
    found = list(caption_video(PixelExtractor(4, 3), choose, film, 2.0))
    second = found[1].candidates[0]
    found[1].candidates[0] = Candidate('', second.score, second.token_L)
    burn(film, film.with_name('burned.mp4'), found)
    with av.open(str(film.with_name('burned.mp4'))) as container:
        stream = container.streams.video[0]
        frames = [
            (frame.time, frame.to_ndarray(format='rgb24')) for frame in container.decode(stream)
        ]
        assert stream.average_rate == 10
    return frames


def test_a_burned_copy_keeps_every_frame_at_its_time(burned):
    np.testing.assert_allclose([time for time, _ in burned], np.arange(40) / 10, atol=1e-4)
    assert {picture.shape for _, picture in burned} == {(96, 130, 3)}


def box_columns(picture):
    """Return the first and last column of the box's dark edge, at half its height."""
    dark = picture[45].mean(-1) < 55
    return np.flatnonzero(dark)[[0, -1]]


@pytest.mark.parametrize('rank', [2, 17, 32])
def test_boxes_are_where_the_things_are(burned, rank):
    left, right = box_columns(burned[rank][1])
    assert abs(left - (10 + 2 * rank)) <= 4
    assert abs(right - (40 + 2 * rank)) <= 4


def test_captions_stand_at_the_foot_while_their_window_lasts(burned):
    for rank, is_written in ((0, True), (19, True), (20, False), (39, False)):
        foot = burned[rank][1][-14:].astype(int)
        assert (foot.min() < 60) == is_written
        assert (foot.max() > 200) == is_written


def test_a_copy_never_replaces_the_video(film, tmp_path):
    for out, part in ((film, 'the video itself'), (tmp_path / 'x.avi', 'end in .mp4')):
        with pytest.raises(UserError, match=part):
            burn(film, out, [])


def test_folders_stand_for_their_videos(film, tmp_path):
    for name in ('b.mp4', 'a.AVI', 'sub/c.webm', 'notes.txt', '.hidden.mp4'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    found = list_videos([str(film), str(tmp_path), str(tmp_path / 'b.mp4')])
    assert [path.name for path in found] == ['film.mp4', 'a.AVI', 'b.mp4', 'c.webm']
    (tmp_path / 'none').mkdir()
    with pytest.raises(UserError, match='holds no video'):
        list_videos([str(tmp_path / 'none')])


def test_an_output_is_refused_before_the_work_begins(tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'folder.html').mkdir()
    check_writable(tmp_path / 'new' / 'Page.HTML', ('.html', '.htm'))
    assert not (tmp_path / 'new').exists()
    for name, part in (
        ('page.pdf', r'page\.pdf must end in \.html, \.htm'),
        ('folder.html', 'is a folder'),
        ('file/page.html', 'cannot be written .*: name a file elsewhere'),
    ):
        with pytest.raises(UserError, match=part):
            check_writable(tmp_path / name, ('.html', '.htm'))


@pytest.mark.parametrize('flag', ['--figure=out.png', '--burn=out.mp4'])
def test_a_missing_package_is_told_before_the_work_begins(film, tmp_path, flag):
    (tmp_path / 'matplotlib.py').write_text('raise ImportError')
    env = fake_run.environment()
    env['PYTHONPATH'] = f'{tmp_path}{os.pathsep}{env["PYTHONPATH"]}'
    command = fake_run.command('caption', film, f'--workdir={tmp_path}', flag)
    done = subprocess.run(command, cwd=fake_run.ROOT, env=env, capture_output=True, text=True)
    # There is no run, which would be told first if it were looked at first.
    assert done.returncode == 2 and "pip install -e '.[plot]'" in done.stderr
