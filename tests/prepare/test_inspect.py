import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from stg_jax.datasets.base import Annotations
from stg_jax.datasets.registry import read_annotations
from stg_jax.errors import UserError
from stg_jax.feature_files.open import open_frames
from stg_jax.prepare.inspect.path import inspect
from tests.fakes import fake_features as fake
from tests.fakes import fake_video
from tests.fakes.fake_data import fake_data_folder
from tests.fakes.real_data import real_data

NAMES = ['a_0_5', 'b_1_9', 'c_2_7', 'd_3_4']
CAPTIONED = Annotations(
    data_set='msvd',
    splits={'train': {'a_0_5': ['a dog runs'], 'b_1_9': ['a cat sits']}, 'test': {'c_2_7': ['x']}},
    number={name: number for number, name in enumerate(NAMES)},
    source={},
    notes=[],
)


def test_tells_everything_about_rows_of_two_networks(tmp_path):
    feats = np.ones((4, 26, 2560), np.float32)
    path = fake.write_hdf5(tmp_path / 'x.h5', {'feats': feats, 'lens': np.array([26, 9, 0, 26])})
    lines = inspect(path, CAPTIONED, None).splitlines()
    assert lines[0] == f'{path}: HDF5, a row per clip (RMN, GL-RG)'
    assert '  feats: float32 (4, 26, 2560)' in lines
    assert "3 clips: '0', '1', '3'" in lines
    assert 'width: 2560' in lines
    assert 'steps: 9 to 26 (in 3 sampled clips)' in lines
    assert 'note: 1 rows have no valid step: left out' in lines
    assert 'ids: index0; 2 of 3 captioned clips are here' in lines
    assert "captioned clips that are not here: 1: 'c_2_7'" in lines
    assert "keys of clips without captions: 1: '3'" in lines
    assert lines[-1].startswith(f'pass it as: --appearance={path}:0-1536 --motion={path}:1536-2560')


def test_tells_everything_about_objects(tmp_path):
    clips = fake.fake_objects(['vid1', 'vid2', 'vid7'])
    clips['vid2']['labels'][0, 1:] = -1
    path = fake.write_hdf5(tmp_path / 'x.h5', clips, height=120, width=160)
    lines = inspect(path, CAPTIONED, None).splitlines()
    assert any('feats float32 (3, 4, 5)' in line and 'height = 120' in line for line in lines)
    assert 'objects in a step: 1 to 4 (in 3 sampled clips)' in lines
    assert 'ids: vidK; 2 of 3 captioned clips are here' in lines
    assert "keys that mean no clip: 1: 'vid7'" in lines
    assert lines[-1] == f'pass it as: --objects={path}'


def test_names_a_clip_that_cannot_be_read(tmp_path):
    clips = {'a_0_5': np.ones((2, 3)), 'b_1_9': np.full((2, 3), np.nan)}
    text = inspect(fake.write_hdf5(tmp_path / 'x.h5', clips), CAPTIONED, None)
    assert 'problem: 1 clips of 2 cannot be read: ' in text and 'b_1_9 holds NaN' in text


def test_shows_what_is_left_of_a_damaged_file(tmp_path):
    path = fake.write_hdf5(tmp_path / 'x.h5', fake.fake_frames('abc'))
    with h5py.File(path, 'a') as file:
        del file['a']
        file['a'] = h5py.SoftLink('/nowhere')
    text = inspect(path, None, None)
    assert f'  {path}: a cannot be read as HDF5' in text and '  b: float32 (3, 5)' in text
    assert 'problem: 1 clips of 3 cannot be read' in text and f'as: --appearance={path}' in text
    content = Path(path).read_bytes()
    Path(path).write_bytes(content.replace(b'TREE', b'\xff' * 4))
    with pytest.raises(UserError, match=r'x\.h5 cannot be read as HDF5'):
        inspect(path, None, None)


@pytest.mark.parametrize(
    ('keys', 'looks'),
    [
        (['vid1', 'vid20'], 'vidK'),
        (['video0', 'video9'], 'videoN'),
        (['0', '1'], 'index0'),
        (['1', '2'], 'index0 or index1'),
        (['video1', 'video2'], 'videoN or videoK'),
        (NAMES, 'name'),
    ],
)
def test_guesses_ids_from_their_looks(tmp_path, keys, looks):
    text = inspect(fake.write_hdf5(tmp_path / 'x.h5', fake.fake_frames(keys)), None, None)
    assert f'ids: look like {looks}; give --annotations' in text


