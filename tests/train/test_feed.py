"""Which steps are executed together, and what they are fed."""

import itertools

import numpy as np
import pytest

from stg_jax.data.batches import open_clips, train_batches
from stg_jax.data.captions import read_captions
from stg_jax.data.vocab import PAD, Vocabulary
from stg_jax.train.bucketing import fitting
from stg_jax.train.feed import Feed, grouped, stacked
from tests.fakes.fake_data import fake_data_config, fake_data_folder

PARTS = 2


@pytest.mark.parametrize('at_once', [1, 2, 3, 8])
def test_executions_are_all_steps_in_order_whole_or_single(at_once):
    for first, end in itertools.combinations_with_replacement(range(9), 2):
        executions = grouped(first, end, at_once)
        assert [step for steps in executions for step in steps] == list(range(first, end))
        assert {len(steps) for steps in executions} <= {1, at_once}


def test_only_steps_before_and_after_whole_executions_are_single():
    assert [len(steps) for steps in grouped(1, 15, 4)] == [1, 1, 1, 4, 4, 1, 1, 1]


def test_what_is_left_after_an_execution_are_the_other_executions():
    whole = grouped(0, 23, 5)
    for index, steps in enumerate(whole):
        assert grouped(steps.stop, 23, 5) == whole[index + 1 :]


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """Return 13 clips: an epoch of seven batches of four."""
    folder = fake_data_folder(tmp_path_factory.mktemp('feed'), train=13)
    vocab = Vocabulary.build(itertools.chain(*read_captions(folder, 'train').values()), 1)
    return open_clips(fake_data_config(folder, captions_per_clip=2, cache='host'), vocab, 'train')


def left(clips, *, at_once, first_step=0):
    feed = Feed(clips, clips_per_batch=4, num_parts=PARTS, at_once=at_once, seed=5)
    return feed.left(epoch=1, first_step=first_step)


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


@pytest.mark.parametrize('at_once', [1, 3])
def test_executions_are_fed_the_batches_of_the_epoch(clips, at_once):
    expected = list(train_batches(clips, clips_per_batch=4, seed=5, epoch=1))
    fed = [batch for batches in left(clips, at_once=at_once) for batch in batches]
    assert_same([{k: x for k, x in batch.items() if k != 'slot'} for batch in fed], expected)
    for batch in fed:
        words = batch['tokens'][..., 1:].reshape(PARTS, -1) != PAD
        slots = batch['slot'].reshape(PARTS, -1)
        assert [set(np.flatnonzero(part)) for part in words] == [
            {slot for slot in part if slot < words.shape[1]} for part in slots
        ]


def test_all_steps_of_an_execution_have_the_slots_of_the_fullest(clips):
    some = left(clips, at_once=3)
    executions = list(some)
    assert [len(batches) for batches in executions] == [3, 3, 1]
    num_positions = executions[0][0]['tokens'][..., 1:].size // PARTS
    found = set()
    for batches in executions:
        most = max((b['tokens'][..., 1:] != PAD).reshape(PARTS, -1).sum(1).max() for b in batches)
        size = fitting(most, num_positions)
        assert {len(batch['slot']) for batch in batches} == {PARTS * size}
        found.add((len(batches), size))
    assert some.sizes(num_positions) == found


@pytest.mark.parametrize('first_step', [3, 6])
def test_what_is_left_is_fed_as_in_the_whole_epoch(clips, first_step):
    whole = [batch for batches in left(clips, at_once=3) for batch in batches]
    rest = [b for batches in left(clips, at_once=3, first_step=first_step) for b in batches]
    assert_same(rest, whole[first_step:])


def test_stacked_batches_have_a_leading_axis_of_steps(clips):
    for batches in left(clips, at_once=3):
        together = stacked(batches)
        assert_same([{k: x[i] for k, x in together.items()} for i in range(len(batches))], batches)
