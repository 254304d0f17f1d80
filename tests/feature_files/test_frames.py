import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.feature_files.open import open_frames, open_grid, open_objects
from tests.fakes import fake_features as fake
from tests.fakes.real_data import real_data

ROOT = Path(__file__).parents[2]


def read_all(spec):
    with open_frames(spec) as source:
        return {key: source.read(key) for key in source.keys}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for key, values in expected.items():
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], values)


def padded_rows(frames, lens):
    """Return RMN's arrays: rows of zeros after the valid steps."""
    rows = np.stack(list(frames.values()))
    rows[np.arange(rows.shape[1]) >= np.array(lens)[:, None]] = 99
    return {'feats': rows, 'lens': np.array(lens)}


def test_all_layouts_of_the_same_numbers_read_the_same(tmp_path):
    frames = fake.fake_frames('012')
    of_videos = {f'{clip}_s3d': values for clip, values in frames.items()}
    facts = {f'{clip}_{name}': np.zeros(3) for clip in frames for name in ('fps', 'timestamps_ms')}
    for spec in (
        fake.write_hdf5(tmp_path / 'clips.hdf5', frames),
        fake.write_hdf5(tmp_path / 'care.hdf5', {**frames, 'max_len': 60}),
        fake.write_hdf5(tmp_path / 'rows.h5', padded_rows(frames, [3, 3, 3])),
        fake.write_npy(tmp_path / 'npy', frames),
        fake.write_npy(tmp_path / 'outputs', of_videos | facts),
    ):
        assert_same(read_all(spec), frames)


def test_rows_end_where_lens_says_and_rows_without_a_step_are_left_out(tmp_path):
    frames = fake.fake_frames('012')
    path = fake.write_hdf5(tmp_path / 'rows.h5', padded_rows(frames, [2, 0, 1]))
    assert_same(read_all(path), {'0': frames['0'][:2], '2': frames['2'][:1]})
    with open_frames(path) as source:
        assert source.warnings == ['1 rows have no valid step: left out']


def test_an_array_without_time_is_one_step(tmp_path):
    vectors = {clip: values[0] for clip, values in fake.fake_frames('012').items()}
    expected = {clip: values[None] for clip, values in vectors.items()}
    rows = {'feats': np.stack(list(vectors.values())), 'lens': np.array([1, 1, 1])}
    assert_same(read_all(fake.write_hdf5(tmp_path / 'mp1.h5', vectors)), expected)
    assert_same(read_all(fake.write_hdf5(tmp_path / 'gl_rg.h5', rows)), expected)
    assert_same(read_all(fake.write_npy(tmp_path / 'npy', vectors)), expected)


def test_columns_side_by_side_are_the_whole(tmp_path):
    frames = fake.fake_frames('012', width=7)
    path = fake.write_hdf5(tmp_path / 'rows.h5', padded_rows(frames, [3, 3, 3]))
    left, right = read_all(f'{path}:0-4'), read_all(f'{path}:4-7')
    assert_same({k: np.concatenate([left[k], right[k]], axis=1) for k in left}, frames)
    with open_frames(f'{path}:4-7') as source:
        assert source.width == 3
    for columns in ('4-8', '3-3'):
        with pytest.raises(UserError, match=f'columns 0-7, which do not hold {columns}'):
            open_frames(f'{path}:{columns}')


def test_a_file_per_split_is_one_source(tmp_path):
    frames = fake.fake_frames(['a', 'b', 'c'])
    fake.write_hdf5(tmp_path / 'x_test.hdf5', {'c': frames['c']})
    fake.write_hdf5(tmp_path / 'x_train.hdf5', {key: frames[key] for key in 'ab'})
    pattern = str(tmp_path / 'x_*.hdf5')
    assert_same(read_all(pattern), {key: frames[key] for key in 'cab'})
    with open_frames(pattern) as source, pytest.raises(UserError, match='z does not exist'):
        source.read('z')
    fake.write_hdf5(tmp_path / 'x_val.hdf5', {'a': frames['a']})
    with pytest.raises(UserError, match=r'x_train.hdf5 and .*x_val.hdf5 both hold a'):
        open_frames(pattern)
    with pytest.raises(UserError, match='no file is called'):
        open_frames(str(tmp_path / 'y_*.hdf5'))


