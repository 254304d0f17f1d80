"""Clips streamed from the shards of a split, in constant memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from stg_jax.config import DataConfig
from stg_jax.data.manifest import check_manifest
from stg_jax.data.sampler import Rows, Sampling
from stg_jax.data.shards import Part, naming_damage, open_split
from stg_jax.data.tf import tf, tfds

_OF_FRAMES = ('appearance', 'motion')
_OF_OBJECTS = ('object', 'box', 'object_mask')


class Parser:
    """Parse batches of records.

    TFDS parses one record at a time and all of it, at several times the cost.
    """

    def __init__(self, features: tfds.features.FeaturesDict, num_objects: int, *, with_grid: bool):
        self._num_objects = num_objects
        names = (*_OF_FRAMES, *_OF_OBJECTS, *(['grid'] if with_grid else []))
        self._stored: dict[str, Any] = {name: features[name] for name in names}
        # Traced once here, not in every epoch.
        self.parse = tf.function(
            self._parse, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    def zeros(self, num_clips: int) -> dict[str, np.ndarray]:
        """Arrays of the shapes and types that `parse` returns, with empty ids and zeros."""
        arrays = {}
        for name, stored in self._stored.items():
            shape = np.empty((num_clips, *stored.shape), np.bool_)[self._used(name)].shape
            arrays[name] = np.zeros(shape, stored.np_dtype)
        return arrays | {'id': np.full(num_clips, '', object)}

    def _parse(self, records: Any) -> dict[str, Any]:
        """Parse B records: 'id' (B,) string and the arrays, (B, ...) each."""
        names = ('id', *self._stored)
        parsed: dict[str, Any] = tf.io.parse_example(
            records, {name: tf.io.FixedLenFeature((), tf.string) for name in names}
        )
        arrays = {name: self._array(name, parsed[name]) for name in self._stored}
        return arrays | {'id': parsed['id']}

    def _array(self, name: str, values: Any) -> Any:
        stored = self._stored[name]
        array = tf.io.decode_raw(values, stored.np_dtype)
        return tf.reshape(array, (tf.size(values), *stored.shape))[self._used(name)]

    def _used(self, name: str) -> tuple[slice, ...]:
        """Select the objects of an array that the config asks for."""
        # Shards may hold more objects than training uses; the first ones have the best scores.
        return np.s_[:, :, : self._num_objects] if name in _OF_OBJECTS else (np.s_[:],)


# Reading keeps one core busy, and parsing about one other. Streaming reaches 0.54 of the speed of a
# bare TFRecordDataset that parses nothing (3,750 of 6,522 clips a second on two cores).
_PARSED_AT_ONCE = 2
_PREFETCHED_BATCHES = 2


class StreamedClips:
    """Clips that are read from the shards whenever they are asked for.

    Attributes:
      split: where they are.
      part: which of its records are read.

    Raises:
      UserError: the data folder is missing or damaged, or does not fit the config.
    """

    def __init__(self, data_config: DataConfig, split: str, *, host: int = 0, num_hosts: int = 1):
        self.split = open_split(data_config.dir, split)
        self.part = Part.whole(self.split)
        if num_hosts > 1:
            self.part = Part.of_host(self.split, host, num_hosts)
        check_manifest(self.split.manifest, data_config)
        self._parser = Parser(
            self.split.features, data_config.objects, with_grid=bool(data_config.grid_cells)
        )

    def zeros(self, num_clips: int) -> dict[str, np.ndarray]:
        """Make a batch of padding, shaped as those of `features`."""
        return self._parser.zeros(num_clips)

    def features(self, sampling: Sampling) -> Iterator[dict[str, np.ndarray]]:
        """Yield 'id' and the arrays of this host's rows, the last batch perhaps short.

        Raises:
          UserError: a shard is damaged.
        """
        order, rows = sampling.order, sampling.rows
        records = self.part.records(order)
        # A pass yields nothing until it has filled its shuffle buffer. Half a buffer of records
        # read ahead, from the end of the pass before, bridges that time.
        records = records.prefetch(max(1, order.buffer_size // 2))
        mine = _of_this_host(rows, records).batch(rows.per_host)
        parsed = mine.map(self._parser.parse, num_parallel_calls=_PARSED_AT_ONCE)
        with naming_damage(self.split):
            for batch in parsed.prefetch(_PREFETCHED_BATCHES).as_numpy_iterator():
                yield batch | {'id': np.array([i.decode() for i in batch['id']], object)}


def _of_this_host(rows: Rows, records: tf.data.Dataset) -> tf.data.Dataset:
    """Keep those of the records, which begin at `first_step`, that belong to this host."""
    if rows.num_hosts == 1:
        return records
    first = rows.first_step * rows.clips_per_batch

    # Before parsing: the records of the other hosts cost only their reading.
    @tf.autograph.experimental.do_not_convert
    def is_mine(position: Any, _: Any) -> Any:
        return position % rows.clips_per_batch // rows.per_host == rows.host

    numbered: Any = records.enumerate(first)
    return numbered.filter(is_mine).map(lambda _, record: record)
