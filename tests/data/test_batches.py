import collections
import itertools
import shutil

import numpy as np
import pytest

from stg_jax.data import batches, records
from stg_jax.data.batches import (
    eval_batches,
    even_batch_size,
    open_clips,
    steps_per_epoch,
    train_batches,
)
from stg_jax.data.manifest import Manifest
from stg_jax.data.tf import tf
from stg_jax.data.vocab import BOS, EOS, PAD, Vocabulary
from stg_jax.errors import UserError
from tests.fakes.fake_data import MOTION, fake_data_config, fake_data_folder

NUM_CLIPS = 7


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return fake_data_folder(tmp_path_factory.mktemp('x'), train=NUM_CLIPS, shard_bytes=2000)


@pytest.fixture(scope='module')
def clips(folder):
    return {clip.id: clip for clip in records.read_clips(folder, 'train')}


@pytest.fixture(scope='module')
def vocab(clips):
    return Vocabulary.build([text for clip in clips.values() for text in clip.captions], 2)


@pytest.fixture
def config(folder):
    return fake_data_config(folder)


def epoch(config, vocab, *, clips_per_batch=4, seed=5, epoch=0, **options):
    options |= {'clips_per_batch': clips_per_batch, 'seed': seed, 'epoch': epoch}
    return list(train_batches(open_clips(config, vocab, 'train'), **options))


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key, strict=True)


def rows_of(stream):
    """Yield {key: value of one row} for every real row."""
    for batch in stream:
        for i, clip_id in enumerate(batch['id']):
            if clip_id:
                yield {key: batch[key][i] for key in batch}


def orders(stream):
    """Return the ids of every pass."""
    ids = [row['id'] for row in rows_of(stream)]
    return [ids[i : i + NUM_CLIPS] for i in range(0, len(ids), NUM_CLIPS)]


@pytest.mark.parametrize('num_captions', [1, 9])
@pytest.mark.parametrize('clips_per_batch', [1, 4, 16])
def test_every_pass_shows_every_clip_once(config, folder, vocab, num_captions, clips_per_batch):
    config.captions_per_clip = num_captions
    stream = epoch(config, vocab, clips_per_batch=clips_per_batch)
    manifest = Manifest.load(folder)
    assert len(stream) == steps_per_epoch(manifest, config, clips_per_batch)
    passes = orders(stream)
    assert len(passes) == -(-manifest.splits['train']['captions'] // (NUM_CLIPS * num_captions))
    for ids in passes:
        assert sorted(ids) == [f'train_{i}' for i in range(NUM_CLIPS)]


def test_rows_hold_the_clip(config, clips, vocab):
    config.objects = 2
    for row in rows_of(epoch(config, vocab)):
        clip = clips[row['id']]
        np.testing.assert_array_equal(row['appearance'], clip.appearance, strict=True)
        np.testing.assert_array_equal(row['motion'], clip.motion, strict=True)
        for key in ('object', 'box', 'object_mask'):
            np.testing.assert_array_equal(row[key], getattr(clip, key)[:, :2], strict=True)


def test_tokens_are_what_the_vocabulary_encodes(config, clips, vocab):
    length = config.max_words + 2
    for row in rows_of(epoch(config, vocab)):
        encoded = [vocab.encode(text, config.max_words) for text in clips[row['id']].captions]
        padded = [ids + [PAD] * (length - len(ids)) for ids in encoded]
        for tokens in row['tokens'].tolist():
            assert tokens in padded
    assert row['tokens'].dtype == np.int32


@pytest.mark.parametrize('num_captions', [1, 2])
def test_shows_all_captions_before_one_comes_back(config, clips, vocab, num_captions):
    config.captions_per_clip = num_captions
    shown = collections.defaultdict(list)
    for row in rows_of(epoch(config, vocab)):
        shown[row['id']] += map(tuple, row['tokens'].tolist())
    for clip_id, tokens in shown.items():
        encoded = [vocab.encode(text, config.max_words) for text in clips[clip_id].captions]
        length = config.max_words + 2
        encoded = collections.Counter(tuple(ids + [PAD] * (length - len(ids))) for ids in encoded)
        number = encoded.total()
        assert collections.Counter(tokens[:number]) <= encoded
        assert tokens[number:] == tokens[: max(0, len(tokens) - number)]


def test_absent_captions_are_padding(config, clips, vocab):
    config.captions_per_clip = 5
    for row in rows_of(epoch(config, vocab)):
        number = len(clips[row['id']].captions)
        real = (row['tokens'] != PAD).any(axis=-1)
        assert real.tolist() == [True] * number + [False] * (5 - number)
        assert (row['tokens'][:number, 0] == BOS).all()
        assert ((row['tokens'] == EOS).sum(axis=-1) == real).all()


@pytest.mark.parametrize('start_step', [1, 3, 5, 6, 7])
def test_resumes_bit_for_bit(config, vocab, start_step):
    config.captions_per_clip = 1
    whole = epoch(config, vocab)
    assert len(whole) == 6  # three passes over 7 clips, so that batches cross their borders
    head = list(itertools.islice(epoch(config, vocab), start_step))
    assert_same(head + epoch(config, vocab, start_step=start_step), whole)


@pytest.mark.parametrize(('num_hosts', 'start_step'), [(2, 0), (4, 1), (16, 0)])
def test_hosts_together_are_one_host(config, vocab, num_hosts, start_step):
    options = {'clips_per_batch': 16, 'start_step': start_step}
    whole = epoch(config, vocab, **options)
    parts = [epoch(config, vocab, host=h, num_hosts=num_hosts, **options) for h in range(num_hosts)]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)


