import numpy as np
import pytest

from stg_jax.data import cache, captions
from stg_jax.data.batches import eval_batches, open_clips, train_batches
from stg_jax.data.tf import tf
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from tests.fakes.fake_data import fake_data_config, fake_data_folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return fake_data_folder(tmp_path_factory.mktemp('x'), train=23, shard_bytes=4000)


@pytest.fixture(scope='module')
def both(folder):
    """Return a function that opens the same split streamed and cached."""
    of_clips = captions.read_captions(folder, 'train').values()
    vocab = Vocabulary.build([text for texts in of_clips for text in texts], 2)

    def open_both(caches=('none', 'host'), **overrides):
        return [
            open_clips(fake_data_config(folder, cache=cache, **overrides), vocab, 'train')
            for cache in caches
        ]

    return open_both


def assert_same(some, others):
    some, others = list(some), list(others)
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key, strict=True)


@pytest.mark.parametrize('overrides', [{}, {'captions_per_clip': 1, 'objects': 2}])
@pytest.mark.parametrize(
    'options',
    [
        {'clips_per_batch': 4},
        {'clips_per_batch': 1, 'epoch': 3, 'start_step': 20},
        {'clips_per_batch': 4, 'start_step': 5, 'host': 1, 'num_hosts': 2},
        {'clips_per_batch': 16, 'host': 15, 'num_hosts': 16},
    ],
)
def test_cached_training_batches_are_the_streamed_ones(both, overrides, options):
    options = {'seed': 5, 'epoch': 0} | options
    streamed, held = (train_batches(clips, **options) for clips in both(**overrides))
    assert_same(streamed, held)


@pytest.mark.parametrize('options', [{'clips_per_batch': 4}, {'clips_per_batch': 5}])
def test_rows_name_the_features_that_are_streamed(both, options):
    options = {'seed': 5, 'epoch': 0} | options
    streamed, indexed = both(caches=('none', 'device'))
    table = indexed.take_table()
    for expected, batch in zip(
        train_batches(streamed, **options), train_batches(indexed, **options), strict=True
    ):
        real = batch['id'] != ''
        rows = batch.pop('row')
        batch |= {name: array[rows] for name, array in table.items()}
        assert expected.keys() == batch.keys()
        for name, value in batch.items():
            np.testing.assert_array_equal(value[real], expected[name][real], strict=True)


@pytest.mark.parametrize('tf_seed', [0, 7])
def test_the_order_is_not_that_of_tensorflows_own_seed(both, tf_seed):
    options = {'clips_per_batch': 4, 'seed': 5, 'epoch': 0}
    expected = list(train_batches(both()[0], **options))
    tf.random.set_seed(tf_seed)
    try:
        for clips in both():
            assert_same(train_batches(clips, **options), expected)
        tf.random.set_seed(tf_seed + 1)
        assert_same(train_batches(both()[0], **options), expected)
    finally:
        tf.random.set_seed(None)


@pytest.mark.parametrize('host', [0, 3])
def test_cached_evaluation_batches_are_the_streamed_ones(both, host):
    options = {'clips_per_batch': 8, 'host': host, 'num_hosts': 4}
    assert_same(*(eval_batches(clips, **options) for clips in both()))


def test_a_cache_is_not_touched_by_what_becomes_of_its_batches(both):
    _, held = both()
    for batch in eval_batches(held, clips_per_batch=4):
        batch['object'][:] = 0
    assert all(batch['object'].any() for batch in eval_batches(held, clips_per_batch=4))


def test_a_cache_needs_its_shards_only_once(both, folder, tmp_path):
    _, held = both()
    before = list(eval_batches(held, clips_per_batch=4))
    hidden = folder.rename(tmp_path / 'elsewhere')
    try:
        assert_same(before, eval_batches(held, clips_per_batch=4))
    finally:
        hidden.rename(folder)


def test_refuses_more_than_the_memory_holds(both, monkeypatch):
    monkeypatch.setattr(cache, '_free_memory', lambda: 1000)
    with pytest.raises(UserError, match=r'stream it with --config\.data\.cache=none'):
        both()


def test_refuses_an_unknown_place(folder):
    with pytest.raises(UserError, match="cache = 'disk' is unknown"):
        open_clips(fake_data_config(folder, cache='disk'), Vocabulary(('<pad>',)), 'train')
