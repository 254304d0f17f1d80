"""Batches of NumPy arrays of fixed shapes, from the shards or from memory.

Every global batch is a function of (seed, epoch, step) only: it depends neither on the number of
hosts, nor on where a run stopped and resumed, nor on whether clips are streamed or cached. The
advanced order 'per_host', for pods that read much more than they compute, gives this up: each host
then reads only its own part of the shards, and batches depend on the number of hosts, too.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from stg_jax.config import DataConfig
from stg_jax.data.cache import Batch, CachedClips, ClipSource, IndexedClips
from stg_jax.data.captions import Captions, read_captions
from stg_jax.data.manifest import Manifest
from stg_jax.data.sampler import Order, Rows, Sampling
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError

if TYPE_CHECKING:  # it loads TensorFlow, which clips in memory do without
    from stg_jax.data.shards import Split


@dataclasses.dataclass(frozen=True)
class Clips:
    """A split that is ready to be read again and again.

    Attributes:
      config: `config.data`.
      source: of the features.
      captions: of all clips.
    """

    config: DataConfig
    source: ClipSource
    captions: Captions

    @property
    def split(self) -> 'Split':
        """Where the clips are stored."""
        return self.source.split

    def take_table(self) -> Batch:
        """Hand over the feature table that 'row' of a batch indexes, once (cache = device only)."""
        return self.source.take_table() if isinstance(self.source, IndexedClips) else {}


def stream_clips(
    data_config: DataConfig, vocab: Vocabulary, split: str, *, host: int = 0, num_hosts: int = 1
) -> Clips:
    """Open a split whose shards are read anew each time.

    Args:
      data_config: `config.data`.
      vocab: the words.
      split: its name.
      host: number of this host, where each reads only its own part of the shards.
      num_hosts: the number of such hosts; 1 where every host reads all clips.

    Raises:
      UserError: the data folder is missing or damaged, or does not fit the config.
    """
    from stg_jax.data.stream import StreamedClips

    source = StreamedClips(data_config, split, host=host, num_hosts=num_hosts)
    captions = read_captions(data_config.dir, split)
    return Clips(data_config, source, Captions(captions, vocab, data_config.max_words))


def open_clips(
    data_config: DataConfig, vocab: Vocabulary, split: str, *, host: int = 0, num_hosts: int = 1
) -> Clips:
    """Open a split that is read more than once, as `data_config.cache` says.

    'none' streams it; 'host' reads it now and keeps it in memory while the returned object lives;
    'device' does so for the devices: `take_table` returns what to copy to them, and batches hold
    'row' (B,) int32, row numbers of that table, instead of features. The arguments are those of
    `stream_clips`.

    Raises:
      UserError: the data folder is missing or damaged, or does not fit the config or the memory.
    """
    keep = keeper(data_config.cache)
    clips = stream_clips(data_config, vocab, split, host=host, num_hosts=num_hosts)
    return dataclasses.replace(clips, source=keep(clips.source))


def keeper(cache: str) -> Callable[[ClipSource], ClipSource]:
    """Select the wrapper of a stream that `config.data.cache` asks for.

    Raises:
      UserError: the cache does not exist.
    """
    kinds: dict[str, Callable[[ClipSource], ClipSource]] = {
        'none': lambda streamed: streamed,
        'host': CachedClips,
        'device': IndexedClips,
    }
    if cache not in kinds:
        raise UserError(
            f'config.data.cache = {cache!r} is unknown: use none to stream the shards, '
            'host to keep the clips in memory or device to keep them in that of each accelerator'
        )
    return kinds[cache]


def steps_per_epoch(
    manifest: Manifest, data_config: DataConfig, clips_per_batch: int, num_hosts: int = 1
) -> int:
    """Count the global batches of an epoch of training; all hosts have the same number."""
    num_clips = _train_counts(manifest)['clips']
    # Batches run on from pass to pass: an epoch has one padded batch at its end, not one a pass.
    if reads_own_shards(data_config, num_hosts):
        num_clips = -(-num_clips // num_hosts) * num_hosts  # the host with most clips decides
    return -(-passes_per_epoch(manifest, data_config) * num_clips // clips_per_batch)


def reads_own_shards(data_config: DataConfig, num_hosts: int) -> bool:
    """Whether each host reads only its own part of the train shards, as `order` says.

    Raises:
      UserError: the order does not exist.
    """
    if data_config.order not in ('global', 'per_host'):
        raise UserError(
            f'config.data.order = {data_config.order!r} is unknown: use global for the same '
            'batches on any number of hosts or per_host to let each read only its own shards'
        )
    if data_config.order == 'per_host' and data_config.cache == 'device':
        raise UserError(
            'config.data.cache = device puts all clips on every device: with config.data.order = '
            'per_host use host or none'
        )
    return data_config.order == 'per_host' and num_hosts > 1


def passes_per_epoch(manifest: Manifest, data_config: DataConfig) -> int:
    """Count the passes of an epoch over the clips: enough to show each caption about once."""
    counts = _train_counts(manifest)
    return -(-counts['captions'] // (counts['clips'] * data_config.captions_per_clip))


def _train_counts(manifest: Manifest) -> Mapping[str, int]:
    if 'train' not in manifest.splits:
        raise UserError(f'the {manifest.data_set} data has no train split: prepare one to train')
    return manifest.splits['train']


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The batches of an epoch, or those that are left of it.

    Attributes:
      clips: the split.
      sampling: which of its records are this host's rows of each batch.
      schedule: which captions a clip shows in each pass, see `Captions.shuffled`.
    """

    clips: Clips
    sampling: Sampling
    schedule: np.ndarray

    def num_targets(self) -> np.ndarray:
        """Count the tokens to predict in each row of each batch, (steps, B), reading no clip."""
        rows, part = self.sampling.rows, self.sampling.part
        nothing = np.empty(0, np.int64)  # np.concatenate refuses an empty list, as of no step left
        numbers = np.concatenate([nothing, *self.sampling.numbers])
        passes = np.concatenate([nothing, *map(self._passes, rows.steps)])
        found = self.clips.captions.num_targets(self.schedule, part.first + numbers, passes)
        targets = np.zeros(len(rows.steps) * rows.per_host, np.int64)
        targets[: len(numbers)] = found
        return targets.reshape(len(rows.steps), rows.per_host)

    def batches(self) -> Iterator[Batch]:
        """Yield this host's rows of each batch; the last one is filled up with padding clips.

        Yields:
          Batches of B = clips_per_batch / num_hosts clips with K captions of L = max_words + 2
          tokens: id (B,) object, '' for a padding clip; appearance (B, T, C2), motion (B, T, C3)
          and object (B, T, N, Co) float16, and grid (B, T, G, Cg) where the config asks for it;
          box (B, T, N, 4) float32; object_mask (B, T, N) bool;
          tokens (B, K, L) int32: BOS, words, EOS, PAD, and all PAD where a clip has fewer than K
          captions; caption_weight (B, K) float32 where captions are weighted.

        Raises:
          UserError: a shard is damaged.
        """
        source, rows = self.clips.source, self.sampling.rows
        features, nothing = iter(()), source.zeros(0)
        if self.sampling.order.shards:  # else only other hosts have clips in the batches left
            features = source.features(self.sampling)
        for step in rows.steps:
            # A host can have no row at all in the last batch, for which the others still wait.
            batch, passes = next(features, nothing), self._passes(step)
            # Fewer records than the metadata promises: a shard was cut at the end of a record.
            if len(batch['id']) != len(passes):
                from stg_jax.data.shards import damage

                raise damage(self.clips.split)
            batch = batch | self.clips.captions.shown(self.schedule, batch['id'], passes)
            yield {key: _filled_up(value, rows.per_host) for key, value in batch.items()}

    def _passes(self, step: int) -> np.ndarray:
        """Compute in which pass over the clips each row of a batch is."""
        return self.sampling.rows.positions(step) // self.sampling.part.num_clips


