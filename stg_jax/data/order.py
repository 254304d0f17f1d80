"""Which records are the rows of which batch, fixed before any record is parsed.

The order is one of record numbers: a stream applies it to the bytes of the records, a cache to rows
in memory, and both get the same batches.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stg_jax.data.quiet_tensorflow import tf
from stg_jax.errors import UserError

_MOST_THREADS = 8  # reading is cheap next to the step; the other cores belong to XLA


@dataclasses.dataclass(frozen=True)
class Order:
    """Passes over the records of a split, each in an order of its own.

    Attributes:
      shards: for each pass a permutation of the shards.
      seeds: for each pass the seed that shuffles the records of its shards.
      buffer_size: of that shuffle; 1 leaves the records as they are.
      skipped: records of the first pass that are left out.
    """

    shards: Sequence[np.ndarray]
    seeds: Sequence[int]
    buffer_size: int
    skipped: int = 0

    @classmethod
    def as_stored(cls, num_shards: int) -> 'Order':
        """Return one pass in the order of the files."""
        return cls([np.arange(num_shards)], [0], buffer_size=1)

    @classmethod
    def drawn(
        cls,
        num_shards: int,
        buffer_size: int,
        rngs: Sequence[np.random.Generator],
        skipped: int,
    ) -> 'Order':
        """Return one pass for each generator, in the order that it draws."""
        shards = [rng.permutation(num_shards) for rng in rngs]
        return cls(shards, [rng.integers(2**63 - 1) for rng in rngs], buffer_size, skipped)

    def records(self, shards_of: Callable[[tf.Tensor], tf.data.Dataset]) -> tf.data.Dataset:
        """Return the records of all passes.

        Args:
          shards_of: from numbers of shards to the records of these shards, one after another.
        """

        @tf.autograph.experimental.do_not_convert  # nothing to convert, and the search takes long
        def one_pass(shards: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
            return _shuffled(shards_of(shards), self.buffer_size, seed)

        passes = np.stack(self.shards), np.array(self.seeds, np.int64)
        records = tf.data.Dataset.from_tensor_slices(passes).flat_map(one_pass)
        return records.skip(self.skipped).with_options(_options())

    def numbers(self, of_shards: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield for each pass the numbers of its records, in the order of `records`.

        Args:
          of_shards: the numbers of the records of each shard.
        """

        def one_pass(shards: np.ndarray, seed: int) -> np.ndarray:
            joined = np.concatenate([of_shards[i] for i in shards])
            return _shuffled_numbers(joined, np.int64(self.buffer_size), np.int64(seed)).numpy()

        # In a thread, so that a pass is drawn while the one before is used.
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            skipped = self.skipped
            for numbers in pool.map(one_pass, self.shards, self.seeds):
                yield numbers[skipped:]
                skipped = 0


def _shuffled(records: tf.data.Dataset, buffer_size: Any, seed: tf.Tensor) -> tf.data.Dataset:
    tf.random.set_seed(None)  # of the function that is traced: the user's would change the order
    return records.shuffle(buffer_size, seed=seed, reshuffle_each_iteration=False)


_NUMBERS, _NUMBER = tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64)


@tf.function(input_signature=[_NUMBERS, _NUMBER, _NUMBER], autograph=False)
def _shuffled_numbers(numbers: tf.Tensor, buffer_size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return numbers as a stream of so many records would be shuffled."""
    shuffled = _shuffled(tf.data.Dataset.from_tensor_slices(numbers), buffer_size, seed)
    return shuffled.batch(tf.size(numbers, tf.int64)).get_single_element()


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = min(os.cpu_count(), _MOST_THREADS)
    # They find nothing in so short a pipeline, and cost as much as reading a hundred clips.
    options.experimental_optimization.apply_default_optimizations = False
    return options


@dataclasses.dataclass(frozen=True)
class Rows:
    """Which records, by their position in an epoch, are the rows of one host.

    Attributes:
      clips_per_batch: rows of a global batch.
      host: number of this host.
      num_hosts: hosts that share a batch.
      first_step: the batch to begin with.
      total: records of the whole epoch.
      num_steps: batches of the whole epoch, where another host has more records than this one.
    """

    clips_per_batch: int
    host: int
    num_hosts: int
    first_step: int
    total: int
    num_steps: int = 0

    def __post_init__(self):
        if self.clips_per_batch % self.num_hosts:
            raise UserError(
                f'{self.clips_per_batch} clips a batch cannot be divided among {self.num_hosts} '
                'hosts: choose another config.train.batch_size'
            )

    @property
    def per_host(self) -> int:
        """Return how many rows of a batch one host has."""
        return self.clips_per_batch // self.num_hosts

    @property
    def end_step(self) -> int:
        """Return the number of batches of the whole epoch."""
        return max(self.num_steps, -(-self.total // self.clips_per_batch))

    def of_this_host(self, records: tf.data.Dataset) -> tf.data.Dataset:
        """Return those of the records, which begin at `first_step`, that belong to this host."""
        if self.num_hosts == 1:
            return records
        first = self.first_step * self.clips_per_batch

        @tf.autograph.experimental.do_not_convert
        def is_mine(position: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
            return position % self.clips_per_batch // self.per_host == self.host

        return records.enumerate(first).filter(is_mine).map(lambda _, record: record)

    def positions(self, step: int) -> np.ndarray:
        """Return the positions in the epoch of this host's rows of a batch, without padding."""
        first = step * self.clips_per_batch + self.host * self.per_host
        return np.arange(first, min(first + self.per_host, self.total))
