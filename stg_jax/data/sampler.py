"""Which records are the rows of which batch, fixed before any record is parsed.

The order is one of record numbers: a stream applies it to the bytes of the records, a cache to rows
in memory, and both get the same batches. Nothing here needs TensorFlow.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from stg_jax.errors import UserError


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
        """One pass in the order of the files."""
        return cls([np.arange(num_shards)], [0], buffer_size=1)

    @classmethod
    def drawn(
        cls,
        num_shards: int,
        buffer_size: int,
        rngs: Sequence[np.random.Generator],
        skipped: int,
    ) -> 'Order':
        """Draw one pass from each generator."""
        # A seed, not a permutation of the records: a stream shuffles within a buffer, as it cannot
        # hold a whole split, and the same seed gives the numbers in the same order.
        shards = [rng.permutation(num_shards) for rng in rngs]
        seeds = [int(rng.integers(2**63 - 1)) for rng in rngs]
        return cls(shards, seeds, buffer_size, skipped)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Which records, by their position in an epoch, are the rows of one host.

    Attributes:
      clips_per_batch: rows of a global batch.
      host: number of this host.
      num_hosts: hosts that divide a batch among them.
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
        # Equal parts: a device must get rows of one shape whatever host feeds it.
        if self.clips_per_batch % self.num_hosts:
            raise UserError(
                f'{self.clips_per_batch} clips a batch cannot be divided among {self.num_hosts} '
                'hosts: choose another config.train.batch_size'
            )

    @property
    def per_host(self) -> int:
        """Rows of a batch that one host has."""
        return self.clips_per_batch // self.num_hosts

    @property
    def end_step(self) -> int:
        """Number of batches of the whole epoch."""
        # All hosts must take the same number of steps: one that stops early hangs the others.
        return max(self.num_steps, -(-self.total // self.clips_per_batch))

    @property
    def steps(self) -> range:
        """The batches that are left of the epoch."""
        return range(self.first_step, self.end_step)

    def positions(self, step: int) -> np.ndarray:
        """Positions in the epoch of this host's rows of a batch, without padding."""
        first = step * self.clips_per_batch + self.host * self.per_host
        return np.arange(first, min(first + self.per_host, self.total))

    def dealt(self, passes: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the numbers of this host's rows of each batch.

        Args:
          passes: the numbers of the records of each pass, from the first batch on.
        """
        passes = iter(passes)
        # A batch may begin in one pass and end in the next: passes are joined as they are needed.
        drawn = np.empty(0, np.int64)
        for step in self.steps:
            places = self.positions(step) - self.first_step * self.clips_per_batch
            while len(drawn) <= places.max(initial=-1):
                drawn = np.concatenate([drawn, next(passes)])
            yield drawn[places]


class Records(Protocol):
    """Consecutive records of a split, such as a `shards.Part`."""

    @property
    def first(self) -> int:
        """Number of the first of them in the split."""
        ...

    @property
    def paths(self) -> Sequence[str]:
        """Shards that hold them."""
        ...

    @property
    def num_clips(self) -> int:
        """Number of records."""
        ...

    @property
    def host(self) -> int | None:
        """The host that reads only these records, None where it is the whole split."""
        ...

    def numbers(self, order: Order) -> Iterable[np.ndarray]:
        """Yield the numbers of the records of each pass, in an order."""
        ...


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The records that are this host's rows of each batch: as an order, and as numbers.

    Attributes:
      part: the records.
      order: in which they are read.
      rows: which of them, by position, belong to this host.
    """

    part: Records
    order: Order
    rows: Rows

    @functools.cached_property
    def numbers(self) -> list[np.ndarray]:
        """Numbers of this host's rows of each batch, drawn once however often they are used."""
        return list(self.rows.dealt(self.part.numbers(self.order)))