def test_order_is_a_function_of_seed_and_epoch(config, vocab):
    config.captions_per_clip = 1
    assert_same(epoch(config, vocab), epoch(config, vocab))
    streams = {
        (seed, number): epoch(config, vocab, seed=seed, epoch=number)
        for seed in (0, 1)
        for number in (0, 1)
    }
    seen = [tuple(ids) for stream in streams.values() for ids in orders(stream)]
    assert len(set(seen)) == len(seen)
    tokens = [
        sorted((row['id'], row['tokens'].tolist()) for row in rows_of(stream[:1] + stream[1:2]))
        for stream in streams.values()
    ]
    assert all(one != other for one, other in itertools.combinations(tokens, 2))


def test_shuffle_buffer_of_one_keeps_the_order_within_shards(config, vocab):
    config.shuffle_buffer = 1
    first = orders(epoch(config, vocab))[0]
    numbers = [int(clip_id.removeprefix('train_')) for clip_id in first]
    breaks = [i for i in range(1, NUM_CLIPS) if numbers[i] != numbers[i - 1] + 1]
    assert len(breaks) <= 2  # three shards


def test_last_batch_is_padded_and_masked(config, vocab):
    last = epoch(config, vocab)[-1]
    padding = last['id'] == ''
    assert padding.tolist() == [False, False, True, True]
    for key in set(last) - {'id'}:
        assert not last[key][padding].any(), key


@pytest.mark.parametrize(('clips_per_batch', 'num_hosts'), [(2, 1), (3, 1), (8, 4), (7, 1)])
def test_evaluation_sees_every_clip_once_in_order(config, clips, vocab, clips_per_batch, num_hosts):
    options = {'clips_per_batch': clips_per_batch, 'num_hosts': num_hosts}
    opened = open_clips(config, vocab, 'train')
    hosts = [list(eval_batches(opened, host=h, **options)) for h in range(num_hosts)]
    assert len({len(stream) for stream in hosts}) == 1
    steps = zip(*hosts, strict=True)
    ids = [i for step in steps for batch in step for i in batch['id'] if i]
    assert ids == list(clips)
    for row in (row for stream in hosts for row in rows_of(stream)):
        texts = clips[row['id']].captions[: config.eval_captions]
        for tokens, text in zip(row['tokens'].tolist(), texts, strict=False):
            encoded = vocab.encode(text, config.max_words)
            assert tokens[: len(encoded)] == encoded
        assert not row['tokens'][len(texts) :].any()


@pytest.mark.parametrize(
    ('num_clips', 'most', 'divisor', 'size'),
    [(670, 128, 1, 112), (670, 128, 16, 112), (129, 128, 1, 65), (22, 128, 8, 24), (5, 2, 4, 4)],
)
def test_batches_of_an_evaluation_are_few_and_about_equally_large(num_clips, most, divisor, size):
    assert even_batch_size(num_clips, most, divisor) == size


@pytest.mark.parametrize('place', [-10, 500])
def test_damage_while_reading_names_shard_and_record(config, folder, vocab, tmp_path, place):
    shutil.copytree(folder, tmp_path / 'data')
    path = tmp_path / 'data' / 'clips-train.tfrecord-00001'
    damaged = open_clips(fake_data_config(path.parent, shuffle_buffer=1), vocab, 'train')
    next(train_batches(damaged, clips_per_batch=1, seed=0, epoch=0))
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r'tfrecord-00001 is damaged at record . of 3'):
        list(train_batches(damaged, clips_per_batch=4, seed=0, epoch=0))
    with pytest.raises(UserError, match=r'tfrecord-00001 is damaged at record . of 3'):
        list(eval_batches(damaged, clips_per_batch=2))


def test_a_shard_that_loses_records_while_it_is_open_is_named(folder, vocab, tmp_path):
    shutil.copytree(folder, tmp_path / 'data')
    path = tmp_path / 'data' / 'clips-train.tfrecord-00001'
    opened = open_clips(fake_data_config(path.parent), vocab, 'train')
    data = path.read_bytes()
    path.write_bytes(data[: 16 + int.from_bytes(data[:8], 'little')])  # its first record, whole
    with pytest.raises(UserError, match='tfrecord-00001 is cut: it ends before record 2 of 3'):
        list(train_batches(opened, clips_per_batch=2, seed=0, epoch=0))
    with pytest.raises(UserError, match='tfrecord-00001 is cut: it ends before record 2 of 3'):
        list(eval_batches(opened, clips_per_batch=2))


def test_refuses_what_does_not_fit(config, folder, vocab):
    with pytest.raises(UserError, match='cannot be divided among 3 hosts'):
        epoch(config, vocab, num_hosts=3)
    config.motion_dim = 1024
    with pytest.raises(UserError, match=r'--config\.data\.motion_dim=6'):
        epoch(config, vocab)
    config.motion_dim = MOTION
    with pytest.raises(UserError, match="no split 'dev'"):
        open_clips(config, vocab, 'dev')


def test_tensorflow_sees_no_accelerator():
    assert {device.device_type for device in tf.config.get_visible_devices()} == {'CPU'}


def test_passes_follow_the_number_of_captions(folder, config):
    manifest = Manifest.load(folder)  # 7 clips, 20 captions
    for num_captions, passes in ((1, 3), (2, 2), (3, 1), (5, 1)):
        config.captions_per_clip = num_captions
        assert batches.passes_per_epoch(manifest, config) == passes


def test_refuses_a_captions_file_of_other_clips(config, folder, vocab, tmp_path):
    shutil.copytree(folder, tmp_path / 'data')
    path = tmp_path / 'data' / 'captions-train.jsonl'
    path.write_text(path.read_text().replace('train_3', 'train_x'))
    with pytest.raises(UserError, match="hold clip 'train_3', the captions file does not"):
        epoch(fake_data_config(path.parent), vocab)
