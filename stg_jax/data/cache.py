"""The clips of a split kept in the memory of the host or of the devices.

Batches from memory come at 33,000 clips a second on two cores, against 3,750 streamed ones.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stg_jax.data.sampler import Order, Records, Rows, Sampling
from stg_jax.errors import UserError

_LOADED_AT_ONCE = 32  # clips


Batch = dict[str, np.ndarray]  # arrays by name, a row per clip


class ClipSource(Protocol):
    """Clips of a split that can be read again and again."""

    @property
    def split(self) -> Any:
        """Where they are stored: a `shards.Split`, or a stand-in with its manifest and name."""
        ...

    @property
    def part(self) -> Records:
        """Which of its records are read."""
        ...

    def zeros(self, num_clips: int) -> Batch:
        """Make a batch of padding, shaped as those of `features`."""
        ...

    def features(self, sampling: Sampling) -> Iterator[Batch]:
        """Yield 'id' and the arrays of this host's rows, the last batch perhaps short."""
        ...


class CachedClips:
    """Clips with the features of `StreamedClips`, in the same order, gathered from memory.

    Attributes:
      split: where they were read from.
      part: which of its records were read.

    Raises:
      UserError: the clips need more memory than there is, or a shard is damaged.
    """

    def __init__(self, streamed: ClipSource):
        self.split, self.part = streamed.split, streamed.part
        _check_memory(streamed)
        self.zeros = streamed.zeros
        self._arrays = _load(streamed)

    def features(self, sampling: Sampling) -> Iterator[Batch]:
        """Yield 'id' and the arrays of this host's rows, the last batch perhaps short."""
        for numbers in sampling.numbers:
            yield self._gather(numbers)

    def _gather(self, numbers: np.ndarray) -> Batch:
        # Here and not in a thread: handing a batch over costs more than copying it, which memory
        # limits. `take` copies whole rows; indexing with an array is a quarter slower.
        return {name: array.take(numbers, axis=0) for name, array in self._arrays.items()}


class IndexedClips(CachedClips):
    """Clips whose features go to the devices, so that batches hold only their row numbers."""

    def __init__(self, streamed: ClipSource):
        super().__init__(streamed)
        self._ids = self._arrays.pop('id')
        self.zeros = _no_rows

    def take_table(self) -> Batch:
        """Hand over the features by row, once: one copy of them is enough."""
        table, self._arrays = self._arrays, {}
        return table

    def _gather(self, numbers: np.ndarray) -> Batch:
        return {'id': self._ids[numbers], 'row': numbers.astype(np.int32)}


def _no_rows(num_clips: int) -> Batch:
    # A padding clip gets the features of row 0. It has no caption, so that no loss counts them.
    return {'id': np.full(num_clips, '', object), 'row': np.zeros(num_clips, np.int32)}


def _load(streamed: ClipSource) -> Batch:
    """Read 'id' and the arrays of all clips, in file order."""
    # Filled in place: joining batches at the end would take the memory twice.
    num_clips = streamed.part.num_clips
    arrays = streamed.zeros(num_clips)
    order = Order.as_stored(len(streamed.part.paths))
    rows = Rows(_LOADED_AT_ONCE, host=0, num_hosts=1, first_step=0, total=num_clips)
    first = 0
    for batch in streamed.features(Sampling(streamed.part, order, rows)):
        last = first + len(batch['id'])
        for name, array in arrays.items():
            array[first:last] = batch[name]
        first = last
    return arrays


def _check_memory(streamed: ClipSource) -> None:
    # Checked before reading: the kernel would kill the process minutes later without a word.
    split, free = streamed.split, _free_memory()
    needed = streamed.part.num_clips * sum(array.nbytes for array in streamed.zeros(1).values())
    if needed > free:
        raise UserError(
            f'the {split.name} split of {split.folder} takes {needed / 1e9:.1f} GB of memory, but '
            f'{free / 1e9:.1f} GB are free: stream it with --config.data.cache=none'
        )


def _free_memory() -> int:
    """Bytes that can be allocated without swapping."""
    meminfo = Path('/proc/meminfo')
    if not meminfo.exists():
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    # MemAvailable counts the page cache, too, which sysconf's free pages do not: it is full of the
    # shards that were just read, and is given up when memory is asked for.
    fields = dict(line.split(':') for line in meminfo.read_text().splitlines())
    return int(fields['MemAvailable'].split()[0]) * 1024
