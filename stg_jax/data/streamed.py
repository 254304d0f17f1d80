"""The clips of a split straight from its shards, in constant memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from stg_jax.data.manifest import check_manifest
from stg_jax.data.order import Order, Rows
from stg_jax.data.parsing import Parser
from stg_jax.data.quiet_tensorflow import tf
from stg_jax.data.shards import naming_damage, open_split

# Reading keeps one core busy, and parsing about one other.
_PARSED_AT_ONCE = 2
_PREFETCHED_BATCHES = 2


class StreamedClips:
    """Clips that are read from the shards whenever they are asked for.

    Attributes:
      split: where they are.

    Raises:
      UserError: the data folder is missing or damaged, or does not fit the config.
    """

    def __init__(self, data_config: Any, split: str):
        self.split = open_split(data_config.dir, split)
        check_manifest(self.split.manifest, data_config)
        self._parser = Parser(self.split.features, data_config.objects)

    def zeros(self, num_clips: int) -> dict[str, np.ndarray]:
        """Return a batch of padding, shaped as those of `features`."""
        return self._parser.zeros(num_clips)

    def features(self, order: Order, rows: Rows) -> Iterator[dict[str, np.ndarray]]:
        """Yield 'id' and the arrays of this host's rows, the last batch perhaps short.

        Raises:
          UserError: a shard is damaged.
        """
        paths = np.array(self.split.paths)
        records = order.apply(lambda shards: paths[shards], tf.data.TFRecordDataset)
        # A pass gives nothing until it has filled its buffer: meanwhile there is the last one's.
        records = records.prefetch(max(1, order.buffer_size // 2))
        mine = rows.of_this_host(records).batch(rows.per_host)
        parsed = mine.map(self._parser.parse, num_parallel_calls=_PARSED_AT_ONCE)
        with naming_damage(self.split):
            for batch in parsed.prefetch(_PREFETCHED_BATCHES).as_numpy_iterator():
                yield batch | {'id': np.array([i.decode() for i in batch['id']], object)}
