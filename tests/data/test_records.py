import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stg_jax.data import captions, records
from stg_jax.data.manifest import Manifest, check_manifest
from stg_jax.errors import UserError
from tests.fakes.fake_data import fake_clips, fake_data_config, fake_data_folder

ROOT = Path(__file__).parents[2]


def write(folder, clips, **options):
    splits = clips if isinstance(clips, dict) else {'train': clips}
    return records.write_data_folder(folder, splits, data_set='x', extractor={}, **options)


def change(clip, **arrays):
    """Return `clip` with some entries of its arrays set: kind=(index, value)."""
    changed = {}
    for kind, (index, value) in arrays.items():
        changed[kind] = getattr(clip, kind).copy()
        changed[kind][index] = value
    return dataclasses.replace(clip, **changed)


def test_reads_what_was_written(tmp_path):
    clips = fake_clips(9)
    clips[2] = dataclasses.replace(clips[2], true_box=np.full((4, 2, 4), 0.5, np.float32))
    write(tmp_path / 'data', clips, shard_bytes=2000)
    assert len(list((tmp_path / 'data').glob('*train.tfrecord*'))) > 2
    read = list(records.read_clips(tmp_path / 'data', 'train'))
    assert len(read) == len(clips)
    for clip, back in zip(clips, read, strict=True):
        for field in dataclasses.fields(clip):
            value, stored = getattr(clip, field.name), getattr(back, field.name)
            if field.name in ('appearance', 'motion', 'object'):
                value = value.astype(np.float16)
            np.testing.assert_array_equal(stored, value, err_msg=field.name, strict=True)


