"""The batches of an epoch: all of them, packed, with one size in each execution."""

import dataclasses
import itertools

import numpy as np
import pytest

from stg_jax.data.batches import open_clips, train_batches
from stg_jax.data.captions import Captions, read_captions
from stg_jax.data.vocab import PAD, Vocabulary
from stg_jax.train.feed import Feed, weigh_captions
from tests.fakes.fake_data import fake_data_config, fake_data_folder

PARTS = 2


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """Return 13 clips: an epoch of seven batches of four."""
    folder = fake_data_folder(tmp_path_factory.mktemp('feed'), train=13)
    vocab = Vocabulary.build(itertools.chain(*read_captions(folder, 'train').values()), 1)
    return open_clips(fake_data_config(folder, captions_per_clip=2, cache='host'), vocab, 'train')


def left_of_epoch(clips, *, at_once, first_step=0):
    feed = Feed(clips, clips_per_batch=4, num_parts=PARTS, steps_per_execution=at_once, seed=5)
    return feed.epoch(1, first_step)


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


@pytest.mark.parametrize('at_once', [1, 3])
def test_executions_are_fed_the_batches_of_the_epoch(clips, at_once):
    expected = list(train_batches(clips, clips_per_batch=4, seed=5, epoch=1))
    fed = [batch for batches in left_of_epoch(clips, at_once=at_once) for batch in batches]
    assert_same(
        [{k: x for k, x in batch.items() if k != 'packed_position'} for batch in fed], expected
    )
    for batch in fed:
        words = batch['tokens'][..., 1:].reshape(PARTS, -1) != PAD
        positions = batch['packed_position'].reshape(PARTS, -1)
        assert [set(np.flatnonzero(part)) for part in words] == [
            {position for position in part if position < words.shape[1]} for part in positions
        ]


def test_the_steps_of_an_execution_are_packed_to_one_size_that_fits_all(clips):
    epoch = left_of_epoch(clips, at_once=3)
    executions = list(epoch)
    assert [len(batches) for batches in executions] == [3, 3, 1]
    found = set()
    for batches in executions:
        most = max((b['tokens'][..., 1:] != PAD).reshape(PARTS, -1).sum(1).max() for b in batches)
        (length,) = {len(batch['packed_position']) for batch in batches}
        assert length >= PARTS * most
        found.add((len(batches), length // PARTS))
    assert epoch.shapes() == sorted(found)


def test_all_epochs_share_four_sizes(clips):
    feed = Feed(clips, clips_per_batch=4, num_parts=PARTS, steps_per_execution=1, seed=5)
    sizes = {size for epoch in range(8) for _, size in feed.epoch(epoch, 0).shapes()}
    assert 1 <= len(sizes) <= 4


@pytest.mark.parametrize('first_step', [3, 6])
def test_what_is_left_is_fed_as_in_the_whole_epoch(clips, first_step):
    whole = [batch for batches in left_of_epoch(clips, at_once=3) for batch in batches]
    rest = [
        b for batches in left_of_epoch(clips, at_once=3, first_step=first_step) for b in batches
    ]
    assert_same(rest, whole[first_step:])


TOLD = {
    'alone': ['one caption'],
    'three': ['a red box', 'a red box', 'the blue dog runs'],
    'silent': [],
    'two': ['a dog runs', 'the dog runs'],
}


@pytest.mark.parametrize('amount', [1.0, 0.25])
def test_a_caption_weighs_by_its_agreement_with_the_others_of_its_clip(clips, amount):
    vocab = Vocabulary.build(itertools.chain(*TOLD.values()), 1)
    clips = dataclasses.replace(clips, captions=Captions(TOLD, vocab, 4))
    weighted = weigh_captions(clips, TOLD, amount).captions
    shown = weighted.shown(weighted.first(3), list(TOLD), np.zeros(4, int))
    weight_BK, is_caption_BK = shown['caption_weight'], shown['tokens'][..., 0] != PAD
    assert not weight_BK[~is_caption_BK].any()
    assert weight_BK[is_caption_BK].mean() == pytest.approx(1, abs=1e-6)
    assert weight_BK[0, 0] == 1
    same, again, other = weight_BK[1]
    assert same == again > 1
    assert other == pytest.approx(1 - amount, abs=1e-6)  # it shares no word with them


def test_captions_without_any_agreement_weigh_alike(clips):
    told = {'one': ['a box'], 'other': ['red dog', 'the car']}
    vocab = Vocabulary.build(itertools.chain(*told.values()), 1)
    clips = dataclasses.replace(clips, captions=Captions(told, vocab, 4))
    weighted = weigh_captions(clips, told, 1.0).captions
    shown = weighted.shown(weighted.first(2), list(told), np.zeros(2, int))
    np.testing.assert_array_equal(shown['caption_weight'], [[1, 0], [1, 1]])