def test_joined_files_must_come_from_one_network(tmp_path):
    fake.write_hdf5(tmp_path / 'x_1.h5', fake.fake_frames('a', width=4))
    fake.write_hdf5(tmp_path / 'x_2.h5', fake.fake_frames('b', width=6))
    with pytest.raises(UserError, match=r'x_1.h5 is 4 wide and .*x_2.h5 6'):
        open_frames(str(tmp_path / 'x_*.h5'))


def test_one_of_two_outputs_of_video_features_is_chosen_by_name(tmp_path):
    frames = fake.fake_frames(['a_1', 'b_2'])
    outputs = {f'{clip}_rgb': values for clip, values in frames.items()}
    outputs |= {f'{clip}_flow': -values for clip, values in frames.items()}
    outputs |= {f'{clip}_fps': np.array(25.0) for clip in frames}
    folder = fake.write_npy(tmp_path / 'i3d', outputs)
    with pytest.raises(UserError, match=r'flow and rgb features: choose some by writing .*i3d:'):
        open_frames(folder)
    assert_same(read_all(f'{folder}:rgb'), frames)
    assert_same(read_all(f'{folder}:flow:1-3'), {k: -v[:, 1:3] for k, v in frames.items()})
    with pytest.raises(UserError, match=r'i3d holds no <clip>_clip\.npy'):
        open_frames(f'{folder}:clip')


def fake_grids(clip_ids, cells=4, width=5):
    frames = fake.fake_frames(clip_ids, width=cells * width)
    return {clip: values.reshape(-1, cells, width) for clip, values in frames.items()}


def read_grid(spec):
    with open_grid(spec) as source:
        found = {key: source.read(key) for key in source.keys}
        assert {values.shape[1:] for values in found.values()} == {source.step}
        return found


def test_a_grid_of_cells_reads_the_same_from_all_layouts(tmp_path):
    grids = fake_grids('012')
    halves = fake.write_hdf5(tmp_path / 'x_1.h5', {'0': grids['0']})
    fake.write_hdf5(tmp_path / 'x_2.h5', {key: grids[key] for key in '12'})
    np.savez(tmp_path / 'all.npz', **grids)
    for spec in (
        fake.write_hdf5(tmp_path / 'clips.hdf5', grids),
        fake.write_hdf5(tmp_path / 'batches.hdf5', {k: v[None] for k, v in grids.items()}),
        fake.write_hdf5(tmp_path / 'rows.h5', padded_rows(grids, [3, 3, 3])),
        fake.write_npy(tmp_path / 'npy', grids),
        str(tmp_path / 'all.npz'),
        halves.replace('_1', '_*'),
    ):
        assert_same(read_grid(spec), grids)
    columns = read_grid(f'{tmp_path / "npy"}:1-3')
    assert_same(columns, {key: values[..., 1:3] for key, values in grids.items()})


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        (np.zeros((3, 4)), r'b has shape \(3, 4\), expected \(steps, cells, D\)'),
        (np.zeros((3, 2, 2, 5)), r'b has shape \(3, 2, 2, 5\), expected \(steps, cells, D\)'),
        (np.zeros((3, 4, 6)), 'b is 6 wide, but other clips of the file are 5 wide'),
        (np.zeros((3, 9, 5)), 'b has 9 cells a step, but other clips of the file have 4'),
    ],
)
def test_names_the_clip_of_another_grid(tmp_path, values, sentence):
    clips = fake_grids('ac') | {'b': values}
    for spec in (
        fake.write_hdf5(tmp_path / 'x.hdf5', clips),
        fake.write_npy(tmp_path / 'npy', clips),
    ):
        with open_grid(spec) as source:
            source.read('a')
            with pytest.raises(UserError, match=sentence.replace('b ', r'b(\.npy)? ', 1)):
                source.read('b')


