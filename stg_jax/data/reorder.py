"""Apply an order to the records of a stream, or to their numbers, by TensorFlow's shuffle."""

import concurrent.futures
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stg_jax.data.sampler import Order, Rows
from stg_jax.data.tf import tf

_MOST_THREADS = 8  # reading is cheap next to the step; the other cores belong to XLA
_NUMBERS, _NUMBER = tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64)


def reordered(order: Order, shards_of: Callable[[tf.Tensor], tf.data.Dataset]) -> tf.data.Dataset:
    """Return the records of all passes.

    Args:
      order: of shards and records.
      shards_of: from numbers of shards to the records of these shards, one after another.
    """

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and the search takes long
    def one_pass(shards: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
        return _shuffled(shards_of(shards), order.buffer_size, seed)

    passes = np.stack(order.shards), np.array(order.seeds, np.int64)
    records = tf.data.Dataset.from_tensor_slices(passes).flat_map(one_pass)
    return records.skip(order.skipped).with_options(_options())


def reordered_numbers(order: Order, of_shards: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield for each pass the numbers of its records, in the order of `reordered`.

    Args:
      order: of shards and records.
      of_shards: the numbers of the records of each shard.
    """

    def one_pass(shards: np.ndarray, seed: int) -> np.ndarray:
        joined = np.concatenate([of_shards[i] for i in shards])
        return _shuffled_numbers(joined, np.int64(order.buffer_size), np.int64(seed)).numpy()

    # In a thread, so that a pass is drawn while the one before is used.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        skipped = order.skipped
        for numbers in pool.map(one_pass, order.shards, order.seeds):
            yield numbers[skipped:]
            skipped = 0


def of_this_host(rows: Rows, records: tf.data.Dataset) -> tf.data.Dataset:
    """Return those of the records, which begin at `first_step`, that belong to this host."""
    if rows.num_hosts == 1:
        return records
    first = rows.first_step * rows.clips_per_batch

    @tf.autograph.experimental.do_not_convert
    def is_mine(position: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return position % rows.clips_per_batch // rows.per_host == rows.host

    return records.enumerate(first).filter(is_mine).map(lambda _, record: record)


def _shuffled(records: tf.data.Dataset, buffer_size: Any, seed: tf.Tensor) -> tf.data.Dataset:
    tf.random.set_seed(None)  # of the function that is traced: the user's would change the order
    return records.shuffle(buffer_size, seed=seed, reshuffle_each_iteration=False)


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
    # Nothing is left to tune, and on busy cores its thread can miss that an epoch is over: then
    # closing the stream waits for its next look, after a long epoch a minute.
    options.autotune.enabled = False
    return options
