import numpy as np
import pytest

from stg_jax.data.vocab import BOS, EOS, PAD
from stg_jax.train.feed import add_packing, choose_sizes, fitting_size, fullest_parts

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
    """Return the targets of each part, and those at its packed positions, PAD at empty ones."""
    targets = batch['tokens'][..., 1:].reshape(num_parts, -1)
    positions = batch['packed_position'].reshape(num_parts, -1)
    padded = np.pad(targets, ((0, 0), (0, 1)), constant_values=PAD)
    return targets, np.take_along_axis(padded, positions, axis=1)


@pytest.mark.parametrize('num_parts', [1, 2, 8])
def test_packed_positions_name_the_words_of_a_part_in_order(num_parts):
    batch = add_packing(like_msvd(16, 4), num_parts=num_parts)
    for targets, named in zip(*parts_of(batch, num_parts), strict=True):
        words = targets[targets != PAD]
        assert named[: len(words)].tolist() == words.tolist()
        assert not named[len(words) :].any()


def test_absent_captions_and_padding_clips_are_not_packed():
    batch = add_packing(captions([[3, 0], [0, 0], [2, 2]]), num_parts=1)
    _, [named] = parts_of(batch, 1)
    assert (named != PAD).sum() == 4 + 3 + 3


def test_few_packed_tokens_are_empty_in_an_epoch_like_those_of_msvd():
    def tokens_of(seed):
        return (like_msvd(16, 4, seed)['tokens'][..., 1:] != PAD).sum()

    num_positions = 16 * 4 * (MAX_WORDS + 1)
    sizes = choose_sizes(np.array([tokens_of(seed) for seed in range(300)]), num_positions)
    assert len(sizes) == 4
    later = [tokens_of(seed) for seed in range(300, 900)]
    empty = [1 - tokens / fitting_size(tokens, sizes) for tokens in later]
    assert np.mean(empty) < 0.06
    assert max(empty) < 0.2  # none has to take the size that fits anything


@pytest.mark.parametrize('num_positions', [1, 12, 168, 1344, 21504])
def test_sizes_are_few_multiples_and_fit_any_batch(num_positions):
    fullest_S = np.random.default_rng(0).integers(0, num_positions + 1, 7)
    sizes = choose_sizes(fullest_S, num_positions)
    assert sizes == sorted(set(sizes))
    assert 1 <= len(sizes) <= 4
    assert sizes[-1] == num_positions
    assert all(size % 8 == 0 for size in sizes[:-1])
    for tokens in [*fullest_S, 0, num_positions]:
        assert fitting_size(tokens, sizes) >= tokens


@pytest.mark.parametrize('num_words', [0, MAX_WORDS])
def test_empty_and_full_batches_fit(num_words):
    batch = add_packing(captions(np.full((4, 2), num_words)), num_parts=2)
    targets, named = parts_of(batch, 2)
    assert (named != PAD).sum() == (targets != PAD).sum()


def test_hosts_that_know_the_fullest_part_of_all_pack_to_one_size():
    batch = like_msvd(16, 4)
    num_tokens_SB = (batch['tokens'][None, ..., 1:] != PAD).sum((2, 3))
    hosts = [{'tokens': part} for part in np.split(batch['tokens'], 4)]
    most = max(int(fullest_parts(part_SB, 2)[0]) for part_SB in np.split(num_tokens_SB, 4, axis=1))
    size = fitting_size(most, choose_sizes(np.array([most]), 2 * 4 * (MAX_WORDS + 1)))
    packed = [add_packing(part, num_parts=2, size=size)['packed_position'] for part in hosts]
    whole = add_packing(batch, num_parts=8, size=size)['packed_position']
    np.testing.assert_array_equal(np.concatenate(packed), whole)