def train_epoch(
    clips: Clips,
    *,
    clips_per_batch: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    host: int = 0,
    num_hosts: int = 1,
) -> Epoch:
    """Plan an epoch of training from `start_step` on.

    An epoch is several passes over the clips, each in a new order. A clip shows the next
    `captions_per_clip` captions of a random order in every pass, so that none comes back before
    all were shown.

    Raises:
      UserError: the batch cannot be divided among the hosts.
    """
    config, part, manifest = clips.config, clips.source.part, clips.split.manifest
    num_passes = passes_per_epoch(manifest, config)
    rows = Rows(clips_per_batch, host, num_hosts, start_step, num_passes * part.num_clips)
    if part.host is not None:
        # This host reads all rows of batches of its own, and pads to the steps of the host with
        # most clips.
        num_steps = steps_per_epoch(manifest, config, clips_per_batch, num_hosts)
        rows = Rows(rows.per_host, 0, 1, start_step, rows.total, num_steps)
    # A resumed run skips whole passes without drawing them, and records of the first one left
    # without parsing them.
    skipped_passes, skipped = divmod(start_step * rows.clips_per_batch, part.num_clips)
    # Each host has an order of its own when it has clips of its own.
    ends = [] if part.host is None else [part.host]
    passes = range(skipped_passes, num_passes)
    # A generator for each pass: a resumed run draws the passes that are left as the first one did.
    rngs = [np.random.default_rng([seed, epoch, p, *ends]) for p in passes]
    order = Order.drawn(len(part.paths), config.shuffle_buffer, rngs, skipped)
    # One draw for all passes: which captions are next depends on those shown before.
    caption_seed = int(np.random.default_rng([seed, epoch]).integers(2**31))
    schedule = clips.captions.shuffled(config.captions_per_clip, num_passes, caption_seed)
    return Epoch(clips, Sampling(part, order, rows), schedule)


