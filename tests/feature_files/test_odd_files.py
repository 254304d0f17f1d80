"""Feature files as people have them: hidden files, one bad clip, other axes, locks, MATLAB."""

import errno
import fcntl
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.feature_files import hdf5
from stg_jax.feature_files.base import steps_shape, without_unit_axes
from stg_jax.feature_files.detect import content
from stg_jax.feature_files.open import holds_objects, open_frames, open_objects
from tests.fakes import fake_features as fake

APPLE = bytes.fromhex('00051607000200004d6163204f532058') + bytes(20)
CLIPS = ['a', 'b', 'c', 'd']


def read_all(source):
    """Read every clip: {key: array, or the sentence about it}."""
    found = {}
    with source:
        for key in source.keys:
            try:
                found[key] = source.read(key)
            except UserError as error:
                found[key] = str(error)
    return found


def write_rows(folder, frames):
    """Write a file per clip, each with one array of this name."""
    folder.mkdir()
    for clip, values in frames.items():
        fake.write_hdf5(folder / f'{clip}.h5', {clip: values})
    return f'{folder}/*.h5'


def write_archives(folder, frames, name='features'):
    folder.mkdir()
    for clip, values in frames.items():
        np.savez(folder / f'{clip}.npz', **{name: values})
    return str(folder)


def layouts(folder, frames):
    """Write frames in every layout that has a file or entry for each clip; yield the paths."""
    yield fake.write_npy(folder / 'npy', frames)
    yield write_archives(folder / 'npz', frames)
    yield fake.write_hdf5(folder / 'x.hdf5', frames)
    np.savez(folder / 'all.npz', **frames)
    yield str(folder / 'all.npz')


@pytest.mark.parametrize('bad', CLIPS)
@pytest.mark.parametrize(
    'values',
    [np.zeros((0, 5)), np.zeros((3, 7)), np.full((3, 5), np.nan), np.zeros((2, 3, 5))],
    ids=['empty', 'wide', 'nan', 'rank'],
)
def test_one_bad_clip_is_its_own_failure_wherever_it_sorts(tmp_path, bad, values):
    frames = fake.fake_frames(CLIPS)
    for path in layouts(tmp_path, frames | {bad: values}):
        found = read_all(open_frames(path))
        assert list(found) == CLIPS
        assert isinstance(found.pop(bad), str)
        for clip, array in found.items():
            np.testing.assert_array_equal(array, frames[clip])


@pytest.mark.parametrize('bad', ['a', 'c'])
def test_one_bad_clip_of_objects_is_its_own_failure(tmp_path, bad):
    clips = fake.fake_objects(CLIPS, steps=1)
    flat = {clip: {k: v[0] for k, v in arrays.items()} for clip, arrays in clips.items()}
    groups = clips | {bad: {'feats': np.zeros((3, 4, 9), np.float32)}}
    broken = flat | {bad: flat[bad] | {'feats': np.zeros((4, 9), np.float32)}}
    odd = flat | {bad: flat[bad] | {'feats': np.full((4, 5), np.nan, np.float32)}}
    for path in (
        fake.write_hdf5(tmp_path / 'groups.hdf5', groups),
        fake.write_hdf5(tmp_path / 'scalar.hdf5', clips | {bad: np.float32(3)}),
        fake.write_hdf5(tmp_path / 'roi.hdf5', {k: v['feats'] for k, v in broken.items()}),
        fake.write_tsv(tmp_path / 'x.tsv', broken),
        fake.write_tsv(tmp_path / 'odd.tsv', odd),
        fake.write_npz(tmp_path / 'npz', broken),
    ):
        found = read_all(open_objects(path))
        assert list(found) == CLIPS
        assert isinstance(found.pop(bad), str), path
        for clip, objects in found.items():
            np.testing.assert_array_equal(objects.feature, clips[clip]['feats'])


def test_a_damaged_row_of_a_table_is_its_own_failure(tmp_path):
    clips = fake.fake_objects(CLIPS, steps=1)
    rows = [fake.tsv_row(k, {n: v[0] for n, v in arrays.items()}) for k, arrays in clips.items()]
    for damaged in (
        rows[1][:-30] + b'\n',
        rows[1].replace(b'\t4\t', b'\tfour\t'),
        rows[1].replace(b'\t4\t', b'\t99999999999999999999\t'),
        rows[1].replace(b'\t4\t', b'\t3\t'),
        b'b\tbroken\n',
        b'b\t',
    ):
        path = tmp_path / 'x.tsv'
        path.write_bytes(rows[0] + damaged.rstrip(b'\n') + b'\n' + b'junk\n\n' + b''.join(rows[2:]))
        with open_objects(str(path)) as source:
            assert source.keys == CLIPS
            assert source.warnings[-1] == '1 lines are no rows and left out, the first is 3'
            with pytest.raises(UserError, match=r'x\.tsv: b has'):
                source.read('b')
            for clip in 'acd':
                np.testing.assert_array_equal(source.read(clip).feature, clips[clip]['feats'])


