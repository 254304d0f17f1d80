"""The clips of a split straight from its shards, in constant memory."""

import collections
from collections.abc import Iterator

import numpy as np
from absl import logging

from stg_jax.config import DataConfig
from stg_jax.data.manifest import check_manifest
from stg_jax.data.reorder import of_this_host
from stg_jax.data.sampler import Order, Rows
from stg_jax.data.shards import LOST, Part, naming_damage, open_split
from stg_jax.data.tf import tf, tfds

_OF_FRAMES = ('appearance', 'motion')
_OF_OBJECTS = ('object', 'box', 'object_mask')


class Parser:
    """Take batches of records apart.

    TFDS takes one record apart at a time and all of it, at several times the cost.
    """

    def __init__(
        self,
        features: tfds.features.FeaturesDict,
        num_objects: int,
        *,
        with_grid: bool,
        with_lost: bool,
    ):
        self._num_objects, self._with_lost = num_objects, with_lost
        names = (*_OF_FRAMES, *_OF_OBJECTS, *(['grid'] if with_grid else []))
        self._stored = {name: features[name] for name in names}
        # Traced once here, not in every epoch.
        self.parse = tf.function(
            self._parse, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    def zeros(self, num_clips: int) -> dict[str, np.ndarray]:
        """Return what `parse` does for so many clips, but empty ids and zeros."""
        arrays = {}
        for name, stored in self._stored.items():
            shape = np.empty((num_clips, *stored.shape), np.bool_)[self._used(name)].shape
            arrays[name] = np.zeros(shape, stored.np_dtype)
        return arrays | {'id': np.full(num_clips, '', object)}

    def _parse(self, records: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return 'id' (B,) string and the arrays of B records, (B, ...) each."""
        names = ('id', *self._stored)
        whole = records
        if self._with_lost:  # else not even looked at: records are large
            lost = tf.strings.substr(records, 0, 1) == LOST
            whole = tf.where(lost, self._blank(), records)
        parsed = tf.io.parse_example(
            whole, {name: tf.io.FixedLenFeature((), tf.string) for name in names}
        )
        arrays = {name: self._array(name, parsed[name]) for name in self._stored}
        ids = tf.where(lost, records, parsed['id']) if self._with_lost else parsed['id']
        return arrays | {'id': ids}

    def _blank(self) -> bytes:
        """Return a record of zeros, with an empty id."""
        values = {
            name: np.zeros(stored.shape, stored.np_dtype).tobytes()
            for name, stored in self._stored.items()
        }
        features = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            for name, value in (values | {'id': b''}).items()
        }
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    def _array(self, name: str, values: tf.Tensor) -> tf.Tensor:
        stored = self._stored[name]
        array = tf.io.decode_raw(values, stored.np_dtype)
        return tf.reshape(array, (tf.size(values), *stored.shape))[self._used(name)]

    def _used(self, name: str) -> tuple[slice, ...]:
        """Return which part of an array the config asks for."""
        return np.s_[:, :, : self._num_objects] if name in _OF_OBJECTS else np.s_[:]


# Reading keeps one core busy, and parsing about one other.
_PARSED_AT_ONCE = 2
_PREFETCHED_BATCHES = 2


class StreamedClips:
    """Clips that are read from the shards whenever they are asked for.

    Attributes:
      split: where they are.
      part: which of its records are read.
      skipped: for each damaged shard the number of records that padding stood for so far.

    Raises:
      UserError: the data folder is missing or damaged, or does not fit the config.
    """

    def __init__(self, data_config: DataConfig, split: str, *, host: int = 0, num_hosts: int = 1):
        self._skip_damaged = False
        self.split = open_split(data_config.dir, split, damaged_ok=self._skip_damaged)
        self.part = Part.whole(self.split)
        if num_hosts > 1:
            self.part = Part.of_host(self.split, host, num_hosts)
        self.skipped = collections.Counter()
        check_manifest(self.split.manifest, data_config)
        self._parser = Parser(
            self.split.features,
            data_config.objects,
            with_grid=bool(data_config.grid_cells),
            with_lost=self._skip_damaged,
        )

    def zeros(self, num_clips: int) -> dict[str, np.ndarray]:
        """Return a batch of padding, shaped as those of `features`."""
        return self._parser.zeros(num_clips)

    def features(self, order: Order, rows: Rows) -> Iterator[dict[str, np.ndarray]]:
        """Yield 'id' and the arrays of this host's rows, the last batch perhaps short.

        Raises:
          UserError: a shard is damaged and not to be skipped.
        """
        records = self.part.records(order, skip_damaged=self._skip_damaged)
        # A pass gives nothing until it has filled its buffer: meanwhile there is the last one's.
        records = records.prefetch(max(1, order.buffer_size // 2))
        mine = of_this_host(rows, records).batch(rows.per_host)
        parsed = mine.map(self._parser.parse, num_parallel_calls=_PARSED_AT_ONCE)
        with naming_damage(self.split):
            for batch in parsed.prefetch(_PREFETCHED_BATCHES).as_numpy_iterator():
                yield batch | {'id': np.array([self._id(i.decode()) for i in batch['id']], object)}

    def _id(self, stored: str) -> str:
        """Return the id of a clip, that of padding for a lost one, which is counted."""
        if not stored.startswith(LOST):
            return stored
        shard = stored.removeprefix(LOST)
        if shard not in self.skipped:
            logging.warning('shard %s is damaged: padding stands for its lost clips', shard)
        self.skipped[shard] += 1
        return ''
