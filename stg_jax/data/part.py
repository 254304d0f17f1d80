"""The records of a split that one host reads: all of them, or its share of the shards."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from stg_jax.data.order import Order, Rows
from stg_jax.data.quiet_tensorflow import tf, tfds
from stg_jax.data.reorder import reordered, reordered_numbers
from stg_jax.data.shards import Split
from stg_jax.errors import UserError

LOST = '\0'  # begins what stands for a record that cannot be read; the name of its shard follows


@dataclasses.dataclass(frozen=True)
class Part:
    """Consecutive records of a split.

    Attributes:
      first: number of the first of them in the split.
      paths: shards that hold them.
      skips: records to pass over at the beginning of each shard.
      lengths: records to read from each shard after these.
      host: the host whose share this is, None where it is the whole split.
    """

    first: int
    paths: Sequence[str]
    skips: Sequence[int]
    lengths: Sequence[int]
    host: int | None = None

    @classmethod
    def whole(cls, split: Split) -> 'Part':
        """Return all records of a split."""
        return cls(0, split.paths, [0] * len(split.paths), split.lengths)

    @classmethod
    def of_host(cls, split: Split, host: int, num_hosts: int) -> 'Part':
        """Return the share of one of several hosts, which differ by one record at most.

        Raises:
          UserError: there are more hosts than clips.
        """
        if num_hosts > split.num_clips:
            raise UserError(
                f'{split.folder} has {split.num_clips} {split.name} clips for {num_hosts} hosts: '
                'pass --config.data.order=global'
            )
        share = tfds.even_splits(split.name, num_hosts)[host]
        files = tfds.builder_from_directory(split.folder).info.splits[share].file_instructions
        whole = {path: i for i, path in enumerate(split.paths)}
        numbers = [whole[file.filename] for file in files]
        lengths = [
            split.lengths[i] - file.skip if file.take == -1 else file.take
            for i, file in zip(numbers, files, strict=True)
        ]
        first = sum(split.lengths[: numbers[0]]) + files[0].skip
        skips = [file.skip for file in files]
        return cls(first, [file.filename for file in files], skips, lengths, host)

    @property
    def num_clips(self) -> int:
        """Return the number of records."""
        return sum(self.lengths)

    def records(self, order: Order, *, skip_damaged: bool) -> tf.data.Dataset:
        """Return the serialized records in an order; `LOST` + path for what cannot be read."""
        paths = tf.constant(self.paths)
        skips, lengths = tf.constant([self.skips, self.lengths], tf.int64)

        @tf.autograph.experimental.do_not_convert
        def of_shard(number: tf.Tensor) -> tf.data.Dataset:
            records = tf.data.TFRecordDataset(paths[number])
            if skip_damaged:
                # After a damaged record nothing of its shard can be trusted to be where it was.
                lost = tf.data.Dataset.from_tensors(LOST + paths[number]).repeat()
                records = records.ignore_errors().concatenate(lost)
            return records.skip(skips[number]).take(lengths[number])

        return reordered(
            order, lambda shards: tf.data.Dataset.from_tensor_slices(shards).flat_map(of_shard)
        )

    def numbers(self, order: Order, rows: Rows) -> Iterator[np.ndarray]:
        """Yield the numbers, counted from `first`, of a host's rows of each batch of `records`."""
        ends = np.cumsum(self.lengths)
        passes = reordered_numbers(order, np.split(np.arange(ends[-1]), ends[:-1]))
        return rows.dealt(passes)