def test_hidden_files_are_no_features(tmp_path):
    frames, images = fake.fake_frames(CLIPS), fake.images_of(fake.fake_objects(CLIPS))
    pattern = write_rows(tmp_path / 'rows', frames)
    (tmp_path / 'rows' / '._a.h5').write_bytes(APPLE)
    paths = [fake.write_npy(tmp_path / 'npy', frames), write_archives(tmp_path / 'npz', frames)]
    objects = fake.write_npz(tmp_path / 'objects', images)
    for folder, ending in ((paths[0], 'npy'), (paths[1], 'npz'), (objects, 'npz')):
        (Path(folder) / f'._a.{ending}').write_bytes(APPLE)
        (Path(folder) / '.DS_Store').write_bytes(APPLE)
        (Path(folder) / '.trash').mkdir()
        (Path(folder) / '.trash' / f'z.{ending}').write_bytes(APPLE)
    for path in (*paths, pattern):
        assert list(read_all(open_frames(path))) == CLIPS
    assert list(read_all(open_objects(objects))) == CLIPS
    only_hidden = tmp_path / 'hidden'
    only_hidden.mkdir()
    (only_hidden / '._a.npy').write_bytes(APPLE)
    (only_hidden / '.b').mkdir()
    (only_hidden / '.b' / 'c.npz').write_bytes(APPLE)
    assert content(only_hidden) == 'folder'


def test_features_of_frames_in_archives_are_read(tmp_path):
    frames = fake.fake_frames(CLIPS)
    for number, name in enumerate(('x', 'features', 'feat', 'arr_0', 'resnet')):
        folder = write_archives(tmp_path / str(number), frames, name)
        assert not holds_objects(folder)
        found = read_all(open_frames(folder))
        for clip, values in frames.items():
            np.testing.assert_array_equal(found[clip], values)
    packed = tmp_path / 'packed.npz'
    np.savez_compressed(packed, **frames)
    assert list(read_all(open_frames(str(packed)))) == CLIPS
    with open_frames(str(packed)) as source, pytest.raises(UserError, match='z does not exist'):
        source.read('z')
    two = tmp_path / 'two'
    two.mkdir()
    np.savez(two / 'a.npz', rgb=frames['a'], flow=frames['a'])
    with pytest.raises(UserError, match=r'a.npz holds rgb, flow, of which none is called x or'):
        open_frames(str(two))


def test_frames_in_archives_that_are_passed_as_objects_are_doubted(tmp_path):
    folder = write_archives(tmp_path / 'npz', fake.fake_frames(CLIPS))
    with open_objects(folder) as source:
        assert any('if they are frames' in warning for warning in source.warnings)
    picture = fake.write_npz(tmp_path / 'one', fake.images_of(fake.fake_objects('a'))) + '/a_0.npz'
    with pytest.raises(UserError, match='holds the objects of one picture: pass the folder'):
        open_frames(picture)
    boxed = fake.write_npz(tmp_path / 'boxed', fake.images_of(fake.fake_objects(CLIPS)))
    assert holds_objects(boxed)
    with pytest.raises(UserError, match='holds objects, not features of frames'):
        open_frames(boxed)


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ((7, 8, 1, 1), (7, 8)),
        ((7, 8, 1, 1, 1), (7, 8)),
        ((7, 8, 1), (7, 8)),
        ((1, 7, 8), (7, 8)),
        ((7, 1, 8), (7, 8)),
        ((1, 7, 1, 8), (7, 8)),
        ((8, 1, 1), (1, 8)),
        ((1, 8, 1, 1), (1, 8)),
        ((1, 1, 8), (1, 8)),
        ((7, 1), (7, 1)),
        ((1, 8), (1, 8)),
        ((8,), (1, 8)),
    ],
)
def test_axes_of_length_one_are_left_out(tmp_path, shape, expected):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert steps_shape(shape, 'x') == expected
    for path in layouts(tmp_path, dict.fromkeys('ab', values)):
        np.testing.assert_array_equal(read_all(open_frames(path))['b'], values.reshape(expected))


