import itertools

import numpy as np
import pytest

from stg_jax.data.vocab import BOS, EOS, PAD
from stg_jax.train.bucketing import compact, fullest, sizes

MAX_WORDS = 20


def captions(num_words_BK):
    """Return tokens (B, K, L + 1) of captions with so many words; those with none are absent."""
    tokens = np.full((*np.shape(num_words_BK), MAX_WORDS + 2), PAD, np.int32)
    for at, num_words in np.ndenumerate(num_words_BK):
        if num_words:
            tokens[at][: num_words + 2] = [BOS, *range(4, 4 + num_words), EOS]
    return {'tokens': tokens}


def like_msvd(clips, per_clip, seed=0):
    """Return captions with the mean (7) and about the spread of lengths of MSVD."""
    num_words = np.random.default_rng(seed).poisson(6, (clips, per_clip)) + 1
    return captions(np.minimum(num_words, MAX_WORDS))


def parts_of(batch, num_parts):
    """Return for each part its targets and the targets its slots name, PAD at empty slots."""
    targets = batch['tokens'][..., 1:].reshape(num_parts, -1)
    slots = batch['slot'].reshape(num_parts, -1)
    padded = np.pad(targets, ((0, 0), (0, 1)), constant_values=PAD)
    return targets, np.take_along_axis(padded, slots, axis=1)


@pytest.mark.parametrize('num_parts', [1, 2, 8])
def test_the_slots_of_a_part_name_its_words_in_order(num_parts):
    batch = compact(like_msvd(16, 4), num_parts=num_parts)
    for targets, named in zip(*parts_of(batch, num_parts), strict=True):
        words = targets[targets != PAD]
        assert named[: len(words)].tolist() == words.tolist()
        assert not named[len(words) :].any()


def test_absent_captions_and_padding_clips_take_no_slot():
    batch = compact(captions([[3, 0], [0, 0], [2, 2]]), num_parts=1)
    _, [named] = parts_of(batch, 1)
    assert (named != PAD).sum() == 4 + 3 + 3


def test_less_than_a_tenth_of_the_slots_is_empty_in_batches_like_those_of_msvd():
    shapes, shares = set(), []
    for seed in range(300):
        batch = compact(like_msvd(16, 4, seed), num_parts=1)
        num_words = (batch['tokens'][..., 1:] != PAD).sum()
        shapes.add(batch['slot'].shape)
        shares.append(1 - num_words / len(batch['slot']))
    assert max(shares) < 0.1
    assert len(shapes) <= 5


@pytest.mark.parametrize('num_positions', [1, 12, 168, 1344, 21504])
def test_sizes_are_few_and_reach_from_a_quarter_to_all_positions(num_positions):
    found = sizes(num_positions)
    assert found == sorted(set(found))
    assert found[-1] == num_positions
    assert len(found) <= 15
    for smaller, larger in itertools.pairwise(found):
        assert larger <= 1.1 * smaller + 8


@pytest.mark.parametrize('num_words', [0, MAX_WORDS])
def test_empty_and_full_batches_fit(num_words):
    batch = compact(captions(np.full((4, 2), num_words)), num_parts=2)
    targets, named = parts_of(batch, 2)
    assert (named != PAD).sum() == (targets != PAD).sum()


def test_hosts_that_know_the_fullest_part_of_all_make_equally_many_slots():
    batch = like_msvd(16, 4)
    targets_SB = (batch['tokens'][None, ..., 1:] != PAD).sum((2, 3))
    hosts = [{'tokens': part} for part in np.split(batch['tokens'], 4)]
    most = max(int(fullest(part_SB, 2)[0]) for part_SB in np.split(targets_SB, 4, axis=1))
    slots = [compact(part, num_parts=2, fullest=most)['slot'] for part in hosts]
    whole = compact(batch, num_parts=8)['slot']
    np.testing.assert_array_equal(np.concatenate(slots), whole)
