"""The captions of a split as ids of words, and which of them a clip shows in which pass."""

from collections.abc import Mapping, Sequence

import numpy as np

from stg_jax.data.quiet_tensorflow import tf
from stg_jax.data.vocab import PAD, Vocabulary
from stg_jax.errors import UserError


class Captions:
    """All captions of a split, tokenised once.

    They come from the captions file and not from the records: words take longer to look up than
    features to read.
    """

    def __init__(self, captions: Mapping[str, Sequence[str]], vocab: Vocabulary, max_words: int):
        self._clips = {clip_id: number for number, clip_id in enumerate(captions)}
        self._ids = tf.constant(list(captions))
        self._counts = np.array([len(texts) for texts in captions.values()], np.int64)
        self._firsts = np.cumsum(self._counts) - self._counts
        # One row more than there are captions: what a clip with too few of them shows.
        self._tokens = np.full((self._counts.sum() + 1, max_words + 2), PAD, np.int32)
        texts = (text for texts in captions.values() for text in texts)
        for row, text in zip(self._tokens, texts, strict=False):
            ids = vocab.encode(text, max_words)
            row[: len(ids)] = ids

    def first(self, num_shown: int) -> np.ndarray:
        """Return the first `num_shown` captions of every clip as the schedule of one pass."""
        shown = np.arange(num_shown) % np.maximum(self._counts, 1)[:, None]
        return self._schedule(shown, num_shown)

    def shuffled(self, num_shown: int, num_passes: int, seed: int) -> np.ndarray:
        """Return the schedule of an epoch: in every pass the next captions of a random order.

        No caption of a clip comes back before all were shown. The order is drawn from the seed and
        the clip's id alone.

        Returns:
          (clips, passes, K) int64, rows of the table of captions.
        """
        slots = tf.range(num_passes * num_shown, dtype=tf.int64)
        # Tensors: a function is traced anew for every other number.
        counts, seed = tf.constant(self._counts), tf.constant(seed, tf.int64)
        return self._schedule(_shuffled(self._ids, counts, seed, slots).numpy(), num_shown)

    def tokens(self, schedule: np.ndarray, ids: Sequence[str], passes: np.ndarray) -> np.ndarray:
        """Return what clips show in a pass: (B, K, L) int32, PAD where there are too few captions.

        Raises:
          UserError: the captions file has no such clip.
        """
        try:
            clips = [self._clips[clip_id] for clip_id in ids]
        except KeyError as error:
            raise UserError(
                f'the shards hold clip {error}, the captions file does not: prepare the data again'
            ) from None
        return self._tokens[schedule[clips, passes]]

    def _schedule(self, numbers: np.ndarray, num_shown: int) -> np.ndarray:
        """Turn (clips, passes * K) numbers of a clip's captions into rows of the table."""
        rows = (self._firsts[:, None] + numbers).reshape(len(numbers), -1, num_shown)
        return np.where(np.arange(num_shown) < self._counts[:, None, None], rows, -1)


@tf.function(autograph=False)
def _shuffled(ids: tf.Tensor, counts: tf.Tensor, seed: tf.Tensor, slots: tf.Tensor) -> tf.Tensor:
    """Return for each clip the caption numbers in some slots of an endlessly repeated order."""
    # A clip without captions still needs an order, of which nothing is used.
    sizes = tf.maximum(counts, 1)
    seeds = tf.strings.to_hash_bucket_fast(ids, 2**31)

    def shuffled(row: tf.Tensor) -> tf.Tensor:
        size, clip_seed = row[0], row[1]
        order = tf.random.experimental.stateless_shuffle(tf.range(size), [seed, clip_seed])
        return tf.gather(order, slots % size)

    return tf.map_fn(shuffled, tf.stack([sizes, seeds], axis=1))
