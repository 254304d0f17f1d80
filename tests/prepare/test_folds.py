"""Folds of a cross-validation: who is held out where, and that clips stay what they are."""

import numpy as np
import pytest

from stg_jax.data.manifest import Manifest
from stg_jax.data.records import read_clips
from stg_jax.errors import UserError
from stg_jax.prepare.folds import write_folds
from tests.fakes import fake_run
from tests.fakes.fake_data import fake_data_folder


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return fake_data_folder(tmp_path_factory.mktemp('data'), train=7)


def test_every_clip_but_those_of_test_is_held_out_once(data, tmp_path):
    originals = {clip.id: clip for split in ('train', 'val') for clip in read_clips(data, split)}
    assert write_folds(data, tmp_path / 'folds', 3) == len(originals) == 10
    held_out = []
    for fold in range(3):
        folder = tmp_path / 'folds' / f'fold-{fold}'
        assert list(Manifest.load(folder).splits) == ['train', 'val']
        trained, validated = ([clip.id for clip in read_clips(folder, s)] for s in ('train', 'val'))
        assert sorted(trained + validated) == sorted(originals)
        held_out += validated
    assert sorted(held_out) == sorted(originals)
    for clip in read_clips(tmp_path / 'folds' / 'fold-1', 'val'):
        assert clip.captions == originals[clip.id].captions
        np.testing.assert_array_equal(clip.object, originals[clip.id].object)


def test_a_fold_has_a_clip_to_validate_on_and_more_to_train_on(data, tmp_path):
    with pytest.raises(UserError, match='10 clips to train and validate on, too few for 6 folds'):
        write_folds(data, tmp_path / 'folds', 6)
    assert not (tmp_path / 'folds').exists()


def test_the_command_names_the_sweep_that_comes_next(data, tmp_path):
    out = tmp_path / 'folds'
    done = fake_run.run('prepare', 'folds', f'--data={data}', '--folds=2', f'--out={out}')
    assert done.returncode == 0, done.stderr
    assert f'--folds {out} --seeds 2' in done.stdout
    refused = fake_run.run(
        'prepare', 'folds', f'--data={data}', '--folds=2', '--seed=1', f'--out={out}x'
    )
    assert refused.returncode == 2
    assert '--seed has no meaning for folds' in refused.stderr
