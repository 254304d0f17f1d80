"""Damaged, foreign and hostile files: one sentence each, and never a pickle that runs."""

import bz2
import gzip
import io
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.feature_files import bottom_up_tsv
from stg_jax.feature_files.detect import content
from stg_jax.feature_files.numpy_folders import npy_header, npz_headers, read_npy, read_npz
from stg_jax.feature_files.open import open_frames, open_objects
from tests.fakes import fake_features as fake

SAVED = {
    'web page': b'\n<!DOCTYPE html><html><title>Sign in</title>',
    'pointer of Git LFS': b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n',
    'pickle': pickle.dumps(np.ones((3, 5))),
    'empty': b'',
}


def everything(value):
    return True


@pytest.mark.parametrize('kind', SAVED)
def test_what_was_saved_in_place_of_an_array_is_named(tmp_path, kind):
    for name in ('a.npy', 'a.npz', 'a.hdf5', 'a.tsv'):
        path = tmp_path / name
        path.write_bytes(SAVED[kind])
        readers = {'.npy': read_npy, '.npz': lambda path: read_npz(path, everything)}
        for read in (readers.get(path.suffix), lambda path: open_frames(str(path))):
            if read is not None:
                with pytest.raises(UserError, match=rf'{name} is (a |an )?{kind}') as error:
                    read(path)
                assert 'allow_pickle' not in str(error.value)


def test_a_folder_of_saved_pages_is_one_sentence(tmp_path):
    for clip in 'ab':
        (tmp_path / f'{clip}.npy').write_bytes(SAVED['web page'])
    with pytest.raises(UserError, match=r'a.npy is a web page, not data'):
        open_frames(str(tmp_path))


class Explosion:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_is_ever_run(tmp_path):
    mark = tmp_path / 'mark'
    array = np.array([Explosion(mark)], dtype=object)
    np.save(tmp_path / 'a.npy', array, allow_pickle=True)
    np.savez(tmp_path / 'a.npz', x=array)
    for read, path in ((read_npy, 'a.npy'), (lambda path: read_npz(path, everything), 'a.npz')):
        with pytest.raises(UserError, match='holds Python objects') as error:
            read(tmp_path / path)
        assert 'allow_pickle' not in str(error.value)
    assert npy_header(tmp_path / 'a.npy')[1].hasobject and npz_headers(tmp_path / 'a.npz')
    assert not mark.exists()


def npy_bytes(values, **header):
    """Return the bytes of an array; `header` replaces entries of its header."""
    stream = io.BytesIO()
    if not header:
        np.save(stream, values)
        return stream.getvalue()
    entries = {'descr': '<f4', 'fortran_order': False, 'shape': values.shape} | header
    np.lib.format.write_array_header_1_0(stream, entries)
    return stream.getvalue() + values.tobytes()


VALUES = np.arange(15, dtype=np.float32).reshape(3, 5)


@pytest.mark.parametrize(
    ('data', 'sentence'),
    [
        (npy_bytes(VALUES)[:-4], r'a is cut: it holds 56 bytes, but its array \(3, 5\)'),
        (npy_bytes(VALUES)[:40], 'a is damaged'),
        (npy_bytes(VALUES, shape=(10**12, 10**9)), 'a is cut'),
        (npy_bytes(VALUES, shape=(-3, 5)), 'a is (cut|damaged)'),
        (npy_bytes(VALUES).replace(b"'descr'", b"'d\xffscr'"), 'a is damaged'),
        (npy_bytes(VALUES).replace(b'(3, 5)', b'(3, 5('), 'a is damaged'),
        (npy_bytes(VALUES).replace(b"'<f4'", b"'<q9'"), 'a is damaged'),
        (npy_bytes(VALUES)[:6] + b'\x09' + npy_bytes(VALUES)[7:], 'a is damaged'),
        (b'\x93NUMPY\x02\x00\xff\xff\xff\x7f' + bytes(50), 'a is damaged .a header of 2,147,483'),
        (b'\x93NUMPY\x01\x00\xf0\x00' + b'(' * 240, 'a is damaged'),
        (b'\x93NUMPY\x01\x00\xf0\x00' + b'[' * 240, 'a is damaged'),
        (bz2.compress(b'words'), r'a is no array of numbers \(it begins with'),
    ],
)
def test_a_damaged_array_is_one_sentence(tmp_path, data, sentence):
    for name in ('a.npy', 'a.npz'):
        path = tmp_path / name
        if name == 'a.npy':
            path.write_bytes(data)
        else:
            with zipfile.ZipFile(path, 'w') as archive:
                archive.writestr('a.npy', data)
        with pytest.raises(UserError, match=sentence.replace('a ', r'a(\.npy)? ', 1)):
            read_npy(path) if name == 'a.npy' else read_npz(path, everything)


def test_arrays_of_all_versions_and_orders_are_read(tmp_path):
    path = tmp_path / 'a.npy'
    for version in ((1, 0), (2, 0), (3, 0)):
        for values in (VALUES, np.asfortranarray(VALUES), VALUES.astype('>f8'), VALUES[:0]):
            with path.open('wb') as file:
                np.lib.format.write_array(file, values, version)
            np.testing.assert_array_equal(read_npy(path), values)
            assert npy_header(path) == (values.shape, values.dtype)


