"""Stream the shards as batches of NumPy arrays of fixed shapes.

Every global batch is a function of (seed, epoch, step) alone. The order of records is fixed before
anything is parsed, so that a host skips the records of other hosts, and a resumed run those of
earlier steps, at the price of reading bytes.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from stg_jax.data.manifest import Manifest, check_manifest
from stg_jax.data.quiet_tensorflow import tf
from stg_jax.data.shards import Split, naming_damage, open_split
from stg_jax.data.vocab import BOS, EOS, PAD, UNK, Vocabulary
from stg_jax.errors import UserError

Batch = dict[str, np.ndarray]
_MOST_THREADS = 8  # parsing is cheap next to the step; the other cores belong to XLA
_PREFETCHED_BATCHES = 2


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
    data_config: Any,
    vocab: Vocabulary,
    *,
    clips_per_batch: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    host: int = 0,
    num_hosts: int = 1,
) -> Iterator[Batch]:
    """Yield one epoch of training batches from `start_step` on: this host's rows of each.

    An epoch is several passes over the train clips, each in a new order. A clip shows the next
    `data_config.captions_per_clip` captions of a random order in every pass, so that none comes
    back before all were shown. The last batch is filled up with padding clips.

    Returns:
      Batches of B = clips_per_batch / num_hosts clips with K captions of L = max_words + 2 tokens:
      id (B,) object, '' for a padding clip; appearance (B, T, C2), motion (B, T, C3) and object
      (B, T, N, Co) float16; box (B, T, N, 4) float32; object_mask (B, T, N) bool; tokens (B, K, L)
      int32: BOS, words, EOS, PAD, and all PAD where a clip has fewer than K captions.

    Raises:
      UserError: the data does not fit the config, or a shard is damaged (while iterating).
    """
    split = open_split(data_config.dir, 'train')
    num_passes = passes_per_epoch(split.manifest, data_config)
    total = num_passes * split.num_clips
    rows = _Rows(clips_per_batch, host, num_hosts, start_step * clips_per_batch, total)
    skipped_passes, skipped_records = divmod(rows.first, split.num_clips)
    rngs = [np.random.default_rng([seed, epoch, p]) for p in range(skipped_passes, num_passes)]
    records = _shuffled(split, data_config.shuffle_buffer, rngs).skip(skipped_records)
    caption_seed = int(np.random.default_rng([seed, epoch]).integers(2**31))
    parser = _Parser(split, data_config, vocab, data_config.captions_per_clip, caption_seed)
    return _stream(split, records, rows, parser)


def eval_batches(
    data_config: Any,
    vocab: Vocabulary,
    split: str,
    *,
    clips_per_batch: int,
    host: int = 0,
    num_hosts: int = 1,
) -> Iterator[Batch]:
    """Yield every clip of a split once, in file order, with its first `eval_captions` captions.

    Shapes and errors are those of `train_batches`; all hosts yield equally many batches.
    """
    opened = open_split(data_config.dir, split)
    parser = _Parser(opened, data_config, vocab, data_config.eval_captions, None)
    rows = _Rows(clips_per_batch, host, num_hosts, 0, opened.num_clips)
    return _stream(opened, opened.records(), rows, parser)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Which records, counted from the start of the epoch, are the rows of one host."""

    clips_per_batch: int
    host: int
    num_hosts: int
    first: int
    total: int

    def __post_init__(self):
        if self.clips_per_batch % self.num_hosts:
            raise UserError(
                f'{self.clips_per_batch} clips a batch cannot be divided among {self.num_hosts} '
                'hosts: choose another config.train.batch_size'
            )

    @property
    def per_host(self) -> int:
        return self.clips_per_batch // self.num_hosts

    @property
    def num_padding(self) -> int:
        """Return how many rows of this host's last batch lie behind the last record."""
        if self.first >= self.total:
            return 0
        last = self.total % self.clips_per_batch or self.clips_per_batch
        return int(np.clip((self.host + 1) * self.per_host - last, 0, self.per_host))

    def contain(self, position: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        """Tell whether the record at a position is a row of this host."""
        return position % self.clips_per_batch // self.per_host == self.host


def _shuffled(
    split: Split, buffer_size: int, rngs: Sequence[np.random.Generator]
) -> tf.data.Dataset:
    """Return the serialized records of several passes, each in the order that its `rng` draws."""
    if not rngs:
        return split.records().take(0)
    paths = [rng.permutation(split.paths) for rng in rngs]
    seeds = [rng.integers(2**63 - 1) for rng in rngs]

    def shuffled_pass(paths: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(paths)
        return records.shuffle(buffer_size, seed=seed, reshuffle_each_iteration=False)

    return tf.data.Dataset.from_tensor_slices((paths, seeds)).flat_map(shuffled_pass)


def _stream(
    split: Split, records: tf.data.Dataset, rows: _Rows, parser: '_Parser'
) -> Iterator[Batch]:
    mine = records.enumerate(rows.first).filter(rows.contain)
    clips = mine.map(parser, num_parallel_calls=tf.data.AUTOTUNE)
    padding = tf.nest.map_structure(
        lambda spec: tf.zeros(spec.shape, spec.dtype), clips.element_spec
    )
    clips = clips.concatenate(tf.data.Dataset.from_tensors(padding).repeat(rows.num_padding))
    batches = clips.batch(rows.per_host, drop_remainder=True).prefetch(_PREFETCHED_BATCHES)
    return _numpy(split, batches.with_options(_options()))


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = min(os.cpu_count(), _MOST_THREADS)
    return options


def _numpy(split: Split, batches: tf.data.Dataset) -> Iterator[Batch]:
    with naming_damage(split):
        for batch in batches.as_numpy_iterator():
            yield batch | {'id': np.array([i.decode() for i in batch['id']], object)}


class _Parser:
    """From a serialized record to the arrays of one row."""

    def __init__(
        self,
        split: Split,
        data_config: Any,
        vocab: Vocabulary,
        num_captions: int,
        caption_seed: int | None,
    ):
        check_manifest(split.manifest, data_config)
        self._split, self._num_captions, self._seed = split, num_captions, caption_seed
        self._num_objects, self._max_words = data_config.objects, data_config.max_words
        words = vocab.words[UNK:]
        ids = tf.range(UNK, UNK + len(words))
        self._ids = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(list(words), ids), default_value=UNK
        )

    def __call__(self, position: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
        example = self._split.features.deserialize_example(record)
        row = {kind: example[kind] for kind in ('id', 'appearance', 'motion')}
        for kind in ('object', 'box', 'object_mask'):
            row[kind] = example[kind][:, : self._num_objects]
        captions = self._choose(example['captions'], example['id'], position)
        return row | {'tokens': self._tokenise(captions)}

    def _choose(self, captions: tf.Tensor, clip_id: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """Return the at most K captions that a clip shows at a position of the epoch."""
        if self._seed is None:
            return captions[: self._num_captions]
        clip_seed = tf.strings.to_hash_bucket_fast(clip_id, 2**31)
        order = tf.random.experimental.stateless_shuffle(captions, [self._seed, clip_seed])
        number = tf.shape(captions, tf.int64)[0]
        start = position // self._split.num_clips * self._num_captions
        slots = start + tf.range(tf.minimum(number, self._num_captions))
        return tf.gather(order, slots % tf.maximum(number, 1))

    def _tokenise(self, captions: tf.Tensor) -> tf.Tensor:
        """Return (K, L) ids; equal to `Vocabulary.encode` with PAD behind, all PAD where absent."""
        words = tf.strings.split(captions)[:, : self._max_words]
        ids = words.with_flat_values(self._ids.lookup(words.flat_values))
        edge = tf.ones([tf.shape(captions)[0], 1], tf.int32)
        tokens = tf.concat([edge * BOS, ids, edge * EOS], axis=1)
        return tokens.to_tensor(PAD, shape=[self._num_captions, self._max_words + 2])
