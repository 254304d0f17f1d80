"""Feature files joined with captions, as far as the other tests of feature files do not go."""

import numpy as np

from stg_jax.data import records
from stg_jax.datasets.base import Annotations
from stg_jax.prepare.from_features import FeatureFiles, plan_features
from stg_jax.prepare.verify.verify import verify
from stg_jax.prepare.write import Runner, write_data
from tests.fakes import fake_features as fake

CLIPS = ['a', 'b', 'c']
ANNOTATIONS = Annotations(
    data_set='own',
    splits={'train': {'a': ('a dog runs',), 'b': ('a cat sits',)}, 'test': {'c': ('x',)}},
    number={},
    source={},
    notes=(),
)


def write(folder, **paths):
    """Write a data folder of clips with two frames from appearance features of all clips."""
    files = FeatureFiles(
        appearance=fake.write_hdf5(folder / 'appearance.hdf5', fake.fake_frames(CLIPS)),
        **dict.fromkeys(('motion', 'objects', 'boxes', 'frame_sizes', 'grid')) | paths,
        num_frames=2,
        num_objects=1,
        motion_steps='index',
    )
    return write_data(folder / 'data', plan_features(ANNOTATIONS, files, None), Runner())


def test_a_grid_of_cells_is_sampled_like_the_frames(tmp_path):
    grids = {clip: np.random.default_rng(0).normal(size=(5, 4, 3)) for clip in 'ac'}
    manifest = write(tmp_path, grid=fake.write_npy(tmp_path / 'grid', grids))
    assert (manifest.cells, manifest.widths['grid']) == (4, 3)
    assert manifest.missing['grid'] == ['b'] and manifest.extractor['grid']
    (clip,) = records.read_clips(tmp_path / 'data', 'test')
    np.testing.assert_array_equal(clip.grid, grids['c'][[1, 3]].astype(np.float16))
    of_clip = {clip.id: clip.grid for clip in records.read_clips(tmp_path / 'data', 'train')}
    assert of_clip['a'].any() and not of_clip['b'].any()
    assert not verify(tmp_path / 'data', None, min_count=1, max_words=20).problems


def test_without_a_file_there_is_no_grid_and_none_is_missing(tmp_path):
    manifest = write(tmp_path)
    assert manifest.cells == 0 and 'grid' not in manifest.widths
    assert 'grid' not in manifest.missing
