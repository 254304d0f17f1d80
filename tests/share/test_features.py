import dataclasses
import json

import numpy as np
import pytest

from stg_jax.data.records import read_clips, write_data_folder
from stg_jax.errors import UserError
from stg_jax.extract.toy_pixels.extractor import PixelExtractor
from stg_jax.feature_files.open import open_frames, open_grid, open_objects
from stg_jax.prepare.write import Runner
from stg_jax.share.features import FORMS, features_of_data, features_of_videos
from tests.fakes.fake_data import fake_clips, with_grid
from tests.fakes.fake_video import grey_ramp, write_video


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Return a data folder whose second clip lacks motion features."""
    folder = tmp_path_factory.mktemp('features') / 'data'
    clips = list(map(with_grid, fake_clips(4)))
    clips[1] = dataclasses.replace(clips[1], motion=np.zeros_like(clips[1].motion))
    write_data_folder(
        folder,
        {'train': clips[:3], 'test': clips[3:]},
        data_set='fake',
        extractor={'name': 'random'},
        missing={'motion': ['clip1']},
    )
    return folder


def path_of(out, kind, form):
    return str(out / (f'{kind}.hdf5' if form == 'hdf5' else kind))


@pytest.mark.parametrize('form', FORMS)
def test_features_are_read_back_as_they_were(tmp_path, data, form):
    out = tmp_path / 'out'
    assert features_of_data(data, out, form) == 4
    clips = [*read_clips(data, 'train'), *read_clips(data, 'test')]
    appearance = open_frames(path_of(out, 'appearance', form))
    grid = open_grid(path_of(out, 'grid', form))
    objects = open_objects(path_of(out, 'objects', form))
    assert sorted(appearance.keys) == sorted(grid.keys) == sorted(objects.keys)
    for clip in clips:
        np.testing.assert_array_equal(appearance.read(clip.id), clip.appearance)
        np.testing.assert_array_equal(grid.read(clip.id), clip.grid)
        found, num = objects.read(clip.id), int(clip.object_mask.sum(-1).max())
        np.testing.assert_array_equal(found.mask[:, :num], clip.object_mask[:, :num])
        np.testing.assert_array_equal(found.feature[:, :num], clip.object[:, :num])
        np.testing.assert_allclose(found.box[:, :num], clip.box[:, :num], atol=1e-6)


@pytest.mark.parametrize('form', FORMS)
def test_what_a_clip_lacks_is_not_written_as_zeros(tmp_path, data, form):
    features_of_data(data, tmp_path / 'out', form)
    motion = open_frames(path_of(tmp_path / 'out', 'motion', form))
    assert sorted(motion.keys) == ['clip0', 'clip2', 'clip3']


def test_the_splits_and_the_extractor_are_named(tmp_path, data):
    features_of_data(data, tmp_path / 'out', 'hdf5')
    about = json.loads((tmp_path / 'out' / 'about.json').read_text())
    assert about['extractor'] == {'name': 'random'}
    assert about['clips'] == {'train': ['clip0', 'clip1', 'clip2'], 'test': ['clip3']}


@pytest.mark.parametrize('name', ['../evil', 'a/b', '.hidden', 'x' * 300, 'a\\b'])
def test_an_id_that_would_write_elsewhere_is_refused(tmp_path, name):
    clips = [dataclasses.replace(fake_clips(1)[0], id=name)]
    write_data_folder(tmp_path / 'data', {'train': clips}, data_set='x', extractor={})
    with pytest.raises(UserError, match='name'):
        features_of_data(tmp_path / 'data', tmp_path / 'out', 'npy')
    assert {path.name for path in tmp_path.iterdir()} == {'data'}


def test_videos_give_features_without_captions(tmp_path):
    settings = pixel_settings()
    videos = tmp_path / 'videos'
    videos.mkdir()
    write_video(videos / 'one.mp4', grey_ramp())
    (videos / 'two.mp4').write_bytes(b'no video')
    out = tmp_path / 'out'
    assert features_of_videos(videos, out, 'npy', settings, Runner()) == 1
    assert np.load(out / 'appearance' / 'one.npy').shape[0] == settings['frames']
    (failure,) = json.loads((out / 'failures.json').read_text())
    assert failure['clip'] == 'two'
    assert json.loads((out / 'about.json').read_text())['extractor'] == settings
    assert {path.name for path in tmp_path.iterdir()} == {'videos', 'out'}


def test_a_folder_of_unreadable_videos_gives_no_folder(tmp_path):
    (tmp_path / 'videos').mkdir()
    (tmp_path / 'videos' / 'two.mp4').write_bytes(b'no video')
    with pytest.raises(UserError, match=r'no video of .* can be read'):
        features_of_videos(tmp_path / 'videos', tmp_path / 'out', 'npy', pixel_settings(), Runner())
    assert not (tmp_path / 'out').exists()


def pixel_settings():
    return PixelExtractor.choose(4, 3)