def test_frames_and_cells_are_not_taken_for_each_other(tmp_path):
    path = fake.write_hdf5(tmp_path / 'grid.hdf5', fake_grids('ab'))
    with pytest.raises(
        UserError, match=r'expected \(steps, D\) or \(D,\), or the cells of a --grid'
    ):
        open_frames(path)
    path = fake.write_hdf5(tmp_path / 'odd.hdf5', fake_grids('ab', cells=6))
    with pytest.raises(UserError, match=r'6 cells a step, .* pool the maps to 4 x 4 or 7 x 7'):
        open_grid(path)
    for cells in (4, 9):
        fake.write_hdf5(tmp_path / f'x_{cells}.h5', fake_grids(str(cells), cells=cells))
    with pytest.raises(UserError, match=r'is 4 x 5 wide and .* 9 x 5: join files of one network'):
        open_grid(str(tmp_path / 'x_*.h5'))


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        (np.zeros((3, 2, 5)), r'b has shape \(3, 2, 5\), expected \(steps, D\)'),
        (np.array(5.0), r'b has shape \(\), expected \(steps, D\)'),
        (np.zeros((0, 5)), r'b has shape \(0, 5\)'),
        (np.zeros((3, 6)), 'b is 6 wide, but other clips of the file are 5 wide'),
        (np.array([[0, 1, np.nan, 3, 4]]), 'b holds NaN or infinity'),
        (np.array([b'words'] * 5), 'b holds .S5, expected numbers'),
    ],
)
def test_names_the_clip_of_another_layout(tmp_path, values, sentence):
    clips = {'a': np.zeros((3, 5), np.float32), 'b': values}
    for spec in (
        fake.write_hdf5(tmp_path / 'x.hdf5', clips),
        fake.write_npy(tmp_path / 'npy', clips),
    ):
        with open_frames(spec) as source:
            source.read('a')
            with pytest.raises(UserError, match=sentence.replace('b ', r'b(\.npy)? ', 1)):
                source.read('b')
            with pytest.raises(UserError, match=r'no_clip.* does not exist'):
                source.read('no_clip')


def test_refuses_keys_that_are_no_rows(tmp_path):
    path = fake.write_hdf5(tmp_path / 'rows.h5', {'feats': np.ones((2, 3, 5))})
    with open_frames(path) as source:
        for key in ('2', '-1', 'video0', '²'):
            with pytest.raises(UserError, match=f'rows 0 to 1, not {key}'):
                source.read(key)
    path = fake.write_hdf5(tmp_path / 'lens.h5', {'feats': np.ones((2, 3, 5)), 'lens': np.ones(3)})
    with pytest.raises(UserError, match='2 rows but 3 lens'):
        open_frames(path)


def test_refuses_files_that_are_no_features(tmp_path):
    whole = Path(fake.write_hdf5(tmp_path / 'x.hdf5', fake.fake_frames('ab')))
    (tmp_path / 'half.hdf5').write_bytes(whole.read_bytes()[:-2000])
    (tmp_path / 'empty.hdf5').write_bytes(b'')
    (tmp_path / 'text.hdf5').write_text('hello')
    (tmp_path / 'none').mkdir()
    fake.write_hdf5(tmp_path / 'no_clip.hdf5', {'max_len': 60})
    fake.write_hdf5(tmp_path / 'group.hdf5', {'train': {'a': np.ones((2, 3))}})
    np.save(tmp_path / 'one.npy', np.ones((2, 3)))
    for name, sentence in {
        'half.hdf5': 'half.hdf5 cannot be read as HDF5',
        'empty.hdf5': 'is empty',
        'text.hdf5': 'of no known layout',
        'missing.hdf5': 'does not exist',
        'none': 'holds neither .npy nor .npz files',
        'no_clip.hdf5': 'holds no clip',
        'group.hdf5': 'train is a group without feats',
        'one.npy': 'name the folder that holds one .npy per clip',
    }.items():
        with pytest.raises(UserError, match=sentence):
            open_frames(str(tmp_path / name))


def test_pickles_are_refused_unread(tmp_path):
    (tmp_path / 'bad.pkl').write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match=r'is a pickle, .* numpy\.save'):
        open_frames(str(tmp_path / 'bad.pkl'))
    objects = fake.write_npy(tmp_path / 'npy', {'a': np.array([{'feats': 1}], dtype=object)})
    with pytest.raises(UserError, match=r'a.npy holds Python objects'):
        open_frames(objects)