def test_a_forced_scheme_is_used_and_a_wrong_one_told(tmp_path):
    path = fake.write_hdf5(tmp_path / 'x.h5', fake.fake_frames(['1', '2']))
    assert 'ids: index0; 2 of 3' in inspect(path, CAPTIONED, None)
    assert 'ids: index1; 2 of 3' in inspect(path, CAPTIONED, 'index1')
    assert 'ids: none of 2 keys' in inspect(path, CAPTIONED, 'vidK')


def test_knows_the_files_beside_region_features(tmp_path):
    boxes = fake.write_hdf5(tmp_path / 'x.h5', {'1': np.ones((9, 4))})
    sizes = fake.write_hdf5(tmp_path / 'y.h5', {'1': np.array([240, 320, 3])})
    assert f'as: --boxes={boxes}' in inspect(boxes, None, None)
    assert f'as: --frame_sizes={sizes}' in inspect(sizes, None, None)
    feats = fake.write_hdf5(tmp_path / 'msvd_roi_feat.h5', {'1': np.ones((9, 5))})
    assert f'as: --objects={feats}' in inspect(feats, None, None)
    nodes = {f'vid{clip}-{frame}': np.ones((9, 5)) for clip in (1, 2) for frame in range(3)}
    text = inspect(fake.write_hdf5(tmp_path / 'z.h5', nodes), CAPTIONED, None)
    assert 'steps: 3 (in 2 sampled clips)' in text and 'ids: vidK; 2 of 3' in text


def test_numbered_clips_are_no_frames(tmp_path):
    names = [f'video_{number:03}' for number in range(1, 41)]
    captions = Annotations('own', {'train': {name: ['x'] for name in names}}, {}, {}, [])
    frames = fake.write_hdf5(tmp_path / 'x.h5', fake.fake_frames(names, steps=12, width=64))
    regions = fake.write_hdf5(tmp_path / 'regions.h5', fake.fake_frames(names))
    for path, flag in ((frames, '--appearance'), (regions, '--objects')):
        assert '40 clips: ' in inspect(path, None, None)
        text = inspect(path, captions, None)
        assert 'ids: name; 40 of 40' in text and f'pass it as: {flag}={path}' in text


def test_knows_folders_and_tables(tmp_path):
    clips = fake.fake_objects(['a_0_5', 'b_1_9'])
    npz = fake.write_npz(tmp_path / 'npz', fake.images_of(clips, '/'))
    tsv = fake.write_tsv(tmp_path / 'x.tsv.gz', fake.images_of(clips))
    npy = fake.write_npy(tmp_path / 'npy', fake.fake_frames(['a_0_5', 'b_1_9']))
    for path, entry, flag in (
        (npz, 'a_0_5/0.npz: x float32 (4, 5), bbox float32 (4, 4), num_bbox int64 ()', '--objects'),
        (tsv, 'number 4, boxes float32 (4, 4), features float32 (4, 5)', '--objects'),
        (npy, 'a_0_5.npy: float32 (3, 5)', '--appearance'),
    ):
        text = inspect(path, CAPTIONED, None)
        assert entry in text and 'ids: name; 2 of 3' in text and f'as: {flag}={path}' in text


def test_describes_one_archive_of_all_clips(tmp_path):
    path = tmp_path / 'all.npz'
    np.savez(path, **fake.fake_frames(['vid1', 'vid2']))
    text = inspect(str(path), CAPTIONED, None)
    assert '  vid1: float32 (3, 5)' in text and 'ids: vidK; 2 of 3' in text
    assert f'pass it as: --appearance={path}' in text


def test_says_how_to_choose_among_several_features(tmp_path):
    folder = fake.write_npy(tmp_path / 'i3d', {'a_rgb': np.ones((2, 3)), 'a_flow': np.ones((2, 3))})
    assert f'choose some by writing {folder}:' in inspect(folder, None, None)


def test_describes_captions_and_names_what_is_broken_in_them(tmp_path):
    path = tmp_path / 'own.csv'
    path.write_text('clip,caption,split\na,a dog runs,train\na,a dog,train\nb,a cat,test\n')
    text = inspect(str(path), None, None)
    assert 'train: 1 clips with 2 captions' in text
    assert f'pass it as: own --annotations={path}' in text
    path.write_text('clip,text\na,a dog runs\n')
    with pytest.raises(UserError, match="line 1 must name the column 'caption'"):
        inspect(str(path), None, None)
    path = tmp_path / 'videodatainfo.json'
    path.write_text(json.dumps({'sentences': 3}))
    with pytest.raises(UserError, match=r'videodatainfo\.json'):
        inspect(str(path), None, None)