def test_axes_that_are_longer_are_never_left_out():
    for shape in ((2, 7, 8), (1, 2, 7, 8), (7, 8, 2, 1)):
        with pytest.raises(UserError, match='expected'):
            steps_shape(shape, 'x')
    assert without_unit_axes((1, 2, 3, 4), 3) == (2, 3, 4)


def test_objects_with_axes_of_length_one_are_read(tmp_path):
    clips = fake.fake_objects(CLIPS)
    shaped = {
        clip: {
            'feats': arrays['feats'][..., None, None],
            'boxes': arrays['boxes'][None],
            'scores': arrays['scores'][..., None],
            'labels': arrays['labels'][None, :, :, None],
        }
        for clip, arrays in clips.items()
    }
    found = read_all(open_objects(fake.write_hdf5(tmp_path / 'x.hdf5', shaped)))
    for clip, arrays in clips.items():
        for kind, name in {'feature': 'feats', 'score': 'scores', 'label': 'labels'}.items():
            np.testing.assert_array_equal(getattr(found[clip], kind), arrays[name])


@pytest.mark.parametrize('kinds', [('<f8', '<f8'), ('<f4', '<f8'), ('<f8', '<f4')])
@pytest.mark.parametrize('lxmert', [False, True])
def test_a_table_may_hold_float64(tmp_path, kinds, lxmert):
    clips = fake.fake_objects(CLIPS, steps=1)
    for arrays in clips.values():
        arrays['feats'][arrays['feats'] < 0] = 0  # as after a ReLU
        arrays['feats'][..., 0] = 0.1
    images = {k: {n: v[0] for n, v in arrays.items()} for k, arrays in clips.items()}
    boxes, feats = kinds
    path = fake.write_tsv(tmp_path / 'x.tsv', images, lxmert=lxmert, dtypes=(boxes, feats))
    found = read_all(open_objects(path))
    for clip, arrays in clips.items():
        np.testing.assert_array_equal(found[clip].feature, arrays['feats'])
        np.testing.assert_allclose(found[clip].box, arrays['boxes'], atol=1e-6)


def test_computed_float64_is_recognized(tmp_path):
    rng = np.random.default_rng(0)
    images = {clip: {'feats': rng.normal(size=(4, 5)), 'boxes': np.zeros((4, 4))} for clip in CLIPS}
    path = fake.write_tsv(tmp_path / 'x.tsv', images, dtypes=('<f4', '<f8'))
    found = read_all(open_objects(path))
    np.testing.assert_allclose(found['c'].feature[0], images['c']['feats'], rtol=1e-6)


def test_thousands_of_files_are_not_held_open(tmp_path):
    frames = fake.fake_frames([f'clip{i:03d}' for i in range(200)], steps=1)
    pattern = write_rows(tmp_path / 'rows', frames)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path('/proc/self/fd').iterdir())) if Path('/proc/self/fd').exists() else 30
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, used + 60), hard))
    try:
        found = read_all(open_frames(pattern))
        assert found.keys() == frames.keys()
        for clip, values in frames.items():
            np.testing.assert_array_equal(found[clip], values)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# The name of other layouts' array of all clips, here of the steps of one, too.
@pytest.mark.parametrize('name', ['features', 'feats'])
def test_files_of_one_array_each_are_called_by_their_names(tmp_path, name):
    frames = fake.fake_frames(['vid1', 'vid2', 'vid10'])
    folder = tmp_path / 'rows'
    folder.mkdir()
    for clip, values in frames.items():
        fake.write_hdf5(folder / f'{clip}.h5', {name: values})
    with open_frames(f'{folder}/*.h5') as source:
        assert source.warnings == [
            f'every file holds only {name}: the names of the files are taken for the clips'
        ]
        for clip, values in frames.items():
            np.testing.assert_array_equal(source.read(clip), values)


def test_a_pattern_of_one_file_reads_its_rows_as_clips(tmp_path):
    rows = np.arange(10, dtype=np.float32).reshape(2, 5)
    fake.write_hdf5(tmp_path / 'all.h5', {'feats': rows})
    with open_frames(f'{tmp_path}/*.h5') as source:
        assert list(source.keys) == ['0', '1']
        np.testing.assert_array_equal(source.read('1'), rows[1:])


def test_one_file_of_another_width_is_left_out_and_named(tmp_path):
    frames = fake.fake_frames([f'clip{i:02d}' for i in range(12)], steps=1)
    pattern = write_rows(tmp_path / 'rows', frames | {'clip00': np.ones((1, 7), np.float32)})
    with open_frames(pattern) as source:
        assert (len(source.keys), source.width) == (11, 5)
        assert 'clip00.h5 7: join files of one network only' in source.warnings[-1]


