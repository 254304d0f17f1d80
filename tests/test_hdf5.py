import h5py
import numpy as np
import pytest

from stg_jax.data.check import check_clip
from stg_jax.data.importers import hdf5
from stg_jax.errors import UserError


def write_features(folder, clip_ids, *, steps=4, num_objects=3, seed=0, motion=None):
    """Write the three files for `clip_ids`; return their paths by flag name."""
    rng = np.random.default_rng(seed)
    paths = {kind: str(folder / f'{kind}.hdf5') for kind in ('appearance', 'motion', 'objects')}
    with h5py.File(paths['appearance'], 'w') as file:
        for clip_id in clip_ids:
            file[clip_id] = rng.normal(size=(steps, 8)).astype(np.float16)
    with h5py.File(paths['motion'], 'w') as file:
        for clip_id in clip_ids if motion is None else motion:
            file[clip_id] = rng.normal(size=(2 * steps, 6)).astype(np.float32)
    with h5py.File(paths['objects'], 'w') as file:
        for clip_id in clip_ids:
            write_objects(file.create_group(clip_id), rng, steps, num_objects)
    return paths


def write_objects(group, rng, steps, num_objects):
    shape = (steps, num_objects)
    group['feats'] = rng.normal(size=(*shape, 5)).astype(np.float16)
    corner = np.sort(rng.uniform(size=(*shape, 2, 2)), axis=-2)
    group['boxes'] = corner.reshape(*shape, 4).astype(np.float32)
    group['scores'] = rng.uniform(size=shape).astype(np.float16)
    group['labels'] = rng.integers(-1, 80, shape).astype(np.int8)
    group.attrs.update(height=120, width=160)


def opened(paths, num_frames=4, num_objects=3):
    return hdf5.open_features(**paths, num_frames=num_frames, num_objects=num_objects)


def test_averages_equal_segments_and_repeats_where_short():
    steps = np.arange(6, dtype=np.float32)[:, None]
    assert hdf5.resample(steps, 6).tolist() == steps.tolist()
    assert hdf5.resample(steps, 3).ravel().tolist() == [0.5, 2.5, 4.5]
    assert hdf5.resample(steps, 1).ravel().tolist() == [2.5]
    assert hdf5.resample(steps[:2], 4).ravel().tolist() == [0, 0, 1, 1]
    # Four segments of 1.5 steps: (0 + 1/2) / 1.5, (1/2 + 2) / 1.5, ...
    np.testing.assert_allclose(hdf5.resample(steps, 4).ravel() * 1.5, [0.5, 2.5, 5, 7])


@pytest.mark.parametrize('num_frames', [1, 3, 7, 20])
def test_resampling_keeps_a_constant(num_frames):
    assert np.allclose(hdf5.resample(np.full((13, 2), 3, np.float32), num_frames), 3)


@pytest.mark.parametrize(('num_frames', 'num_objects'), [(4, 3), (4, 2), (3, 5), (9, 1)])
def test_keeps_the_best_objects_with_all_that_belongs_to_them(tmp_path, num_frames, num_objects):
    paths = write_features(tmp_path, ['a'], num_objects=3)
    with opened(paths, num_frames, num_objects) as files:
        clip = files.read('a', ['x'])
        check_clip(clip)
        source = {key: files.objects['a'][key][:] for key in files.objects['a']}
    index = ((np.arange(num_frames) + 0.5) * 4 / num_frames).astype(int)
    for frame, step in enumerate(index):
        real = np.flatnonzero(source['labels'][step] >= 0)
        best = sorted(real, key=lambda i: -source['scores'][step, i])[:num_objects]
        number = len(best)
        assert clip.object_mask[frame].tolist() == [i < number for i in range(num_objects)]
        for kind, key in (
            ('object', 'feats'), ('box', 'boxes'), ('score', 'scores'), ('label', 'labels')
        ):  # fmt: skip
            np.testing.assert_array_equal(
                getattr(clip, kind)[frame, :number], source[key][step, best]
            )
    assert (clip.height, clip.width) == (120, 160)


def test_clips_without_motion_or_objects_stay_empty(tmp_path):
    paths = write_features(tmp_path, ['a', 'b'], motion=['a'])
    with h5py.File(paths['objects'], 'a') as file:
        del file['b']
    with opened(paths) as files:
        assert files.missing(['a', 'b']) == {'motion': ['b'], 'object': ['b']}
        clip = files.read('b', [])
    check_clip(clip)
    assert not clip.motion.any() and clip.motion.shape == (4, 6)
    assert not clip.object_mask.any() and clip.object.shape == (4, 3, 5)


def replace_entry(path, key, value):
    with h5py.File(path, 'a') as file:
        del file[key]
        if value is not None:
            file[key] = value


@pytest.mark.parametrize(
    ('kind', 'key', 'value', 'sentence'),
    [
        ('appearance', 'a', np.zeros(8), r'a must be a dataset \(steps, D\), found shape \(8,\)'),
        ('motion', 'a', np.zeros((0, 6)), r'a must be a dataset .* found shape \(0, 6\)'),
        ('objects', 'a', np.zeros((4, 3, 5)), 'a must be a group with feats, boxes'),
        ('objects', 'a/boxes', None, 'objects.hdf5: a lacks boxes'),
        ('objects', 'a/scores', np.zeros((4, 2)), r'a has feats \(4, 3, 5\) and scores \(4, 2\)'),
    ],
)
def test_names_the_entry_of_another_layout(tmp_path, kind, key, value, sentence):
    paths = write_features(tmp_path, ['a'])
    replace_entry(paths[kind], key, value)
    with pytest.raises(UserError, match=sentence), opened(paths) as files:
        files.read('a', [])


def test_refuses_files_that_are_no_features(tmp_path):
    paths = write_features(tmp_path, ['a'])
    with pytest.raises(UserError, match='does not exist'), opened(paths | {'motion': '/no'}):
        pass
    (tmp_path / 'text').write_text('hello')
    with (
        pytest.raises(UserError, match='not a complete HDF5 file'),
        opened(paths | {'motion': str(tmp_path / 'text')}),
    ):
        pass
    replace_entry(paths['objects'], 'a', None)
    with pytest.raises(UserError, match='holds no clip'), opened(paths):
        pass
