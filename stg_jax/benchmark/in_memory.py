"""A data set of random clips that are in memory from the start: no shards, no TensorFlow."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stg_jax.benchmark.synthetic import LENGTHS, VOCAB_SIZE, random_features
from stg_jax.data.batches import Clips, keeper
from stg_jax.data.caption_files import append_captions, read_captions
from stg_jax.data.captions import Captions
from stg_jax.data.manifest import NAME, Manifest
from stg_jax.data.order import Order, Rows
from stg_jax.data.vocab import SPECIAL, Vocabulary

CAPTIONS = 40  # of a clip, as MSVD has


def write_captions(config: Any, splits: Mapping[str, int]) -> None:
    """Write a data folder without shards at `config.data.dir`: manifest and random captions.

    Args:
      config: gives shapes.
      splits: number of clips of each split.
    """
    folder, data, rng = Path(config.data.dir), config.data, np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, number in splits.items():
        for i in range(number):
            texts = [_random_caption(rng) for _ in range(CAPTIONS)]
            append_captions(folder, split, f'{split}{i}', texts)
    widths = {kind: data[f'{kind}_dim'] for kind in ('appearance', 'motion', 'object')}
    Manifest(
        data_set='random',
        frames=data.frames,
        objects=data.objects,
        widths=widths,
        scale=dict.fromkeys(widths, 1.0),
        extractor={'name': 'random'},
        splits={s: {'clips': n, 'captions': n * CAPTIONS} for s, n in splits.items()},
        missing={},
        sources={},
    ).save(folder / NAME)


def open_random_clips(config: Any, data: Any, vocab: Vocabulary, split: str) -> Clips:
    """Open a split of `write_captions` as `data.batches.open_clips` opens one of shards."""
    captions = read_captions(data.dir, split)
    source = keeper(data.cache)(RandomClips(config, split, list(captions)))
    return Clips(data, source, Captions(captions, vocab, data.max_words))


@dataclasses.dataclass(frozen=True)
class Whole:
    """Stands for shards and the part of them that a host reads: all clips, in one piece.

    Attributes:
      manifest: of the data folder.
      folder: where it is.
      name: of the split.
      num_clips: of it.
    """

    manifest: Manifest
    folder: str
    name: str
    num_clips: int
    first = 0
    host = None
    paths = ('memory',)

    def numbers(self, order: Order, rows: Rows) -> Iterator[np.ndarray]:
        """Yield the numbers of a host's rows of each batch, every pass in an order of its own."""
        skips = [order.skipped] + [0] * len(order.seeds)
        return rows.dealt(
            np.random.default_rng(seed).permutation(self.num_clips)[skip:]
            for seed, skip in zip(order.seeds, skips, strict=False)
        )


class RandomClips:
    """Random features in memory, read like those of a stream."""

    def __init__(self, config: Any, split: str, ids: list[str]):
        manifest = Manifest.load(config.data.dir)
        self.split = self.part = Whole(manifest, config.data.dir, split, len(ids))
        self.skipped = collections.Counter()
        self._arrays = random_features(config, len(ids), seed=0) | {'id': np.array(ids, object)}

    def zeros(self, num_clips: int) -> dict[str, np.ndarray]:
        """Return a batch of padding."""
        zeros = {
            name: np.zeros((num_clips, *x.shape[1:]), x.dtype) for name, x in self._arrays.items()
        }
        return zeros | {'id': np.full(num_clips, '', object)}

    def features(self, order: Order, rows: Rows) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays of a host's rows."""
        for numbers in self.part.numbers(order, rows):
            yield {name: array[numbers] for name, array in self._arrays.items()}


def _random_caption(rng: np.random.Generator) -> str:
    """Return a caption as long as those of MSVD, of as many different words."""
    num_words = rng.choice(np.arange(1, len(LENGTHS) + 1), p=np.array(LENGTHS) / sum(LENGTHS))
    return ' '.join(f'word{i}' for i in rng.integers(VOCAB_SIZE - len(SPECIAL), size=num_words))
