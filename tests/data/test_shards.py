import collections
import shutil

import numpy as np
import pytest

from stg_jax.data.batches import open_clips, reads_own_shards, steps_per_epoch, train_epoch
from stg_jax.data.captions import read_captions
from stg_jax.data.manifest import Manifest
from stg_jax.data.sampler import Order
from stg_jax.data.shards import open_split
from stg_jax.data.vocab import PAD, Vocabulary
from stg_jax.errors import UserError
from tests.fakes.fake_data import fake_data_config, fake_data_folder

NUM_CLIPS = 7  # in three shards
PASSES = 2
EPOCH = {'clips_per_batch': 6, 'seed': 3, 'epoch': 1}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return fake_data_folder(tmp_path_factory.mktemp('x'), train=NUM_CLIPS, shard_bytes=2000)


@pytest.fixture(scope='module')
def vocab(folder):
    return Vocabulary.build(
        [t for texts in read_captions(folder, 'train').values() for t in texts], 1
    )


def stream(folder, vocab, *, host, num_hosts, start_step=0, **overrides):
    """Return the batches of a host and what was known of them before."""
    config = fake_data_config(folder, **overrides)
    world = {'host': host, 'num_hosts': num_hosts}
    clips = open_clips(
        config, vocab, 'train', **(world if reads_own_shards(config, num_hosts) else {})
    )
    options = EPOCH | world | {'start_step': start_step}
    epoch = train_epoch(clips, **options)
    return clips, list(epoch.batches()), epoch.num_targets()


def ids(batches):
    return [i for batch in batches for i in batch['id'] if i]


def test_nothing_tunes_a_stream_as_that_can_delay_its_end(folder, vocab):
    part = open_clips(fake_data_config(folder), vocab, 'train').source.part
    records = part.records(Order.as_stored(len(part.paths)))
    assert not records.options().autotune.enabled


@pytest.mark.parametrize('cache', ['none', 'host'])
@pytest.mark.parametrize('num_hosts', [2, 3, 6])
def test_hosts_with_shares_see_every_clip_once_a_pass(folder, vocab, num_hosts, cache):
    config = fake_data_config(folder, order='per_host', cache=cache)
    num_steps = steps_per_epoch(Manifest.load(folder), config, EPOCH['clips_per_batch'], num_hosts)
    seen, owners = collections.Counter(), collections.defaultdict(set)
    for host in range(num_hosts):
        world = {'host': host, 'num_hosts': num_hosts}
        _, batches, _ = stream(folder, vocab, order='per_host', cache=cache, **world)
        assert [len(batch['id']) for batch in batches] == [6 // num_hosts] * num_steps
        seen.update(ids(batches))
        for clip_id in ids(batches):
            owners[clip_id].add(host)
    assert seen == {f'train_{i}': PASSES for i in range(NUM_CLIPS)}
    assert all(len(of_clip) == 1 for of_clip in owners.values())


def test_a_host_opens_only_the_shards_of_its_share(folder, vocab):
    parts = [
        stream(folder, vocab, host=host, num_hosts=3, order='per_host')[0].source.part
        for host in range(3)
    ]
    assert [part.num_clips for part in parts] == [3, 2, 2]
    assert all(len(part.paths) < 3 for part in parts)
    assert [part.first for part in parts] == [0, 3, 5]


@pytest.mark.parametrize('start_step', [1, 2, 3])
@pytest.mark.parametrize('host', [0, 1])
def test_a_share_resumes_bit_for_bit(folder, vocab, host, start_step):
    world = {'host': host, 'num_hosts': 2, 'order': 'per_host'}
    _, whole, _ = stream(folder, vocab, **world)
    _, rest, _ = stream(folder, vocab, start_step=start_step, **world)
    assert len(rest) == len(whole) - start_step
    for one, other in zip(rest, whole[start_step:], strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], strict=True)


@pytest.mark.parametrize('order', ['global', 'per_host'])
@pytest.mark.parametrize(('num_hosts', 'start_step'), [(1, 0), (2, 1), (3, 0)])
def test_the_words_of_an_epoch_are_known_before(folder, vocab, order, num_hosts, start_step):
    for host in range(num_hosts):
        world = {'host': host, 'num_hosts': num_hosts, 'start_step': start_step}
        _, batches, targets = stream(folder, vocab, order=order, **world)
        found = [(batch['tokens'][..., 1:] != PAD).sum((1, 2)) for batch in batches]
        np.testing.assert_array_equal(targets, found)


def test_orders_and_shares_that_cannot_be_are_refused(folder, vocab):
    with pytest.raises(UserError, match=r"config\.data\.order = 'random' is unknown"):
        stream(folder, vocab, host=0, num_hosts=2, order='random')
    with pytest.raises(UserError, match=r'7 train clips for 8 hosts.*order=global'):
        open_clips(fake_data_config(folder), vocab, 'train', host=0, num_hosts=8)
    with pytest.raises(UserError, match=r'cache = device.*per_host'):
        stream(folder, vocab, host=0, num_hosts=2, order='per_host', cache='device')


@pytest.fixture(params=['flipped', 'cut'])
def damaged(request, folder, tmp_path):
    """Return a copy of the data whose second shard is sound up to its second record."""
    shutil.copytree(folder, tmp_path / 'data')
    path = tmp_path / 'data' / 'clips-train.tfrecord-00001'
    data = bytearray(path.read_bytes())
    second = 16 + int.from_bytes(data[:8], 'little')
    if request.param == 'flipped':
        data[second + 100] ^= 1
    else:
        del data[second + 100 :]
    path.write_bytes(data)
    return tmp_path / 'data'


def test_damage_stops_a_run(damaged, vocab):
    with pytest.raises(UserError, match='tfrecord-00001'):
        stream(damaged, vocab, host=0, num_hosts=1)


def test_a_missing_shard_stops_a_run(folder, vocab, tmp_path):
    shutil.copytree(folder, tmp_path / 'data')
    (tmp_path / 'data' / 'clips-train.tfrecord-00001').unlink()
    with pytest.raises(UserError, match='tfrecord-00001 is missing'):
        stream(tmp_path / 'data', vocab, host=0, num_hosts=1)


@pytest.mark.parametrize(
    ('name', 'old', 'new'),
    [
        ('dataset_info.json', '{DATASET}-{SPLIT}', '{DATASET-{SPLIT}'),
        ('features.json', '"float32"', '"null"'),
        ('features.json', '"float32"', '"no type"'),
        ('features.json', '"captions"', '"capt_ons"'),
    ],
)
def test_damaged_metadata_is_one_sentence(folder, tmp_path, name, old, new):
    shutil.copytree(folder, tmp_path / 'data')
    text = (tmp_path / 'data' / name).read_text()
    assert old in text
    (tmp_path / 'data' / name).write_text(text.replace(old, new))
    with pytest.raises(UserError, match=r'the metadata of .* is damaged'):
        open_split(tmp_path / 'data', 'train')