def test_plain_tfds_opens_the_folder_without_our_code(tmp_path):
    folder = fake_data_folder(tmp_path, train=5)
    code = (
        'import sys, tensorflow_datasets as tfds\n'
        f'builder = tfds.builder_from_directory({str(folder)!r})\n'
        'rows = list(tfds.as_numpy(builder.as_dataset(split="train")))\n'
        'assert builder.info.splits["val"].num_examples == 3\n'
        'assert not any(name.startswith("stg_jax") for name in sys.modules)\n'
        'print(*sorted(row["id"].decode() for row in rows), rows[0]["appearance"].dtype)\n'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout.split() == [f'train_{i}' for i in range(5)] + ['float16'], run.stderr


def test_streams_one_clip_at_a_time(tmp_path):
    clips = fake_clips(6)
    seen = []

    def stream():
        for clip in clips:
            shards = list(tmp_path.glob('.data*/clips-train*'))
            seen.append(len(shards))
            yield clip

    write(tmp_path / 'data', {'train': stream()}, shard_bytes=1)
    assert seen == list(range(6))


def test_manifest_counts_and_measures_the_train_split(tmp_path):
    train, val = fake_clips(8, prefix='a'), fake_clips(3, prefix='b', seed=1)
    missing = {'motion': ['a3']}
    manifest = write(tmp_path / 'data', {'train': train, 'val': val}, missing=missing)
    assert manifest == Manifest.load(tmp_path / 'data')
    assert manifest.splits['train'] == {'clips': 8, 'captions': sum(len(c.captions) for c in train)}
    assert manifest.missing == missing
    assert (manifest.frames, manifest.objects) == (4, 3)
    expected = {
        'appearance': np.concatenate([clip.appearance for clip in train]),
        'motion': np.concatenate([clip.motion for clip in train if clip.id != 'a3']),
        'object': np.concatenate([clip.object[clip.object_mask] for clip in train]),
    }
    for kind, values in expected.items():
        assert manifest.widths[kind] == values.shape[-1]
        deviation = values.astype(np.float16).astype(np.float64).std()
        assert manifest.scale[kind] == pytest.approx(deviation, rel=1e-9)


def test_scale_is_one_where_nothing_varies(tmp_path):
    clips = [dataclasses.replace(clip, motion=clip.motion * 0) for clip in fake_clips(2)]
    assert write(tmp_path / 'data', clips).scale['motion'] == 1.0


def test_captions_are_stored_normalised_and_wordless_ones_counted(tmp_path, caplog):
    clip = dataclasses.replace(fake_clips(1)[0], captions=("It's a DOG!", '...', ' Two  men '))
    manifest = write(tmp_path / 'data', [clip])
    assert manifest.splits['train']['captions'] == 2
    expected = {'clip0': ['it s a dog', 'two men']}
    assert captions.read_captions(tmp_path / 'data', 'train') == expected
    assert 'train: left out 1 captions' in caplog.text


def test_captions_file_follows_the_order_of_the_shards(tmp_path):
    folder = fake_data_folder(tmp_path, shard_bytes=2000)
    clips = {clip.id: list(clip.captions) for clip in records.read_clips(folder, 'train')}
    assert list(captions.read_captions(folder, 'train').items()) == list(clips.items())


CLIP = fake_clips(1)[0]  # its last frame is empty, its first one full
BROKEN = [
    (change(CLIP, appearance=((0, 0), np.nan)), 'clip0: appearance features hold NaN'),
    (change(CLIP, motion=((1, 2), np.inf)), 'clip0: motion features hold NaN or inf'),
    (change(CLIP, object=((0, 0, 0), 1e5)), 'clip0: object features reach 100000.*float16'),
    (change(CLIP, object=((-1, 0, 0), 1.0)), 'clip0: object must be 0 where object_mask is False'),
    (change(CLIP, score=((-1, 0), 0.5)), 'clip0: score must be 0 where'),
    (change(CLIP, label=((-1, 0), 3)), 'clip0: label must be -1 where'),
    (change(CLIP, box=((0, 0, 3), 1.5)), 'clip0: box leaves'),
    (change(CLIP, box=((0, 0), (0.5, 0.1, 0.2, 0.3))), 'clip0: box must be x1 y1 x2 y2'),
    (change(CLIP, box=((0, 0, 3), np.nan)), 'clip0: box leaves'),
    (change(CLIP, score=((0, 0), 1.5)), 'clip0: score leaves'),
    (dataclasses.replace(CLIP, motion=CLIP.motion[:3]), r'clip0: motion has shape \(3, 6\)'),
    (
        dataclasses.replace(CLIP, motion=np.full_like(CLIP.motion, 1e-9)),
        'clip0: motion features reach only 1e-09, which float16 rounds to 0',
    ),
    (dataclasses.replace(CLIP, captions=()), 'clip0 of the train split has no caption'),
    (dataclasses.replace(CLIP, captions=('!',)), 'clip0 of the train split has no caption'),
    (dataclasses.replace(CLIP, id=''), 'empty id'),
]


@pytest.mark.parametrize(('clip', 'sentence'), BROKEN)
def test_refuses_a_broken_clip_and_leaves_nothing_behind(tmp_path, clip, sentence):
    with pytest.raises(UserError, match=sentence):
        write(tmp_path / 'data', [clip])
    assert not list(tmp_path.iterdir())


def test_refuses_clips_that_do_not_agree(tmp_path):
    one, two = fake_clips(2)
    wide = dataclasses.replace(two, motion=np.zeros((4, 7), np.float32))
    with pytest.raises(UserError, match=r'clip1: motion has shape \(4, 7\), but clip clip0 has'):
        write(tmp_path / 'data', [one, wide])
    with pytest.raises(UserError, match='two clips have the id clip0'):
        write(tmp_path / 'data', {'train': [one], 'val': [one]})
    with pytest.raises(UserError, match='no clip'):
        write(tmp_path / 'data', {'train': []})
    (tmp_path / 'data').mkdir()
    with pytest.raises(UserError, match='exists already'):
        write(tmp_path / 'data', [one])


def test_config_must_fit_the_manifest(tmp_path):
    folder = fake_data_folder(tmp_path)
    manifest, config = Manifest.load(folder), fake_data_config(folder)
    check_manifest(manifest, config)
    config.objects = 1
    check_manifest(manifest, config)
    config.update(appearance_dim=2048, objects=9, frames=10)
    with pytest.raises(UserError) as error:
        check_manifest(manifest, config)
    for flag in ('appearance_dim=8', 'objects=3', 'frames=4'):
        assert f'--config.data.{flag}' in str(error.value)
    assert 'motion' not in str(error.value)


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    return fake_data_folder(tmp_path_factory.mktemp('sound'), train=8, shard_bytes=2000)


def cut(size):
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def flip(place):
    def damage(path):
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)

    return damage