def test_damaged_values_are_named(tmp_path):
    path = str(tmp_path / 'x.hdf5')
    with h5py.File(path, 'w') as file:
        file['a'] = np.ones((2, 5), np.float32)
        file.create_dataset('b', data=np.ones((200, 5), np.float32), compression='gzip')
        place = file['b'].id.get_chunk_info(0).byte_offset
    damage(path, place)
    with open_frames(path) as source, pytest.raises(UserError, match='/b cannot be read as HDF5'):
        source.read('b')


@pytest.mark.parametrize('write', [fake.fake_frames, fake.fake_objects])
def test_a_damaged_entry_is_named_and_the_others_are_read(tmp_path, write):
    path = fake.write_hdf5(tmp_path / 'x.hdf5', write('abcd'))
    with h5py.File(path, 'a') as file:
        place = h5py.h5o.get_info(file['a'].id).addr
        del file['d']
        file['d'] = h5py.SoftLink('/nowhere')
    damage(path, place)
    opened = (open_frames if write is fake.fake_frames else open_objects)(path)
    with opened as source:
        assert source.keys == list('abcd')
        for key in 'ad':
            with pytest.raises(UserError, match=rf'x\.hdf5: {key} '):
                source.read(key)
        for key in 'bc':
            source.read(key)


def test_a_damaged_list_of_entries_is_one_sentence(tmp_path):
    path = fake.write_hdf5(tmp_path / 'x.hdf5', fake.fake_frames('ab'))
    damage(path, Path(path).read_bytes().index(b'TREE'))
    for open_it in (open_frames, open_objects):
        with pytest.raises(UserError, match=r'x\.hdf5 cannot be read as HDF5 \(Unable to'):
            open_it(path)


def damage(path, place):
    with Path(path).open('r+b') as file:
        file.seek(place)
        file.write(b'\xff' * 4)


def test_objects_are_refused_as_frames(tmp_path):
    clips = fake.fake_objects('ab')
    images = fake.images_of(clips)
    rows = {'vfeats': np.zeros((2, 3, 4, 5)), 'sfeats': np.zeros((2, 3, 4, 5))}
    for spec in (
        fake.write_hdf5(tmp_path / 'groups.hdf5', clips),
        fake.write_hdf5(tmp_path / 'rows.h5', rows),
        fake.write_tsv(tmp_path / 'x.tsv', images),
        fake.write_npz(tmp_path / 'npz', images),
    ):
        with pytest.raises(UserError, match='holds objects, not features of frames'):
            open_frames(spec)


def test_reads_real_features():
    for name, number, shape in (('appearance', 478, (10, 1024)), ('motion', 468, (20, 359))):
        with open_frames(str(real_data('msvd', 'features', f'{name}.hdf5'))) as source:
            assert (len(source.keys), source.width) == (number, shape[1])
            assert {source.read(key).shape for key in source.keys} == {shape}
    with open_grid(str(real_data('msvd', 'features', 'grid_lite0.hdf5'))) as source:
        assert (len(source.keys), source.step) == (478, (16, 320))
    with open_frames(str(real_data('features_of_others', 'msvd_vgg16_fc7'))) as source:
        assert '_9iG5Ge01PM_3_11' in source.keys
        assert {source.read(key).shape for key in source.keys} == {(80, 4096)}
    with pytest.raises(UserError, match='weights_only=True'):
        open_frames(str(real_data('features_of_others', 'video_features')))


def test_the_lines_in_the_docs_convert_real_torch_files(tmp_path, monkeypatch):
    torch = pytest.importorskip('torch')
    folder = tmp_path / 'features'
    shutil.copytree(real_data('features_of_others', 'video_features'), folder)
    torch.save(torch.ones(3, 5, dtype=torch.bfloat16), folder / 'b_clip.pt')
    monkeypatch.chdir(tmp_path)
    blocks = (ROOT / 'docs' / 'data.md').read_text().split('```')
    (lines,) = (block for block in blocks if 'torch.load' in block and block.startswith('python'))
    exec(lines.removeprefix('python'), {})
    for name, shape in (('resnet', (18, 2048)), ('s3d', (11, 1024)), ('r21d', (44, 512))):
        found = read_all(f'{folder}:{name}')
        assert {key: values.shape for key, values in found.items()} == {'v_GGSY1Qvo990': shape}
    (folder / 'v_GGSY1Qvo990_clip.npy').unlink()  # of another width than b
    assert read_all(f'{folder}:clip')['b'].tolist() == [[1] * 5] * 3
