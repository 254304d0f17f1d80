"""Batches of NumPy arrays of fixed shapes, from the shards or from memory.

Every global batch is a function of (seed, epoch, step) alone: of neither the number of hosts, nor
where a run stopped and went on, nor whether the clips are streamed or cached. With the order
'per_host' it is one of the number of hosts, too.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from stg_jax.config import DataConfig
from stg_jax.data.cache import CachedClips, IndexedClips
from stg_jax.data.captions import Captions, read_captions
from stg_jax.data.manifest import Manifest
from stg_jax.data.sampler import Order, Rows
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError

if TYPE_CHECKING:  # they load TensorFlow, which clips in memory do without
    from stg_jax.data.shards import Split
    from stg_jax.data.stream import StreamedClips

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Clips:
    """A split that is ready to be read again and again.

    Attributes:
      config: `config.data`.
      source: of the features.
      captions: of all clips.
    """

    config: DataConfig
    source: 'StreamedClips | CachedClips'
    captions: Captions

    @property
    def split(self) -> 'Split':
        """Return where the clips are stored."""
        return self.source.split

    def take_table(self) -> dict[str, np.ndarray]:
        """Return what 'row' of a batch counts in, once; nothing if batches have features."""
        return self.source.take_table() if isinstance(self.source, IndexedClips) else {}


def stream_clips(data_config: DataConfig, vocab: Vocabulary, split: str, **share: int) -> Clips:
    """Open a split whose shards are read anew each time.

    Args:
      data_config: `config.data`.
      vocab: the words.
      split: its name.
      **share: `host` and `num_hosts`, where this host is to read its share of the shards alone.

    Raises:
      UserError: the data folder is missing or damaged, or does not fit the config.
    """
    from stg_jax.data.stream import StreamedClips

    source = StreamedClips(data_config, split, **share)
    captions = read_captions(data_config.dir, split)
    return Clips(data_config, source, Captions(captions, vocab, data_config.max_words))


def open_clips(data_config: DataConfig, vocab: Vocabulary, split: str, **share: int) -> Clips:
    """Open a split that is read more than once, as `data_config.cache` says.

    'none' streams it; 'host' reads it now and keeps it in memory while the returned object lives;
    'device' does so for the devices: `take_table` gives what to put there, and batches hold
    'row' (B,) int32, numbers of rows in it, in the place of features. The arguments are those of
    `stream_clips`.

    Raises:
      UserError: the data folder is missing or damaged, or does not fit the config or the memory.
    """
    keep = keeper(data_config.cache)
    clips = stream_clips(data_config, vocab, split, **share)
    return dataclasses.replace(clips, source=keep(clips.source))


def keeper(cache: str) -> Callable[['StreamedClips'], 'StreamedClips | CachedClips']:
    """Return what keeps the clips of a stream as `config.data.cache` says.

    Raises:
      UserError: there is no such cache.
    """
    kinds = {'none': lambda streamed: streamed, 'host': CachedClips, 'device': IndexedClips}
    if cache not in kinds:
        raise UserError(
            f'config.data.cache = {cache!r} is unknown: use none to stream the shards, '
            'host to keep the clips in memory or device to keep them in that of each accelerator'
        )
    return kinds[cache]


def steps_per_epoch(
    manifest: Manifest, data_config: DataConfig, clips_per_batch: int, num_hosts: int = 1
) -> int:
    """Return the number of global batches of an epoch of `train_batches`, the same on all hosts."""
    num_clips = _train_counts(manifest)['clips']
    if shares(data_config, num_hosts):
        num_clips = -(-num_clips // num_hosts) * num_hosts  # the largest share decides
    return -(-passes_per_epoch(manifest, data_config) * num_clips // clips_per_batch)


def shares(data_config: DataConfig, num_hosts: int) -> bool:
    """Return whether each host reads its share of the train shards alone, as `order` says.

    Raises:
      UserError: there is no such order.
    """
    if data_config.order not in ('global', 'per_host'):
        raise UserError(
            f'config.data.order = {data_config.order!r} is unknown: use global for the same '
            'batches on any number of hosts or per_host to let each read its share of the shards'
        )
    if data_config.order == 'per_host' and data_config.cache == 'device':
        raise UserError(
            'config.data.cache = device puts all clips on every device: with config.data.order = '
            'per_host use host or none'
        )
    return data_config.order == 'per_host' and num_hosts > 1


def passes_per_epoch(manifest: Manifest, data_config: DataConfig) -> int:
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
      (B, T, N, Co) float16, and grid (B, T, G, Cg) where the config asks for it; box (B, T, N, 4)
      float32; object_mask (B, T, N) bool; tokens (B, K, L) int32: BOS, words, EOS, PAD, and all
      PAD where a clip has fewer than K captions.

    Raises:
      UserError: the hosts cannot share a batch, or a shard is damaged (while iterating).
    """
    world = {'host': host, 'num_hosts': num_hosts}
    return _batches(clips, *_epoch(clips, clips_per_batch, seed, epoch, start_step, **world))


