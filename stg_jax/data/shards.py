"""The records of a split that one host reads: all of them, or its share of the shards."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath
from google.protobuf import json_format

from stg_jax.data.captions import no_split, open_folder
from stg_jax.data.manifest import Manifest
from stg_jax.data.reorder import reordered, reordered_numbers
from stg_jax.data.sampler import Order, Rows
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
        """Return the number of records in all shards."""
        return sum(self.lengths)

    def records(self) -> tf.data.Dataset:
        """Return the serialized records in the order of the shards."""
        return tf.data.TFRecordDataset(list(self.paths))


def open_split(data_dir: str | os.PathLike[str], name: str, *, damaged_ok: bool = False) -> Split:
    """Open a split after checking that its shards are complete (by size, without reading them).

    With `damaged_ok` it is enough that they are all there.

    Raises:
      UserError: the folder or the split is missing, or a shard is missing or cut.
    """
    folder = open_folder(data_dir)
    manifest = Manifest.load(folder)
    for metadata in ('dataset_info.json', 'features.json'):
        if not (folder / metadata).exists():
            raise UserError(f'{folder / metadata} is missing: prepare the data again')
    try:
        info = tfds.builder_from_directory(folder).info
    except (ValueError, json_format.Error) as error:
        reason = ' '.join(str(error).split())
        raise UserError(
            f'the metadata of {folder} is damaged ({reason}): prepare the data again'
        ) from None
    if name not in manifest.splits or name not in info.splits:
        raise no_split(folder, name, manifest.splits)
    stored = info.splits[name]
    paths = [os.fspath(path) for path in stored.filepaths]
    split = Split(folder, name, manifest, info.features, paths, stored.shard_lengths)
    if not _present(split) or not (damaged_ok or _complete(split, stored.num_bytes)):
        raise damage(split)
    return split


def _present(split: Split) -> bool:
    return all(epath.Path(path).exists() for path in split.paths)


def _complete(split: Split, num_bytes: int) -> bool:
    expected = num_bytes + _RECORD_OVERHEAD * split.num_clips
    return (
        sum(epath.Path(path).stat().length for path in split.paths) == expected
        and split.manifest.splits[split.name]['clips'] == split.num_clips
    )


def damage(split: Split) -> UserError:
    """Read all shards of a split that is damaged; return what names the first bad record."""
    for path, length in zip(split.paths, split.lengths, strict=True):
        fault = _fault(path, length)
        if fault:
            return UserError(f'shard {path} {fault}: prepare the data again or copy it again')
    return UserError(
        f'{split.folder}: the shards of split {split.name!r} do not agree with features.json, '
        'dataset_info.json and manifest.json: prepare the data again or copy it again'
    )


def _fault(path: str, length: int) -> str | None:
    """Return what is wrong with a shard of `length` records, if anything."""
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


LOST = '\0'  # begins what stands for a record that cannot be read; the name of its shard follows


@dataclasses.dataclass(frozen=True)
class Part:
    """Consecutive records of a split.

    Attributes:
      first: number of the first of them in the split.
      paths: shards that hold them.
      skips: records to pass over at the beginning of each shard.
      lengths: records to read from each shard after these.
      host: the host whose share this is, None where it is the whole split.
    """

    first: int
    paths: Sequence[str]
    skips: Sequence[int]
    lengths: Sequence[int]
    host: int | None = None

    @classmethod
    def whole(cls, split: Split) -> 'Part':
        """Return all records of a split."""
        return cls(0, split.paths, [0] * len(split.paths), split.lengths)

    @classmethod
    def of_host(cls, split: Split, host: int, num_hosts: int) -> 'Part':
        """Return the share of one of several hosts, which differ by one record at most.

        Raises:
          UserError: there are more hosts than clips.
        """
        if num_hosts > split.num_clips:
            raise UserError(
                f'{split.folder} has {split.num_clips} {split.name} clips for {num_hosts} hosts: '
                'pass --config.data.order=global'
            )
        share = tfds.even_splits(split.name, num_hosts)[host]
        files = tfds.builder_from_directory(split.folder).info.splits[share].file_instructions
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
        """Return the number of records."""
        return sum(self.lengths)

    def records(self, order: Order, *, skip_damaged: bool) -> tf.data.Dataset:
        """Return the serialized records in an order; `LOST` + path for what cannot be read."""
        paths = tf.constant(self.paths)
        skips, lengths = tf.constant([self.skips, self.lengths], tf.int64)

        @tf.autograph.experimental.do_not_convert
        def of_shard(number: tf.Tensor) -> tf.data.Dataset:
            records = tf.data.TFRecordDataset(paths[number])
            if skip_damaged:
                # After a damaged record nothing of its shard can be trusted to be where it was.
                lost = tf.data.Dataset.from_tensors(LOST + paths[number]).repeat()
                records = records.ignore_errors().concatenate(lost)
            return records.skip(skips[number]).take(lengths[number])

        return reordered(
            order, lambda shards: tf.data.Dataset.from_tensor_slices(shards).flat_map(of_shard)
        )

    def numbers(self, order: Order, rows: Rows) -> Iterator[np.ndarray]:
        """Yield the numbers, counted from `first`, of a host's rows of each batch of `records`."""
        ends = np.cumsum(self.lengths)
        passes = reordered_numbers(order, np.split(np.arange(ends[-1]), ends[:-1]))
        return rows.dealt(passes)
