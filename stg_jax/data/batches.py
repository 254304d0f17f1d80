"""Batches of NumPy arrays of fixed shapes, from the shards or from memory.

Every global batch is a function of (seed, epoch, step) alone: of neither the number of hosts, nor
where a run stopped and went on, nor whether the clips are streamed or cached.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from stg_jax.data.cached import CachedClips
from stg_jax.data.captions import Captions
from stg_jax.data.manifest import Manifest
from stg_jax.data.order import Order, Rows
from stg_jax.data.records import read_captions
from stg_jax.data.shards import Split, damage
from stg_jax.data.streamed import StreamedClips
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Clips:
    """A split that is ready to be read again and again.

    Attributes:
      config: `config.data`.
      source: of the features.
      captions: of all clips.
    """

    config: Any
    source: StreamedClips | CachedClips
    captions: Captions

    @property
    def split(self) -> Split:
        """Return where the clips are stored."""
        return self.source.split


def stream_clips(data_config: Any, vocab: Vocabulary, split: str) -> Clips:
    """Open a split whose shards are read anew each time.

    Raises:
      UserError: the data folder is missing or damaged, or does not fit the config.
    """
    source = StreamedClips(data_config, split)
    captions = Captions(read_captions(data_config.dir, split), vocab, data_config.max_words)
    return Clips(data_config, source, captions)


def open_clips(data_config: Any, vocab: Vocabulary, split: str) -> Clips:
    """Open a split that is read more than once, as `data_config.cache` says.

    'none' streams it; 'host' reads it now and keeps it in memory while the returned object lives.

    Raises:
      UserError: the data folder is missing or damaged, or does not fit the config or the memory.
    """
    if data_config.cache not in ('none', 'host'):
        raise UserError(
            f'config.data.cache = {data_config.cache!r} is unknown: use none to stream the shards '
            'or host to keep the clips in memory'
        )
    clips = stream_clips(data_config, vocab, split)
    if data_config.cache == 'host':
        return dataclasses.replace(clips, source=CachedClips(clips.source))
    return clips


def steps_per_epoch(manifest: Manifest, data_config: Any, clips_per_batch: int) -> int:
    """Return the number of global batches of an epoch of `train_batches`."""
    num_clips = _train_counts(manifest)['clips']
    return -(-passes_per_epoch(manifest, data_config) * num_clips // clips_per_batch)


def passes_per_epoch(manifest: Manifest, data_config: Any) -> int:
    """Return how often an epoch sees each clip, to show about as many captions as there are."""
    counts = _train_counts(manifest)
    return -(-counts['captions'] // (counts['clips'] * data_config.captions_per_clip))


def _train_counts(manifest: Manifest) -> dict[str, int]:
    if 'train' not in manifest.splits:
        raise UserError(f'the {manifest.data_set} data has no train split: prepare one to train')
    return manifest.splits['train']


def train_batches(
    clips: Clips,
    *,
    clips_per_batch: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    host: int = 0,
    num_hosts: int = 1,
) -> Iterator[Batch]:
    """Yield one epoch of training batches from `start_step` on: this host's rows of each.

    An epoch is several passes over the clips, each in a new order. A clip shows the next
    `captions_per_clip` captions of a random order in every pass, so that none comes back before
    all were shown. The last batch is filled up with padding clips.

    Returns:
      Batches of B = clips_per_batch / num_hosts clips with K captions of L = max_words + 2 tokens:
      id (B,) object, '' for a padding clip; appearance (B, T, C2), motion (B, T, C3) and object
      (B, T, N, Co) float16; box (B, T, N, 4) float32; object_mask (B, T, N) bool; tokens (B, K, L)
      int32: BOS, words, EOS, PAD, and all PAD where a clip has fewer than K captions.

    Raises:
      UserError: the hosts cannot share a batch, or a shard is damaged (while iterating).
    """
    config, split = clips.config, clips.split
    num_passes = passes_per_epoch(split.manifest, config)
    rows = Rows(clips_per_batch, host, num_hosts, start_step, num_passes * split.num_clips)
    skipped_passes, skipped = divmod(start_step * clips_per_batch, split.num_clips)
    rngs = [np.random.default_rng([seed, epoch, p]) for p in range(skipped_passes, num_passes)]
    order = Order.drawn(len(split.paths), config.shuffle_buffer, rngs, skipped)
    caption_seed = int(np.random.default_rng([seed, epoch]).integers(2**31))
    schedule = clips.captions.shuffled(config.captions_per_clip, num_passes, caption_seed)
    return _batches(clips, order, rows, schedule)


def eval_batches(
    clips: Clips, *, clips_per_batch: int, host: int = 0, num_hosts: int = 1
) -> Iterator[Batch]:
    """Yield every clip once, in file order, with its first `eval_captions` captions.

    Shapes and errors are those of `train_batches`; all hosts yield equally many batches.
    """
    rows = Rows(clips_per_batch, host, num_hosts, 0, clips.split.num_clips)
    order = Order.as_stored(len(clips.split.paths))
    return _batches(clips, order, rows, clips.captions.first(clips.config.eval_captions))


def _batches(clips: Clips, order: Order, rows: Rows, schedule: np.ndarray) -> Iterator[Batch]:
    """Join features with the captions that the schedule shows; fill up with padding clips."""
    features, nothing = clips.source.features(order, rows), clips.source.zeros(0)
    for step in range(rows.first_step, rows.end_step):
        # A host can have no row at all in the last batch, for which the others still wait.
        batch, positions = next(features, nothing), rows.positions(step)
        if len(batch['id']) != len(positions):
            raise damage(clips.split)
        passes = positions // clips.split.num_clips
        batch = batch | {'tokens': clips.captions.tokens(schedule, batch['id'], passes)}
        yield {key: _filled_up(value, rows.per_host) for key, value in batch.items()}


def _filled_up(value: np.ndarray, num_rows: int) -> np.ndarray:
    if len(value) == num_rows:
        return value
    padded = np.full((num_rows, *value.shape[1:]), '' if value.dtype == object else 0, value.dtype)
    padded[: len(value)] = value
    return padded
