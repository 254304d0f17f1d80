import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.feature_files.open import open_objects
from tests.fakes import fake_features as fake
from tests.fakes.real_data import real_data


def read_all(spec, **others):
    with open_objects(spec, **others) as source:
        return {key: source.read(key) for key in source.keys}, source.warnings


def assert_same(found, clips, *, scores=True, labels=True, boxes=True):
    """Check the objects of every clip against what was written; the rest has its default."""
    assert list(found) == sorted(clips)
    for key, arrays in clips.items():
        objects = found[key]
        np.testing.assert_array_equal(objects.feature, arrays['feats'])
        box = arrays['boxes'] if boxes else np.broadcast_to([0, 0, 1, 1], objects.box.shape)
        np.testing.assert_allclose(objects.box, box, atol=1e-6)
        np.testing.assert_array_equal(objects.score, arrays['scores'] if scores else 1)
        np.testing.assert_array_equal(objects.label, arrays['labels'] if labels else -1)
        assert objects.mask.all()


def test_all_layouts_with_boxes_of_the_same_numbers_read_the_same(tmp_path):
    clips = fake.fake_objects(['0', '1'])
    sizes = np.ones((3, 4, 1))
    rows = {
        'vfeats': np.stack([arrays['feats'] for arrays in clips.values()]),
        'sfeats': np.stack(
            [np.concatenate([arrays['boxes'], sizes], axis=-1) for arrays in clips.values()]
        ),
    }
    assert_same(read_all(fake.write_hdf5(tmp_path / 'groups.hdf5', clips))[0], clips)
    no_label = {'scores': False, 'labels': False}
    assert_same(read_all(fake.write_hdf5(tmp_path / 'rows.h5', rows))[0], clips, **no_label)
    for number, separator in enumerate('_-/'):
        images = fake.images_of(clips, separator)
        tsv, packed = tmp_path / f'{number}.tsv', tmp_path / f'{number}.tsv.gz'
        for path in (
            fake.write_tsv(tsv, images),
            fake.write_tsv(packed, images, height_first=True),
            fake.write_npz(tmp_path / f'npz{number}', images),
            fake.write_npz(tmp_path / f'transposed{number}', images, transpose=True),
        ):
            found, warnings = read_all(path)
            assert_same(found, clips, **no_label)
            assert (found['0'].height, found['0'].width) == (fake.HEIGHT, fake.FRAME_WIDTH)
            assert not warnings
        lxmert = fake.write_tsv(tmp_path / f'lxmert{number}', images, lxmert=True)
        assert_same(read_all(lxmert)[0], clips)


def test_files_of_one_frame_say_that_they_have_no_time(tmp_path):
    clips = fake.fake_objects(['7', '8'], steps=1)
    flat = {clip: {k: v[0] for k, v in arrays.items()} for clip, arrays in clips.items()}
    sentence = 'one step of objects a clip'
    found, warnings = read_all(fake.write_hdf5(tmp_path / 'groups.hdf5', flat))
    assert_same(found, clips)
    assert [sentence in warning for warning in warnings] == [True]
    for path in (fake.write_tsv(tmp_path / 'x.tsv', flat), fake.write_npz(tmp_path / 'npz', flat)):
        found, warnings = read_all(path)
        assert_same(found, clips, scores=False, labels=False)
        assert [sentence in warning for warning in warnings] == [True]


