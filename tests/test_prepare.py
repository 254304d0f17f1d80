import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stg_jax.data import records
from stg_jax.data.manifest import Manifest
from tests.test_hdf5 import write_features

REPOSITORY = Path(__file__).parents[1]
REAL = REPOSITORY.parent / 'shared' / 'real' / 'msvd'


def prepare(*arguments):
    command = [sys.executable, 'launch/prepare.py', *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def write_msvd(folder, clip_ids=('a_1_2', 'b_1_2', 'c_1_2', 'd_1_2'), **options):
    """Write annotations of clips a to d and features of `clip_ids`; return the flags."""
    numbers = {'a_1_2': 1, 'b_1_2': 2, 'c_1_2': 1201, 'd_1_2': 1301}
    mapping = ''.join(f'{clip_id} vid{number}\n' for clip_id, number in numbers.items())
    (folder / 'youtube_mapping.txt').write_text(mapping)
    captions = ''.join(f'vid{number}\ta man runs\n' for number in numbers.values())
    (folder / 'sents_train_lc_nopunc.txt').write_text(captions)
    paths = write_features(folder, clip_ids, **options)
    return [f'--annotations={folder}', *(f'--{kind}={path}' for kind, path in paths.items())]


def test_msvd_joins_annotations_and_features(tmp_path):
    flags = write_msvd(tmp_path, ['a_1_2', 'c_1_2', 'e_1_2', 'f_1_2'], motion=['a_1_2'])
    out = tmp_path / 'data'
    run = prepare('msvd', *flags, f'--out={out}', '--num_frames=2', '--num_objects=2')
    assert run.returncode == 0, run.stderr
    assert 'left out: 2 clips with features but without captions' in run.stderr
    assert 'left out: 2 clips with captions but without appearance features' in run.stderr
    assert '1 clips have no motion features' in run.stderr
    assert f'--config configs/msvd.py --config.data.dir={out}' in run.stdout
    for flag in ('frames=2', 'objects=2', 'appearance_dim=8', 'motion_dim=6', 'object_dim=5'):
        assert f'--config.data.{flag}' in run.stdout
    manifest = Manifest.load(out)
    assert manifest.splits == {
        'train': {'clips': 1, 'captions': 1}, 'val': {'clips': 1, 'captions': 1},
    }  # fmt: skip
    assert manifest.missing == {'motion': ['c_1_2']}
    (clip,) = records.read_clips(out, 'val')
    assert clip.id == 'c_1_2' and not clip.motion.any() and clip.appearance.shape == (2, 8)


def test_msvd_reads_the_real_subset(tmp_path):
    if not REAL.is_dir():
        pytest.skip(f'{REAL} is absent')
    features = REAL / 'features'
    flags = [f'--{kind}={features / kind}.hdf5' for kind in ('appearance', 'motion', 'objects')]
    out = tmp_path / 'data'
    run = prepare('msvd', f'--annotations={REAL / "annotations"}', *flags, f'--out={out}')
    assert run.returncode == 0, run.stderr
    manifest = Manifest.load(out)
    counts = {split: counts['clips'] for split, counts in manifest.splits.items()}
    assert counts == {'train': 285, 'val': 22, 'test': 71}
    assert (manifest.frames, manifest.objects) == (10, 5)
    assert manifest.widths == {'appearance': 1024, 'motion': 359, 'object': 1024}
    assert len(manifest.missing['motion']) == 9  # the tenth of the folder has no captions


def test_toy_renders_extracts_and_keeps_the_videos(tmp_path):
    out = tmp_path / 'data'
    run = prepare('toy', f'--out={out}', '--clips=train=9,val=2', '--seed=3')
    assert run.returncode == 0, run.stderr
    manifest = Manifest.load(out)
    assert {split: counts['clips'] for split, counts in manifest.splits.items()} == {
        'train': 9, 'val': 2,
    }  # fmt: skip
    assert manifest.extractor['name'] == 'pixels'
    clips = list(records.read_clips(out, 'train'))
    videos = sorted(path.stem for path in (out / 'videos' / 'train').iterdir())
    assert [clip.id for clip in clips] == videos
    for clip in clips:
        assert clip.true_box.shape[0] == manifest.frames
        assert clip.true_box.any() and clip.object_mask.any()
    assert_found_where_drawn(clips)


def assert_found_where_drawn(clips):
    """Most proposed boxes of a clip lie over a thing that the renderer drew in the same frame."""
    hits = []
    for clip in clips:
        centre = (clip.box[..., :2] + clip.box[..., 2:]) / 2
        low, high = clip.true_box[..., None, :, :2], clip.true_box[..., None, :, 2:]
        inside = ((centre[..., None, :] >= low) & (centre[..., None, :] <= high)).all(-1).any(-1)
        hits.append(inside[clip.object_mask])
    assert np.concatenate(hits).mean() > 0.8


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ([], 'name a source to prepare: toy or msvd'),
        (['imagenet'], 'name a source to prepare: toy or msvd'),
        (['toy'], '--out is missing'),
        (['toy', '--out=x', '--clips=train'], 'clips must look like train=1500'),
        (['toy', '--out=x', '--motion=m.hdf5'], '--motion has no meaning for toy'),
        (['toy', '--out=.'], 'exists already'),
        (['toy', '--out=x', '--num_frames=0'], 'num_frames'),
        (['msvd', '--out=x'], '--annotations is missing'),
        (['msvd', '--out=x', '--seed=1'], '--seed has no meaning for msvd'),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence):
    assert_refused(prepare(*arguments), sentence)


def test_msvd_files_that_do_not_fit_are_one_sentence(tmp_path):
    flags = write_msvd(tmp_path, ['video1', 'video2'])
    out = tmp_path / 'data'
    assert_refused(prepare('msvd', *flags, f'--out={out}'), "keys are like 'video1', but must be")
    (tmp_path / 'motion.hdf5').write_text('no')
    assert_refused(prepare('msvd', *flags, f'--out={out}'), 'motion.hdf5 is not a complete HDF5')
    (tmp_path / 'motion.hdf5').unlink()
    assert_refused(prepare('msvd', *flags, f'--out={out}'), 'motion.hdf5 does not exist')
    assert not out.exists()


def assert_refused(run, sentence):
    assert run.returncode == 2, run.stderr
    assert sentence in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr


def test_help_names_the_sources_and_their_flags():
    run = prepare('--help')
    assert run.returncode == 0
    for word in ('toy', 'msvd', '--annotations', '--num_frames', 'launch/prepare.py'):
        assert word in run.stdout
