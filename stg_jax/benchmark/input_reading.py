"""Read a data folder in four ways: bare, streamed, cached, and as plain arrays on disk."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stg_jax.benchmark.timing import time_interleaved
from stg_jax.config import DataConfig
from stg_jax.data.batches import eval_batches, open_clips, passes_per_epoch, train_batches
from stg_jax.data.captions import read_captions
from stg_jax.data.manifest import KINDS
from stg_jax.data.shards import open_split
from stg_jax.data.tf import tf
from stg_jax.data.vocab import Vocabulary

_ARRAYS = (*KINDS, 'box', 'object_mask', 'id', 'tokens')


def write_arrays(data: DataConfig, folder: Path) -> None:
    """Write the train split as one .npy file per array into a new folder."""
    folder.mkdir()
    parts = {name: [] for name in _ARRAYS}
    clips = _opened(data, 'none')
    for batch in eval_batches(clips, clips_per_batch=32):
        for name, values in parts.items():
            values.append(batch[name][batch['id'] != ''])
    for name, values in parts.items():
        array = np.concatenate(values)
        # NumPy would pickle an array of objects.
        np.save(folder / f'{name}.npy', array.astype(str) if array.dtype == object else array)


def seconds_of_epochs(
    ways: Sequence[str], data: DataConfig, arrays: Path, clips_per_batch: int, repeats: int
) -> dict[str, list[float]]:
    """Time an epoch of each way, in every round."""
    epochs = {way: epoch_of(way, data, arrays, clips_per_batch) for way in ways}
    return time_interleaved(epochs, repeats)


def read_epoch(way: str, data: DataConfig, arrays: Path, clips_per_batch: int) -> None:
    """Read one epoch in one way."""
    epoch_of(way, data, arrays, clips_per_batch)()


def epoch_of(way: str, data: DataConfig, arrays: Path, clips_per_batch: int) -> Callable[[], None]:
    """Build a function that reads an epoch: all passes over the train split."""
    split = open_split(data.dir, 'train')
    num_passes = passes_per_epoch(split.manifest, data)
    if way == 'bare':
        return lambda: _consume(tf.data.TFRecordDataset(list(split.paths)).repeat(num_passes))
    if way == 'memmap':
        return lambda: _slice_arrays(arrays, num_passes, clips_per_batch)
    clips = _opened(data, {'streamed': 'none', 'cached': 'host'}[way])
    return lambda: _consume(train_batches(clips, clips_per_batch=clips_per_batch, seed=0, epoch=0))


def _opened(data: DataConfig, cache: str) -> Any:
    captions = read_captions(data.dir, 'train').values()
    vocab = Vocabulary.build([text for texts in captions for text in texts], 1)
    return open_clips(dataclasses.replace(data, cache=cache), vocab, 'train')


def _slice_arrays(folder: Path, num_passes: int, clips_per_batch: int) -> None:
    arrays = {name: np.load(folder / f'{name}.npy', mmap_mode='r') for name in _ARRAYS}
    num_clips = len(arrays['box'])
    rng = np.random.default_rng(0)
    for _ in range(num_passes):
        order = rng.permutation(num_clips)
        for first in range(0, num_clips, clips_per_batch):
            # Random rows, as a shuffled epoch reads them; slices in order would only measure the
            # page cache.
            rows = order[first : first + clips_per_batch]
            batch = {name: array[rows] for name, array in arrays.items()}
    del batch


def _consume(items: Iterable) -> None:
    for _ in items:
        pass
