"""The clips of a split straight from its shards, in constant memory."""

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from stg_jax.data.manifest import check_manifest
from stg_jax.data.order import Order, Rows
from stg_jax.data.parsing import Parser
from stg_jax.data.part import LOST, Part
from stg_jax.data.reorder import of_this_host
from stg_jax.data.shards import naming_damage, open_split

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

    def __init__(self, data_config: Any, split: str, *, host: int = 0, num_hosts: int = 1):
        # A score over fewer clips than others count would be no score: only training can skip.
        self._skip_damaged = data_config.skip_damaged and split == 'train'
        self.split = open_split(data_config.dir, split, damaged_ok=self._skip_damaged)
        self.part = Part.whole(self.split)
        if num_hosts > 1:
            self.part = Part.of_host(self.split, host, num_hosts)
        self.skipped = collections.Counter()
        check_manifest(self.split.manifest, data_config)
        self._parser = Parser(
            self.split.features,
            data_config.objects,
            with_grid=bool(data_config.get('grid_cells', 0)),
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