def test_one_damaged_file_of_many_is_left_out_and_named(tmp_path):
    frames = fake.fake_frames([f'clip{i:02d}' for i in range(12)], steps=1)
    pattern = write_rows(tmp_path / 'rows', frames)
    (tmp_path / 'rows' / 'clip00.h5').write_bytes(b'<!DOCTYPE html>')
    with open_frames(pattern) as source:
        assert len(source.keys) == 11
        assert 'clip00.h5 is a web page' in source.warnings[-1]
    # One file of two may hold a whole split.
    for number in range(2, 12):
        (tmp_path / 'rows' / f'clip{number:02d}.h5').unlink()
    with pytest.raises(UserError, match=r'clip00.h5 is a web page'):
        open_frames(pattern)


def test_a_file_that_is_being_written_is_called_locked(tmp_path, monkeypatch):
    monkeypatch.delenv('HDF5_USE_FILE_LOCKING', raising=False)
    path = fake.write_hdf5(tmp_path / 'x.hdf5', fake.fake_frames(CLIPS))
    code = 'import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX);'
    code += 'print(1, flush=True); input()'
    command = [sys.executable, '-c', code, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(UserError, match=r'x.hdf5 is locked, as by a program that is writing'):
            open_frames(path)
        holder.stdin.close()
    assert list(read_all(open_frames(path))) == CLIPS


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_drive_without_locks_is_read_without_one(tmp_path, monkeypatch, number):
    path = fake.write_hdf5(tmp_path / 'x.hdf5', fake.fake_frames(CLIPS))
    opened = h5py.File

    def refuse_locks(name, *args, locking=None, **kwargs):
        if locking is None:
            raise OSError(
                number, f'Unable to synchronously open file (unable to lock file, {number})'
            )
        return opened(name, *args, locking=locking, **kwargs)

    monkeypatch.setattr(hdf5.h5py, 'File', refuse_locks)
    assert list(read_all(open_frames(path))) == CLIPS


def write_matlab(path, arrays):
    """Write arrays as MATLAB 7.3 does: a header of 512 bytes, axes reversed, classes named."""
    with h5py.File(path, 'w', userblock_size=512) as file:
        for name, values in arrays.items():
            file[name] = np.asarray(values).T
            file[name].attrs['MATLAB_class'] = np.bytes_('single')
        file.create_group('#refs#')['a'] = np.zeros(3)
    with path.open('r+b') as file:
        file.write(b'MATLAB 7.3 MAT-file, Platform: GLNXA64'.ljust(128))
    return str(path)


def test_matlab_files_are_read_with_their_axes_restored(tmp_path):
    frames = fake.fake_frames(CLIPS, steps=3, width=5) | {'d': np.ones((1, 5), np.float32)}
    path = write_matlab(tmp_path / 'x.mat', frames)
    found = read_all(open_frames(path))
    assert list(found) == CLIPS
    for clip, values in frames.items():
        np.testing.assert_array_equal(found[clip], values)
    with pytest.raises(UserError, match='holds features of frames, not objects'):
        open_objects(path)
    old = tmp_path / 'old.mat'
    old.write_bytes(b'MATLAB 5.0 MAT-file, Platform: GLNXA64'.ljust(128) + bytes(100))
    with pytest.raises(UserError, match='is a MATLAB file of an old version: save it again'):
        open_frames(str(old))
    # A block before the signature alone makes no file one of MATLAB.
    with h5py.File(tmp_path / 'block.h5', 'w', userblock_size=1024) as file:
        for clip, values in frames.items():
            file[clip] = values
    np.testing.assert_array_equal(
        read_all(open_frames(str(tmp_path / 'block.h5')))['a'], frames['a']
    )


def test_a_video_is_no_table(tmp_path):
    path = tmp_path / 'x.mp4'
    path.write_bytes(b'\x00\x00\x00\x1cftypisom' + b'\t\x01\t2\t3\t4\t5' + b'\n' + bytes(100))
    assert content(path) == 'unknown'
    path.write_bytes(fake.tsv_row('a', fake.images_of(fake.fake_objects('a'))['a_0']))
    assert content(path) == 'TSV'


def test_locks_of_this_process_do_not_matter(tmp_path):
    path = fake.write_hdf5(tmp_path / 'x.hdf5', fake.fake_frames(CLIPS))
    with Path(path).open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)  # as any other reader
        assert list(read_all(open_frames(path))) == CLIPS