def test_boxes_and_frame_sizes_of_saat_come_from_their_own_files(tmp_path):
    clips = fake.fake_objects(['7', '8'], steps=1)
    feats = fake.write_hdf5(tmp_path / 'feat.h5', {k: v['feats'][0] for k, v in clips.items()})
    pixels = {k: fake.in_pixels(v['boxes'][0]) for k, v in clips.items()}
    boxes = fake.write_hdf5(tmp_path / 'box.h5', pixels)
    shape = np.array([fake.HEIGHT, fake.FRAME_WIDTH, 3])
    sizes = fake.write_hdf5(tmp_path / 'fr_size.h5', dict.fromkeys(clips, shape))
    found, _ = read_all(feats, boxes=boxes, frame_sizes=sizes)
    assert_same(found, clips, scores=False, labels=False)
    assert found['7'].height == fake.HEIGHT
    with pytest.raises(UserError, match=r'feat.h5: 7 has boxes in pixels .* as --frame_sizes'):
        read_all(feats, boxes=boxes)
    wrong = fake.write_hdf5(tmp_path / 'wrong.h5', dict.fromkeys(clips, np.array([3, 0])))
    with pytest.raises(UserError, match=r'wrong.h5: 7 is no frame size'):
        read_all(feats, boxes=boxes, frame_sizes=wrong)
    half = fake.write_hdf5(tmp_path / 'half.h5', {'7': pixels['7']})
    with pytest.raises(UserError, match=r'half.h5: 8 does not exist'):
        read_all(feats, boxes=half, frame_sizes=sizes)


def test_objects_without_boxes_get_the_whole_frame_and_a_warning(tmp_path):
    clips = fake.fake_objects(['a', 'b'], steps=1)
    flat = {clip: arrays['feats'][0] for clip, arrays in clips.items()}
    groups = {clip: {'feats': values} for clip, values in flat.items()}
    for name, entries in (('plain.hdf5', flat), ('groups.hdf5', groups)):
        found, warnings = read_all(fake.write_hdf5(tmp_path / name, entries))
        assert_same(found, clips, scores=False, labels=False, boxes=False)
        assert any('no boxes' in warning for warning in warnings)


def test_nodes_of_a_frame_join_their_clip_and_zeros_are_absent(tmp_path):
    clips = fake.fake_objects(['vid1', 'vid2'], steps=11)
    for arrays in clips.values():
        arrays['feats'][:, 2:] = 0
    nodes = {
        f'{clip}-{frame}': values
        for clip, arrays in clips.items()
        for frame, values in enumerate(arrays['feats'])
    }
    found, _ = read_all(fake.write_hdf5(tmp_path / 'nodes.h5', nodes))
    for clip, arrays in clips.items():
        # Frames are in the order of their numbers, not of their names: 10 after 9.
        np.testing.assert_array_equal(found[clip].feature, arrays['feats'])
        assert found[clip].mask.tolist() == [[True, True, False, False]] * 11
        assert not found[clip].box[~found[clip].mask].any()


def test_steps_of_zeros_at_the_end_of_a_row_are_padding(tmp_path):
    feats = np.ones((2, 6, 4, 5), np.float32)
    feats[0, 4:] = 0
    feats[1, 2] = 0
    boxes = np.tile(np.float32([0, 0, 1, 1, 1]), (2, 6, 4, 1))
    found, _ = read_all(fake.write_hdf5(tmp_path / 'x.h5', {'vfeats': feats, 'sfeats': boxes}))
    assert [len(objects.mask) for objects in found.values()] == [4, 6]
    assert not found['1'].mask[2].any()


def test_negative_labels_mark_absent_objects(tmp_path):
    clips = fake.fake_objects('a')
    clips['a']['labels'][1, 2:] = -1
    path = fake.write_hdf5(tmp_path / 'x.hdf5', clips, height=120, width=160)
    with open_objects(path) as source:
        objects = source.read('a')
    assert objects.mask[1].tolist() == [True, True, False, False]
    for kind, empty in (('feature', 0), ('box', 0), ('score', 0), ('label', -1)):
        assert (getattr(objects, kind)[~objects.mask] == empty).all()
    assert (objects.height, objects.width) == (120, 160)


def test_the_pickle_in_an_npz_is_never_touched(tmp_path):
    images = fake.images_of(fake.fake_objects(['a', 'b']))
    info = np.array({'objects_id': [1]}, dtype=object)
    found, _ = read_all(fake.write_npz(tmp_path / 'npz', images, info=info))
    assert list(found) == ['a', 'b']