def drop_last_record(path):
    data, start, starts = path.read_bytes(), 0, []
    while start < len(data):
        starts.append(start)
        start += 16 + int.from_bytes(data[start : start + 8], 'little')
    path.write_bytes(data[: starts[-1]])


@pytest.mark.parametrize(
    ('damage', 'sentence'),
    [
        (cut(-10), 'damaged at record 3 of 3'),
        (cut(100), 'damaged at record 1 of 3'),
        (cut(0), 'ends before record 1 of 3'),
        (drop_last_record, 'ends before record 3 of 3'),
        (flip(500), 'damaged at record 1 of 3'),
        (flip(0), 'damaged at record 1 of 3'),
        (flip(-100), 'damaged at record 3 of 3'),
        (lambda path: path.unlink(), 'is missing'),
        (lambda path: path.write_bytes(path.read_bytes() * 2), 'holds 6 records instead of 3'),
    ],
)
def test_names_shard_and_record_of_a_damage(sound, tmp_path, damage, sentence):
    folder = tmp_path / 'data'
    shutil.copytree(sound, folder)
    damage(folder / 'clips-train.tfrecord-00001')
    with pytest.raises(UserError, match=f'tfrecord-00001 .*{sentence}'):
        list(records.read_clips(folder, 'train'))


def test_refuses_a_folder_that_is_none(sound, tmp_path):
    with pytest.raises(UserError, match=r'nowhere.* does not exist, seen from .*: start'):
        captions.read_captions(tmp_path / 'nowhere', 'train')
    with pytest.raises(UserError, match="data folder '' does not exist"):
        captions.read_captions('', 'train')
    with pytest.raises(UserError, match='json does not exist'):
        captions.read_captions(tmp_path, 'train')
    with pytest.raises(UserError, match="no split 'dev': it holds train, val, test"):
        captions.read_captions(sound, 'dev')
    folder = tmp_path / 'data'
    shutil.copytree(sound, folder)
    (folder / 'captions-train.jsonl').write_text('["train_0", ["a"]]\n')
    with pytest.raises(UserError, match='names 1 clips, but the manifest 8'):
        captions.read_captions(folder, 'train')
    (folder / 'captions-train.jsonl').write_text('["train_0", [')
    with pytest.raises(UserError, match=r'captions-train.jsonl is damaged'):
        captions.read_captions(folder, 'train')
    (folder / 'dataset_info.json').unlink()
    with pytest.raises(UserError, match=r'dataset_info.json is missing'):
        list(records.read_clips(folder, 'train'))


@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
@pytest.mark.parametrize('text', ['', '{', '[]', '{}', '{"pythonClassName": "x"}'])
def test_damaged_metadata_is_one_sentence(tmp_path, name, text):
    folder = fake_data_folder(tmp_path)
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=r'the metadata of .*data is damaged .*prepare') as refused:
        list(records.read_clips(folder, 'train'))
    assert '\n' not in str(refused.value)


def test_records_of_another_schema_are_refused(tmp_path):
    wide = fake_data_folder(tmp_path, name='wide', objects=4)
    folder = fake_data_folder(tmp_path)
    (folder / 'features.json').write_text((wide / 'features.json').read_text())
    with pytest.raises(UserError, match=r"split 'train' do not agree with features.json"):
        list(records.read_clips(folder, 'train'))


def test_equal_clips_are_equal_bytes_in_another_process(tmp_path):
    code = (
        'import pathlib, sys; from tests.fakes.fake_data import fake_data_folder; '
        'fake_data_folder(pathlib.Path(sys.argv[1]))'
    )
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        subprocess.run([sys.executable, '-c', code, tmp_path / name], cwd=ROOT, check=True)
    for path in (tmp_path / 'one' / 'data').iterdir():
        assert path.read_bytes() == (tmp_path / 'two' / 'data' / path.name).read_bytes()