def train_targets(
    clips: Clips,
    *,
    clips_per_batch: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    host: int = 0,
    num_hosts: int = 1,
) -> np.ndarray:
    """Return how many words are to be predicted in each row of `train_batches`, reading no clip.

    Returns:
      (steps, B) int64.
    """
    world = {'host': host, 'num_hosts': num_hosts}
    order, rows, schedule = _epoch(clips, clips_per_batch, seed, epoch, start_step, **world)
    part = clips.source.part
    steps = range(rows.first_step, rows.end_step)
    nothing = np.empty(0, np.int64)
    numbers = np.concatenate([nothing, *part.numbers(order, rows)])
    positions = np.concatenate([nothing, *map(rows.positions, steps)])
    passes = positions // part.num_clips
    targets = np.zeros(len(steps) * rows.per_host, np.int64)
    targets[: len(numbers)] = clips.captions.num_targets(schedule, part.first + numbers, passes)
    return targets.reshape(len(steps), rows.per_host)


def _epoch(clips, clips_per_batch, seed, epoch, start_step, *, host, num_hosts):
    """Return order, rows and schedule of what is left of an epoch of training."""
    config, part, manifest = clips.config, clips.source.part, clips.split.manifest
    num_passes = passes_per_epoch(manifest, config)
    key = [seed, epoch]
    rows = Rows(clips_per_batch, host, num_hosts, start_step, num_passes * part.num_clips)
    if part.host is not None:
        num_steps = steps_per_epoch(manifest, config, clips_per_batch, num_hosts)
        rows = Rows(rows.per_host, 0, 1, start_step, rows.total, num_steps)
    skipped_passes, skipped = divmod(start_step * rows.clips_per_batch, part.num_clips)
    # Each host has an order of its own when it has clips of its own.
    ends = [] if part.host is None else [part.host]
    passes = range(skipped_passes, num_passes)
    rngs = [np.random.default_rng([*key, p, *ends]) for p in passes]
    order = Order.drawn(len(part.paths), config.shuffle_buffer, rngs, skipped)
    caption_seed = int(np.random.default_rng(key).integers(2**31))
    schedule = clips.captions.shuffled(config.captions_per_clip, num_passes, caption_seed)
    return order, rows, schedule


def eval_batches(
    clips: Clips, *, clips_per_batch: int, host: int = 0, num_hosts: int = 1
) -> Iterator[Batch]:
    """Yield every clip once, in file order, with its first `eval_captions` captions.

    Rows of padding cost as much as clips: `even_batch_size` finds a size that leaves few.
    Shapes and errors are those of `train_batches`; all hosts yield equally many batches.
    """
    rows = Rows(clips_per_batch, host, num_hosts, 0, clips.source.part.num_clips)
    order = Order.as_stored(len(clips.source.part.paths))
    return _batches(clips, order, rows, clips.captions.first(clips.config.eval_captions))


def even_batch_size(num_clips: int, most: int, divisor: int = 1) -> int:
    """Return how many clips a batch has when as few batches as possible are about equally large.

    Args:
      num_clips: of all batches together.
      most: clips of a batch at most, rounded up to a multiple of the divisor.
      divisor: what the size is to be a multiple of.
    """
    largest = -(-most // divisor) * divisor
    num_batches = -(-num_clips // largest)
    return -(-num_clips // (num_batches * divisor)) * divisor


def empty_batch(clips: Clips, num_rows: int) -> Batch:
    """Return padding clips alone, in the shapes that `eval_batches` yields."""
    config = clips.config
    tokens = np.zeros((num_rows, config.eval_captions, config.max_words + 2), np.int32)
    return clips.source.zeros(num_rows) | {'tokens': tokens}


def _batches(clips: Clips, order: Order, rows: Rows, schedule: np.ndarray) -> Iterator[Batch]:
    """Join features with the captions that the schedule shows; fill up with padding clips."""
    features, nothing = iter(()), clips.source.zeros(0)
    if order.shards:  # else the other hosts have more rows in the last batch
        features = clips.source.features(order, rows)
    for step in range(rows.first_step, rows.end_step):
        # A host can have no row at all in the last batch, for which the others still wait.
        batch, positions = next(features, nothing), rows.positions(step)
        if len(batch['id']) != len(positions):
            from stg_jax.data.shards import damage

            raise damage(clips.split)
        passes = positions // clips.source.part.num_clips
        batch = batch | {'tokens': clips.captions.tokens(schedule, batch['id'], passes)}
        yield {key: _filled_up(value, rows.per_host) for key, value in batch.items()}


def _filled_up(value: np.ndarray, num_rows: int) -> np.ndarray:
    if len(value) == num_rows:
        return value
    padded = np.full((num_rows, *value.shape[1:]), '' if value.dtype == object else 0, value.dtype)
    padded[: len(value)] = value
    return padded