def test_no_text_file_is_a_video(tmp_path):
    path = tmp_path / 'youtube_mapping.txt'
    path.write_text(''.join(f'{name} vid{number}\n' for number, name in enumerate(NAMES, 1)))
    with pytest.raises(UserError, match='is not called like MSVD captions'):
        inspect(str(path), None, None)


def test_describes_a_data_folder(tmp_path):
    lines = inspect(str(fake_data_folder(tmp_path, train=4)), None, None).splitlines()
    assert 'a data folder of fake' in lines[0] and 'appearance 8, motion 6, object 5' in lines[1]
    assert lines[3].startswith('train: 4 clips with ')


def test_says_that_pickles_are_not_read(tmp_path):
    path = tmp_path / 'x.pkl'
    path.write_bytes(b'\x80\x04N.')
    with pytest.raises(UserError, match='is a pickle, which can run programs'):
        inspect(str(path), None, None)


def test_names_a_pickle_within_an_archive_and_an_archive_that_is_damaged(tmp_path):
    images = fake.images_of(fake.fake_objects(['a', 'b']))
    folder = fake.write_npz(tmp_path / 'npz', images, info=np.array([{}], dtype=object))
    path = Path(folder) / 'a_10.npz'
    content = path.read_bytes()
    path.write_bytes(content[:50] + b'\xff' * 20 + content[70:])
    text = inspect(folder, None, None)
    assert 'a_0.npz: x float32 (4, 5)' in text and 'info pickle (1,)' in text
    assert 'a_10.npz: not readable (' in text


def test_counts_the_hdf5_files_of_a_folder(tmp_path):
    for name in ('train.hdf5', 'test.hdf5'):
        fake.write_hdf5(tmp_path / name, fake.fake_frames('ab'))
    (tmp_path / 'notes').mkdir()
    with pytest.raises(UserError, match='holds 2 HDF5 files: inspect each'):
        inspect(str(tmp_path), None, None)
    with pytest.raises(UserError, match='holds 2 HDF5 files: inspect each'):
        open_frames(str(tmp_path))


def test_names_files_of_no_known_kind(tmp_path):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'noise').write_bytes(bytes(range(256)))
    (tmp_path / 'empty').touch()
    for name, sentence in (
        ('noise', 'of no known layout: .* is no readable video'),
        ('folder', 'holds neither .npy nor .npz files: .* holds no video file'),
        ('missing', 'does not exist'),
        ('empty', 'is empty: copy it again'),
    ):
        with pytest.raises(UserError, match=sentence):
            inspect(str(tmp_path / name), None, None)


def test_inspects_the_real_folder():
    annotations = read_annotations('msvd', real_data('msvd', 'annotations'))

    def seen(*parts):
        return inspect(str(real_data(*parts)), annotations, None)

    # The 378 clips of splits.json have captions and features; 10 of the 478 have no motion.
    assert 'ids: name; 378 of 1371' in seen('msvd', 'features', 'appearance.hdf5')
    assert '468 clips: ' in seen('msvd', 'features', 'motion.hdf5')
    assert 'height = 480, width = 854' in seen('msvd', 'features', 'objects.hdf5')
    assert 'ids: name; 4 of 1371' in seen('features_of_others', 'msvd_vgg16_fc7')
    regions = seen('features_of_others', 'bottom_up_obj36.tsv.gz')
    assert 'boxes float32 (36, 4), features float32 (36, 2048)' in regions
    with pytest.raises(UserError, match='holds pickles'):
        seen('features_of_others', 'video_features')
    number = len(list(real_data('msvd', 'features').glob('*.hdf5')))
    with pytest.raises(UserError, match=f'holds {number} HDF5 files: inspect each'):
        seen('msvd', 'features')
    torch = 'v_GGSY1Qvo990_resnet101_None_1_resnet.pt'
    with pytest.raises(UserError, match='is a PyTorch file'):
        seen('features_of_others', 'video_features', torch)
    assert '22 video files' in seen('videos')
    assert '280 frames, 20.00 a second, 1280 x 720' in seen('videos', 'imageio_cockatoo.mp4')
    assert 'test: 2990 clips with 59800 captions' in seen('msrvtt', 'test_videodatainfo.json.zip')


@pytest.mark.parametrize('columns', [6, 10])
def test_a_video_is_no_table_however_many_tabs_its_first_line_has(tmp_path, columns):
    path = fake_video.write_video(tmp_path / 'v.ts', fake_video.grey_ramp(4))
    # FFmpeg searches a transport stream for its first packet, whatever comes before it.
    path.write_bytes(b'\t'.join([b'\x00\x01'] * columns) + b'\n' + path.read_bytes())
    assert 'a video of 4 frames' in inspect(str(path), None, None)
