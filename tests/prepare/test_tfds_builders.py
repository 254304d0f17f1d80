"""The data sets as TFDS builders."""

import numpy as np
import pytest

import stg_jax.prepare.tfds_builders as builders
from configs import toy
from stg_jax.config import parse_config
from stg_jax.data import records
from stg_jax.data.tf import tfds
from stg_jax.prepare.toy import prepare_toy
from tests.fakes import fake_features as fake
from tests.fakes.fake_annotations import write_msvd

IDS = ['a_1_2', 'b_1_2', 'c_1_2', 'd_1_2']


def load(name, folder, config, manual_dir=None):
    """Build a data set as a user does; return {split: {id: example}}."""
    splits = tfds.load(
        name,
        data_dir=folder,
        builder_kwargs={'config': config},
        download_and_prepare_kwargs={
            'download_config': tfds.download.DownloadConfig(manual_dir=manual_dir)
        },
    )
    return {
        split: {example['id'].decode(): example for example in examples.as_numpy_iterator()}
        for split, examples in splits.items()
    }


def test_toy_is_the_toy_world_of_prepare(tmp_path):
    counts = {'train': 3, 'val': 1, 'test': 1}
    config = builders.ToyConfig(name='tiny', frames=4, objects=3, **counts)
    splits = load('stg_toy', tmp_path / 'tfds', config)
    prepare_toy(
        tmp_path / 'toy',
        num_clips=counts,
        world=parse_config(toy.get_config()).toy,
        num_frames=4,
        num_objects=3,
        workers=1,
    )
    for split in counts:
        clips = {clip.id: clip for clip in records.read_clips(tmp_path / 'toy', split)}
        assert set(splits[split]) == set(clips)
        for clip_id, example in splits[split].items():
            for kind in ('appearance', 'motion', 'object', 'box', 'true_box'):
                np.testing.assert_array_equal(example[kind], getattr(clips[clip_id], kind))
            assert [text.decode() for text in example['captions']] == list(clips[clip_id].captions)


def write_manual_dir(folder):
    """Write annotations and features of four clips, as the builder wants them."""
    (folder / 'annotations').mkdir(parents=True)
    write_msvd(folder / 'annotations')
    frames = fake.fake_frames(IDS, width=6)
    fake.write_hdf5(folder / 'appearance.hdf5', frames)
    fake.write_hdf5(folder / 'objects.h5', fake.fake_objects(IDS))
    return frames


def test_msvd_joins_the_files_of_the_manual_folder(tmp_path):
    frames = write_manual_dir(tmp_path / 'manual')
    config = builders.ClipsConfig(
        name='small', frames=3, objects=2, appearance_dim=6, motion_dim=1, object_dim=fake.WIDTH
    )
    splits = load('stg_msvd', tmp_path / 'tfds', config, tmp_path / 'manual')
    assert {split: set(examples) for split, examples in splits.items()} == {
        'train': {'a_1_2', 'b_1_2'}, 'val': {'c_1_2'}, 'test': {'d_1_2'},
    }  # fmt: skip
    found = splits['val']['c_1_2']
    np.testing.assert_array_equal(found['appearance'], frames['c_1_2'].astype(np.float16))
    assert found['object_mask'].all() and not found['motion'].any()


def test_other_widths_than_the_config_says_are_refused(tmp_path):
    write_manual_dir(tmp_path / 'manual')
    with pytest.raises(Exception, match='appearance'):
        load('stg_msvd', tmp_path / 'tfds', builders.ClipsConfig(), tmp_path / 'manual')
