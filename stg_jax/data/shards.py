"""The shards of a split, and the records of them that one host reads, in any order."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from stg_jax.data.captions import no_split, open_folder
from stg_jax.data.clip import Clip
from stg_jax.data.manifest import OPTIONAL_KINDS, Manifest
from stg_jax.data.sampler import Order
from stg_jax.data.tf import tf, tfds
from stg_jax.errors import UserError

_RECORD_OVERHEAD = 16  # bytes around each TFRecord: length, its checksum, checksum of the data


@dataclasses.dataclass(frozen=True)
class Split:
    """The shards of one split, in order.

    Attributes:
      folder: the data folder.
      name: 'train', 'val', 'test', ...
      manifest: of the folder.
      features: the record schema.
      paths: the shard files.
      lengths: the number of records in each.
    """

    folder: epath.Path
    name: str
    manifest: Manifest
    features: tfds.features.FeaturesDict
    paths: Sequence[str]
    lengths: Sequence[int]

    @property
    def num_clips(self) -> int:
        """Number of records in all shards."""
        return sum(self.lengths)

    def records(self) -> tf.data.Dataset:
        """Read the serialized records in the order of the shards."""
        return tf.data.TFRecordDataset(list(self.paths))


def open_split(data_dir: str | os.PathLike[str], name: str) -> Split:
    """Open a split after checking that its shards are complete (by size, without reading them).

    Raises:
      UserError: the folder or the split is missing, or a shard is missing or cut.
    """
    folder = open_folder(data_dir)
    manifest = Manifest.load(folder)
    for metadata in ('dataset_info.json', 'features.json'):
        if not (folder / metadata).exists():
            raise UserError(f'{folder / metadata} is missing: prepare the data again')
    with _readable_metadata(folder):
        info = tfds.builder_from_directory(folder).info
    if name not in manifest.splits or name not in info.splits:
        raise no_split(folder, name, list(manifest.splits))
    stored, features = info.splits[name], info.features
    with _readable_metadata(folder):  # the pattern of the file names is stored in it, too
        paths = [os.fspath(path) for path in stored.filepaths]
        if not isinstance(features, tfds.features.FeaturesDict):
            raise ValueError('features.json describes no record')
        fields = {field.name for field in dataclasses.fields(Clip)} - {*OPTIONAL_KINDS}
        if missing := sorted(fields - features.keys()):
            raise ValueError(f'features.json has no {missing[0]}')
    split = Split(folder, name, manifest, features, paths, stored.shard_lengths)
    # By size: reading all checksums of a large data set would delay every start by minutes.
    if not _complete(split, stored.num_bytes):
        raise damage(split)
    return split


@contextlib.contextmanager
def _readable_metadata(folder: epath.Path) -> Iterator[None]:
    """Turn what TFDS raises of damaged metadata, of many types, into a sentence."""
    try:
        yield
    except Exception as error:
        reason = ' '.join(str(error).split())
        raise UserError(
            f'the metadata of {folder} is damaged ({reason}): prepare the data again'
        ) from None


def _complete(split: Split, num_bytes: int) -> bool:
    if not all(epath.Path(path).exists() for path in split.paths):
        return False
    expected = num_bytes + _RECORD_OVERHEAD * split.num_clips
    return (
        sum(epath.Path(path).stat().length for path in split.paths) == expected
        and split.manifest.splits[split.name]['clips'] == split.num_clips
    )


def damage(split: Split) -> UserError:
    """Read all shards of a damaged split to build the error that names the first bad record."""
    # TensorFlow's own errors name neither the file nor the record in a stream of many shards.
    for path, length in zip(split.paths, split.lengths, strict=True):
        fault = _fault(path, length)
        if fault:
            return UserError(f'shard {path} {fault}: prepare the data again or copy it again')
    return UserError(
        f'{split.folder}: the shards of split {split.name!r} do not agree with features.json, '
        'dataset_info.json and manifest.json: prepare the data again or copy it again'
    )


def _fault(path: str, length: int) -> str | None:
    """Describe what is wrong with a shard of `length` records; None if nothing is."""
    if not epath.Path(path).exists():
        return 'is missing'
    count = 0
    try:
        for _ in tf.data.TFRecordDataset(path):
            count += 1
    except tf.errors.DataLossError:
        return f'is damaged at record {count + 1} of {length}'
    if count < length:
        return f'is cut: it ends before record {count + 1} of {length}'
    return f'holds {count} records instead of {length}' if count > length else None


@contextlib.contextmanager
def naming_damage(split: Split) -> Iterator[None]:
    """Turn TensorFlow's errors about broken files into a `UserError` with shard and record."""
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError):
        raise damage(split) from None