def test_a_picture_without_objects_is_a_step_without_objects(tmp_path):
    images = fake.images_of(fake.fake_objects(['a', 'b']))
    images['b_5'] = {kind: values[:0] for kind, values in images['b_5'].items()}
    for path in (
        fake.write_tsv(tmp_path / 'x.tsv', images),
        fake.write_tsv(tmp_path / 'lxmert.tsv', images, lxmert=True),
        fake.write_npz(tmp_path / 'npz', images),
    ):
        found, _ = read_all(path)
        assert found['b'].mask.sum(axis=1).tolist() == [4, 0, 4]


def test_a_picture_that_comes_twice_counts_once(tmp_path):
    images = fake.images_of(fake.fake_objects(['a', 'b']))
    rows = [fake.tsv_row(name, arrays) for name, arrays in images.items()]
    (tmp_path / 'x.tsv').write_bytes(b''.join([*rows, rows[0]]))
    found, warnings = read_all(str(tmp_path / 'x.tsv'))
    assert len(found['a'].mask) == 3
    assert '1 pictures come twice' in warnings[0]


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'feats': np.ones(5)}, r'b has features \(5,\), expected'),
        ({'feats': np.ones((3, 4, 6))}, 'b is 6 wide, but other clips of the file are 5 wide'),
        ({'feats': np.full((3, 4, 5), np.inf)}, 'b holds NaN or infinity'),
        ({'boxes': np.zeros((3, 3, 4))}, r'b has features \(3, 4, 5\) and boxes \(3, 3, 4\)'),
        ({'labels': np.full((3, 4), b'dog')}, r'b/labels holds .S3, expected numbers'),
        ({'labels': np.full((3, 4), 10**12)}, 'b has classes beyond 16777216'),
        ({'scores': np.ones((3, 3))}, r'and scores \(3, 3\), expected scores \(3, 4\)'),
        ({'scores': np.full((3, 4), 2)}, r'b has scores outside \[0, 1\]'),
        ({'boxes': np.full((3, 4, 4), np.nan)}, 'b holds NaN'),
        ({'boxes': np.tile([0.5, 0.5, 0.2, 0.2], (3, 4, 1))}, 'b has boxes that are not x1 y1'),
        ({'boxes': np.tile([0, 0, 300, 50], (3, 4, 1))}, 'outside the frame of 160 x 120 pixels'),
        ({'boxes': np.tile([-0.5, 0, 1, 1], (3, 4, 1))}, 'leave the frame by 50% of its side'),
        ({'boxes': np.tile([0, 0, 1.05, 1], (3, 4, 1))}, 'leave the frame by 5% of its side: clip'),
        ({'boxes': np.tile([0, 0, 2, 1], (3, 4, 1))}, 'leave the frame by 100% of its side'),
        (None, 'b is no group with feats'),
    ],
)
def test_names_the_clip_of_another_layout(tmp_path, change, sentence):
    clips = fake.fake_objects('ab')
    clips['b'] = np.zeros((3, 4)) if change is None else clips['b'] | change
    path = fake.write_hdf5(tmp_path / 'x.hdf5', clips, height=120, width=160)
    with open_objects(path) as source:
        source.read('a')
        with pytest.raises(UserError, match=sentence):
            source.read('b')
        with pytest.raises(UserError, match='no_clip'):
            source.read('no_clip')


def test_damaged_tables_are_named(tmp_path):
    images = fake.images_of(fake.fake_objects(['a', 'b']))
    rows = b''.join(fake.tsv_row(name, arrays) for name, arrays in images.items())
    for name, content, sentence in (
        ('cut', rows[:-100], 'b_10 has broken features'),
        ('short', rows[: rows.rindex(b'\t') - 5], r'b_10 has 5 columns, expected 6 or 10'),
        ('table', b'1\t2\t3\t4\t5\t6\n', r'table: 1 has broken features'),
        ('text', b'a\tb\tc\td\te\tf\n', 'is of no known layout'),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=sentence):
            read_all(str(tmp_path / name))
    packed = Path(fake.write_tsv(tmp_path / 'x.tsv.gz', images))
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(UserError, match='is a damaged gzip file'):
        read_all(str(packed))