def train_batches(clips: Clips, **options: int) -> Iterator[Batch]:
    """Yield the batches of `train_epoch`, see `Epoch.batches`."""
    return train_epoch(clips, **options).batches()


def eval_batches(
    clips: Clips, *, clips_per_batch: int, host: int = 0, num_hosts: int = 1
) -> Iterator[Batch]:
    """Yield every clip once, in file order, with its first `eval_captions` captions.

    Rows of padding cost as much as clips: `even_batch_size` finds a size that leaves few.
    Shapes and errors are those of `Epoch.batches`; all hosts yield the same number of batches.
    """
    part = clips.source.part
    rows = Rows(clips_per_batch, host, num_hosts, first_step=0, total=part.num_clips)
    sampling = Sampling(part, Order.as_stored(len(part.paths)), rows)
    return Epoch(clips, sampling, clips.captions.first(clips.config.eval_captions)).batches()


def even_batch_size(num_clips: int, most: int, divisor: int = 1) -> int:
    """Choose the clips of a batch so that the fewest batches have about the same size.

    Args:
      num_clips: of all batches together.
      most: clips of a batch at most, rounded up to a multiple of the divisor.
      divisor: of the size.
    """
    # 71 clips at most 64 at once are two batches of 36, not 64 and 7 with 57 rows of padding.
    largest = -(-most // divisor) * divisor
    num_batches = -(-num_clips // largest)
    return -(-num_clips // (num_batches * divisor)) * divisor


def empty_batch(clips: Clips, num_rows: int) -> Batch:
    """Make a batch of padding clips only, in the shapes that `eval_batches` yields.

    Programs are compiled for its shapes while the first real batch is still being read.
    """
    config = clips.config
    tokens = np.zeros((num_rows, config.eval_captions, config.max_words + 2), np.int32)
    return clips.source.zeros(num_rows) | {'tokens': tokens}


def _filled_up(value: np.ndarray, num_rows: int) -> np.ndarray:
    """Append padding rows, so that every batch has one shape and needs one program."""
    if len(value) == num_rows:
        return value
    padded = np.full((num_rows, *value.shape[1:]), '' if value.dtype == object else 0, value.dtype)
    padded[: len(value)] = value
    return padded