@dataclasses.dataclass(frozen=True)
class Part:
    """Consecutive records of a split.

    Attributes:
      first: number of the first of them in the split.
      paths: shards that hold them.
      skips: records to pass over at the beginning of each shard.
      lengths: records to read from each shard after these.
      host: the host that reads only these records, None where it is the whole split.
    """

    first: int
    paths: Sequence[str]
    skips: Sequence[int]
    lengths: Sequence[int]
    host: int | None = None

    @classmethod
    def whole(cls, split: Split) -> 'Part':
        """Take all records of a split."""
        return cls(0, split.paths, [0] * len(split.paths), split.lengths)

    @classmethod
    def of_host(cls, split: Split, host: int, num_hosts: int) -> 'Part':
        """Take the records of one of several hosts, whose numbers differ by one at most.

        Raises:
          UserError: there are more hosts than clips.
        """
        if num_hosts > split.num_clips:
            raise UserError(
                f'{split.folder} has {split.num_clips} {split.name} clips for {num_hosts} hosts: '
                'pass --config.data.order=global'
            )
        mine = tfds.even_splits(split.name, num_hosts)[host]
        files = tfds.builder_from_directory(split.folder).info.splits[mine].file_instructions
        whole = {path: i for i, path in enumerate(split.paths)}
        numbers = [whole[file.filename] for file in files]
        lengths = [
            split.lengths[i] - file.skip if file.take == -1 else file.take
            for i, file in zip(numbers, files, strict=True)
        ]
        first = sum(split.lengths[: numbers[0]]) + files[0].skip
        skips = [file.skip for file in files]
        return cls(first, [file.filename for file in files], skips, lengths, host)

    @property
    def num_clips(self) -> int:
        """Number of records."""
        return sum(self.lengths)

    def records(self, order: Order) -> tf.data.Dataset:
        """Read the serialized records of all passes, each in its order."""

        @tf.autograph.experimental.do_not_convert  # nothing to convert, and the search takes long
        def one_pass(shards: Any, seed: Any) -> tf.data.Dataset:
            in_order = tf.data.Dataset.from_tensor_slices(shards).flat_map(self._shard)
            return _shuffled(in_order, order.buffer_size, seed)

        passes: Any = tf.data.Dataset.from_tensor_slices(
            (np.stack(order.shards), np.array(order.seeds, np.int64))
        )
        records = passes.flat_map(one_pass)
        return records.skip(order.skipped).with_options(_options())

    @tf.autograph.experimental.do_not_convert
    def _shard(self, number: tf.Tensor) -> tf.data.Dataset:
        path, skip, length = (
            tf.constant(values)[number]
            for values in (self.paths, np.array(self.skips), np.array(self.lengths))
        )
        return tf.data.TFRecordDataset(path).skip(skip).take(length)

    def numbers(self, order: Order) -> Iterator[np.ndarray]:
        """Yield for each pass the numbers of the same records, counted from `first`."""
        ends = np.cumsum(self.lengths)
        of_shards = np.split(np.arange(ends[-1]), ends[:-1])
        skipped = order.skipped
        for shards, seed in zip(order.shards, order.seeds, strict=True):
            joined = np.concatenate([of_shards[i] for i in shards])
            # TensorFlow's own shuffle, applied to numbers: no other one gives its order.
            shuffled = _shuffled_numbers(joined, np.int64(order.buffer_size), np.int64(seed))
            yield shuffled.numpy()[skipped:]
            skipped = 0


_MOST_THREADS = 8  # reading is cheap next to the step; the other cores belong to XLA
_NUMBERS, _NUMBER = tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64)


def _shuffled(records: tf.data.Dataset, buffer_size: Any, seed: Any) -> tf.data.Dataset:
    # The seed of the function that is traced: the user's would change the order.
    tf.random.set_seed(None)  # pyright: ignore[reportArgumentType] - None takes the seed away
    return records.shuffle(buffer_size, seed=seed, reshuffle_each_iteration=False)


@tf.function(input_signature=[_NUMBERS, _NUMBER, _NUMBER], autograph=False)
def _shuffled_numbers(numbers: Any, buffer_size: Any, seed: Any) -> Any:
    """Shuffle numbers as a stream of the same number of records is shuffled."""
    shuffled = _shuffled(tf.data.Dataset.from_tensor_slices(numbers), buffer_size, seed)
    return shuffled.batch(tf.size(numbers, tf.int64)).get_single_element()


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = min(os.cpu_count() or 1, _MOST_THREADS)
    # They find nothing in so short a pipeline, and cost as much as reading a hundred clips.
    options.experimental_optimization.apply_default_optimizations = False
    # Nothing is left to tune, and on busy cores its thread can miss that an epoch is over: then
    # closing the stream waits for its next look, after a long epoch a minute.
    options.autotune.enabled = False
    return options