def test_a_damaged_archive_is_the_failure_of_its_clip(tmp_path):
    images = fake.images_of(fake.fake_objects(['a', 'b']))
    folder = Path(fake.write_npz(tmp_path / 'npz', images))
    whole = (folder / 'a_0.npz').read_bytes()
    other = folder / 'other.npz'
    np.savez(other, other=np.ones(3))
    for content, sentence in (
        (whole[:-30], 'a_5.npz is damaged'),
        (other.read_bytes(), 'a_5.npz holds no features'),
        (b'', 'a_5.npz is empty'),
        (b'<!DOCTYPE html>', 'a_5.npz is a web page'),
    ):
        (folder / 'a_5.npz').write_bytes(content)
        other.unlink(missing_ok=True)
        with open_objects(str(folder)) as source:
            with pytest.raises(UserError, match=sentence):
                source.read('a')
            assert len(source.read('b').mask) == 3


def test_frames_are_refused_as_objects(tmp_path):
    frames = fake.fake_frames('ab')
    vectors = {clip: values[0] for clip, values in frames.items()}
    for spec in (
        fake.write_hdf5(tmp_path / 'rows.h5', {'feats': np.ones((2, 3, 5))}),
        fake.write_hdf5(tmp_path / 'vectors.h5', vectors),
        fake.write_npy(tmp_path / 'npy', frames),
    ):
        with pytest.raises(UserError, match='features of frames'):
            open_objects(spec)
    # Arrays (n, D) may be either: they are read, and the doubt is told.
    _, warnings = read_all(fake.write_hdf5(tmp_path / 'clips.hdf5', frames))
    assert any('if they are frames' in warning for warning in warnings)
    with pytest.raises(UserError, match=r'groups.hdf5 holds its own boxes: leave --boxes out'):
        open_objects(
            fake.write_hdf5(tmp_path / 'groups.hdf5', fake.fake_objects('ab')),
            boxes=str(tmp_path / 'clips.hdf5'),
        )


def test_reads_real_objects():
    found, warnings = read_all(str(real_data('msvd', 'features', 'objects.hdf5')))
    assert len(found) == 478 and not warnings
    per_frame = np.concatenate([objects.mask.sum(axis=1) for objects in found.values()])
    shares = np.bincount(per_frame, minlength=6) / len(per_frame)
    # As published with the file: 0 in 5 % of frames, 1: 13 %, ... 5: 36 %.
    np.testing.assert_allclose(shares, [0.05, 0.13, 0.16, 0.16, 0.14, 0.36], atol=0.006)
    found, warnings = read_all(str(real_data('features_of_others', 'bottom_up_obj36.tsv.gz')))
    assert list(found) == [f'COCO_train2014_000000{n}' for n in (132417, 573195, 578174)]
    assert {objects.feature.shape for objects in found.values()} == {(1, 36, 2048)}
    assert (found['COCO_train2014_000000132417'].width, len(warnings)) == (500, 1)
    for objects in found.values():
        assert objects.box.max() > 0.9 and (objects.box[..., 2:] > objects.box[..., :2]).all()


READ_ALL = """
import resource, sys
from stg_jax.feature_files.open import open_objects
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_objects(sys.argv[1]) as source:
    for key in source.keys:
        source.read(key)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_reading_all_clips_needs_the_memory_of_a_few(tmp_path):
    shape = (120, 10, 36, 256)
    path = fake.write_hdf5(
        tmp_path / 'x.h5',
        {'vfeats': np.ones(shape, np.float32), 'sfeats': np.ones((*shape[:3], 5))},
    )
    run = subprocess.run(
        [sys.executable, '-c', READ_ALL, path], capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform == 'darwin' else 1024
    assert int(run.stdout) * unit < 0.25 * 4 * np.prod(shape)