@pytest.mark.parametrize('seed', range(40))
def test_flipped_bytes_of_an_archive_are_a_sentence_or_an_array(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / 'a.npz'
    (np.savez_compressed if seed % 2 else np.savez)(path, x=VALUES, bbox=VALUES[:, :4])
    data = bytearray(path.read_bytes())
    for place in rng.integers(len(data), size=3):
        data[place] = rng.integers(256)
    path.write_bytes(data[: rng.integers(len(data))] if seed % 5 == 0 else data)
    for read in (
        lambda: read_npz(path, everything),
        lambda: npz_headers(path),
        lambda: content(path),
    ):
        try:
            read()
        except UserError as error:
            assert str(path) in str(error)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / 'a.npz'
    np.savez_compressed(path, x=np.zeros((10, 150), np.float32), bbox=np.zeros(1500, np.float32))
    with pytest.raises(UserError, match=r'a.npz unpacks to more than 10,000 bytes'):
        read_npz(path, everything, most=10_000)
    assert read_npz(path, lambda name: name == 'x', most=10_000)['x'].shape == (10, 150)


def test_a_packed_table_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    row = fake.tsv_row('a', fake.images_of(fake.fake_objects('a'))['a_0'])
    path = tmp_path / 'x.tsv.gz'
    path.write_bytes(gzip.compress(row + bytes(1 << 22)))
    monkeypatch.setattr(bottom_up_tsv, '_MAX_ROW', 1 << 20)
    with pytest.raises(UserError, match=r'x.tsv.gz unpacks to more than 100 times its size'):
        open_objects(str(path))


@pytest.mark.parametrize('place', [5, 12, 40, 200, -30, -6, -2])
def test_a_damaged_gzip_stream_is_one_sentence_or_a_clip(tmp_path, place):
    images = fake.images_of(fake.fake_objects(['a', 'b']))
    path = Path(fake.write_tsv(tmp_path / 'x.tsv.gz', images))
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    try:
        with open_objects(str(path)) as source:
            for key in source.keys:
                source.read(key)
    except UserError as error:
        assert 'x.tsv.gz' in str(error)


def odd_entries(file):
    """Write entries that hold no numbers, in every way that HDF5 has."""
    file['empty'] = h5py.Empty('f')
    file['text'] = ['a', 'b']
    file['bytes'] = np.array([b'ab', b'cd'])
    file['table'] = np.zeros(3, [('x', 'f4'), ('y', 'i4')])
    file['lengths'] = h5py.Empty(h5py.vlen_dtype(np.float32))
    file['reference'] = np.array([file['text'].ref], h5py.ref_dtype)
    file['complex'] = np.zeros((3, 5), np.complex64)
    file['flags'] = np.zeros((3, 5), bool)
    file['scalar'] = 3.0
    file['type'] = np.dtype('f4')
    file['group'] = h5py.SoftLink('/nowhere')
    file['outside'] = h5py.ExternalLink('nowhere.h5', '/x')
    file.create_group('folder')


def test_entries_of_odd_types_are_the_failure_of_their_clips(tmp_path):
    path = str(tmp_path / 'x.hdf5')
    with h5py.File(path, 'w') as file:
        for clip in [f'clip{i:02d}' for i in range(30)]:
            file[clip] = VALUES
        odd_entries(file)
        odd = [key for key in file if not key.startswith('clip')]
    with open_frames(path) as source:
        for key in odd:
            with pytest.raises(UserError, match=rf'x.hdf5: /?{key} '):
                source.read(key)
        np.testing.assert_array_equal(source.read('clip07'), VALUES)


def test_attributes_of_odd_types_are_the_failure_of_their_clip(tmp_path):
    clips = fake.fake_objects('ab')
    path = fake.write_hdf5(tmp_path / 'x.hdf5', clips, height=120, width=160)
    with h5py.File(path, 'a') as file:
        file['a'].attrs['height'] = 'tall'
        file['b'].attrs['height'] = np.array([120])
    with open_objects(path) as source:
        with pytest.raises(UserError, match=r'x.hdf5: a cannot be read'):
            source.read('a')
        assert source.read('b').height == 120


def test_names_that_no_file_can_have_are_one_sentence(tmp_path):
    for path in ('x' * 5000, str(tmp_path / ('y' * 300)), 'a\0b'):
        with pytest.raises(UserError, match=r'(cannot be opened|does not exist)'):
            open_frames(path)
    (tmp_path / 'npy').mkdir()
    (tmp_path / 'npy' / 'a.npy').symlink_to(tmp_path / 'nowhere.npy')
    np.save(tmp_path / 'npy' / 'b.npy', VALUES)
    with open_frames(str(tmp_path / 'npy')) as source:
        with pytest.raises(UserError, match=r'a.npy does not exist'):
            source.read('a')
        np.testing.assert_array_equal(source.read('b'), VALUES)
