"""The record schema, written once; write and read TFRecord shards with their TFDS metadata.

A data folder is a TFDS folder (`tfds.builder_from_directory` opens it without this code) with two
files beside the shards: `manifest.json`, and `captions-SPLIT.jsonl`, which repeats the captions so
that a vocabulary is built without reading features.
"""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from absl import logging

from stg_jax import files
from stg_jax.data.captions import append_captions
from stg_jax.data.clip import Clip, check_clip, check_same_shapes
from stg_jax.data.manifest import KINDS, NAME, OPTIONAL_KINDS, Manifest
from stg_jax.data.shards import naming_damage, open_split
from stg_jax.data.text import normalise
from stg_jax.data.tf import tfds
from stg_jax.errors import UserError


class Spread:
    """Count, sum and sum of squares in float64, kept while values come and go."""

    def __init__(self):
        # Float64: the squares of a data set add up to 1e9, of which float32 keeps seven digits.
        self._sums = np.zeros(3)

    def add(self, values: np.ndarray) -> None:
        """Take in every entry of `values`."""
        values = values.astype(np.float64)
        self._sums += values.size, values.sum(), np.square(values).sum()

    def deviation(self) -> float:
        """Compute the standard deviation; 1 where nothing varies, as features are divided by it."""
        count, total, squares = self._sums
        variance = squares / count - (total / count) ** 2 if count else 0.0
        return float(np.sqrt(variance)) if variance > 0 else 1.0


# Large enough that opening files costs nothing, small enough that a damaged one is copied again in
# seconds.
SHARD_BYTES = 128 * 2**20
_EMPTY = MappingProxyType({})


def kinds_of(clip: Clip) -> tuple[str, ...]:
    """List the kinds of features that a clip has."""
    return (*KINDS, *(kind for kind in OPTIONAL_KINDS if getattr(clip, kind) is not None))


def features_of(clip: Clip) -> tfds.features.FeaturesDict:
    """Make the record schema for clips of the shapes of `clip`."""

    def array(value: np.ndarray, dtype: Any, shape: tuple[int | None, ...] | None = None):
        # BYTES: the plain Example protocol would store float16 as float32 and bool as int64.
        return tfds.features.Tensor(
            shape=shape or value.shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES
        )

    features = {kind: array(getattr(clip, kind), np.float16) for kind in kinds_of(clip)}
    return tfds.features.FeaturesDict(
        features
        | {
            'id': tfds.features.Text(),
            'captions': tfds.features.Sequence(tfds.features.Text()),
            'box': array(clip.box, np.float32),
            'score': array(clip.score, np.float32),
            'label': array(clip.label, np.int32),
            'object_mask': array(clip.object_mask, np.bool_),
            'true_box': array(clip.true_box, np.float32, (len(clip.true_box), None, 4)),
            'fps': tfds.features.Scalar(np.float32),
            'height': tfds.features.Scalar(np.int32),
            'width': tfds.features.Scalar(np.int32),
            'source': tfds.features.Text(),
        }
    )


def write_data_folder(out: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Manifest:
    """Call `write_records` on a new folder `out` that appears whole or not at all."""
    with files.write_folder(out) as folder:
        return write_records(folder, *args, **kwargs)


def write_records(
    folder: Path,
    splits: Mapping[str, Iterable[Clip]],
    *,
    data_set: str,
    extractor: Mapping[str, Any],
    sources: Mapping[str, Any] = _EMPTY,
    missing: Mapping[str, Iterable[str]] = _EMPTY,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Stream clips into `folder`; captions are normalised, features become float16.

    Every iterable of `splits` is consumed once and no clip is kept, so memory does not grow with
    the data. `missing` names for each kind the clips without such features: the manifest lists
    them, and their zeros do not count in its scale. A split without clips is left out.

    Raises:
      UserError: a clip is broken or differs in shape from the first one, two clips have one id, a
        train clip has no caption, or there is no clip at all.
    """
    writer = _Writer(folder, {kind: frozenset(ids) for kind, ids in missing.items()}, shard_bytes)
    for split, clips in splits.items():
        for clip in clips:
            writer.add(split, clip)
    manifest = Manifest(
        data_set=data_set,
        extractor=dict(extractor),
        missing=writer.missing(),
        sources=dict(sources),
        **writer.close(),
    )
    manifest.save(folder / NAME)
    return manifest


class _Writer:
    """Shards of one folder while they are written."""

    def __init__(self, folder: Path, missing: Mapping[str, frozenset[str]], shard_bytes: int):
        self._folder, self._missing, self._shard_bytes = folder, missing, shard_bytes
        self._first: Clip | None = None
        self._ids: set[str] = set()
        self._dropped: collections.Counter[str] = collections.Counter()
        self._splits: dict[str, dict[str, int]] = {}
        self._spread: dict[str, Spread] = {}

    def add(self, split: str, clip: Clip) -> None:
        """Append one clip to the shards of `split`."""
        check_clip(clip)
        if clip.id in self._ids:
            raise UserError(f'two clips have the id {clip.id}: ids must be unique in a data folder')
        self._ids.add(clip.id)
        if self._first is None:
            self._open(clip)
        check_same_shapes(clip, self._first or clip)
        clip = self._with_stored_captions(split, clip)
        if split not in self._splits:
            self._shards.initialize_splits([split])
            self._splits[split] = {'clips': 0, 'captions': 0}
        example = example_of(clip)
        self._shards.add_examples({split: [example]})
        self._count(split, clip)
        # Only of train: scales computed with the test clips would leak them. Measured in float16,
        # which is what training reads.
        if split == 'train':
            self._measure(clip.id, example)

    def missing(self) -> dict[str, list[str]]:
        """List for each kind the ids of written clips that lack it."""
        lacking = {kind: sorted(ids & self._ids) for kind, ids in self._missing.items()}
        return {kind: ids for kind, ids in lacking.items() if ids}

    def close(self) -> dict[str, Any]:
        """Finish the shards; return what the clips say about the manifest."""
        if self._first is None:
            raise UserError('there is no clip to write: check that ids, captions and files match')
        self._shards.close_all()
        for split, number in self._dropped.items():
            if number:
                logging.warning('%s: left out %d captions without any word', split, number)
        num_frames, num_objects = self._first.object_mask.shape
        return {
            'frames': num_frames,
            'objects': num_objects,
            'widths': {kind: getattr(self._first, kind).shape[-1] for kind in self._spread},
            'scale': {kind: spread.deviation() for kind, spread in self._spread.items()},
            'splits': self._splits,
            'cells': 0 if self._first.grid is None else self._first.grid.shape[1],
        }

    def _open(self, clip: Clip) -> None:
        core: Any = tfds.core  # which does not declare this part of it
        identity = core.dataset_info.DatasetIdentity(
            name='clips',
            version=tfds.core.Version('1.0.0'),
            data_dir=os.fspath(self._folder),
            module_name='stg_jax.data.records',
        )
        info = tfds.core.DatasetInfo(builder=identity, features=features_of(clip))
        arrays = (value for value in example_of(clip).values() if isinstance(value, np.ndarray))
        clip_bytes = sum(value.nbytes for value in arrays)
        self._shards = _RepeatableWriter(info, max(1, self._shard_bytes // clip_bytes))
        self._first = clip
        self._spread = {kind: Spread() for kind in kinds_of(clip)}

    def _with_stored_captions(self, split: str, clip: Clip) -> Clip:
        captions = tuple(filter(None, map(normalise, clip.captions)))
        if split == 'train' and not captions:
            raise UserError(f'clip {clip.id} of the train split has no caption: leave it out')
        self._dropped[split] += len(clip.captions) - len(captions)
        return dataclasses.replace(clip, captions=captions)

    def _count(self, split: str, clip: Clip) -> None:
        self._splits[split]['clips'] += 1
        self._splits[split]['captions'] += len(clip.captions)
        append_captions(self._folder, split, clip.id, clip.captions)

    def _measure(self, clip_id: str, example: Mapping[str, np.ndarray]) -> None:
        for kind in self._spread:
            if clip_id not in self._missing.get(kind, ()):
                value = example[kind]
                self._spread[kind].add(value[example['object_mask']] if kind == 'object' else value)


class _RepeatableWriter(tfds.core.SequentialWriter):
    """Writes equal examples as equal bytes, also in another process.

    Plain serialisation walks the features in the order of a hash that every process salts anew.
    """

    def __init__(self, info: tfds.core.DatasetInfo, clips_per_shard: int):
        super().__init__(info, clips_per_shard)
        self._serializer.serialize_example = self._serialize

    def _serialize(self, example: Any) -> bytes:
        return self._serializer.get_tf_example(example).SerializeToString(deterministic=True)


def example_of(clip: Clip) -> dict[str, Any]:
    """Convert a clip to what the record schema stores, features in float16."""
    example = {field.name: getattr(clip, field.name) for field in dataclasses.fields(clip)}
    example['captions'] = list(clip.captions)
    if clip.grid is None:
        del example['grid']
    for kind in kinds_of(clip):
        example[kind] = example[kind].astype(np.float16)
    return example


def read_clips(data_dir: str | os.PathLike[str], split: str) -> Iterator[Clip]:
    """Yield the clips of a split in the order of the shards, features in float16.

    Raises:
      UserError: the folder or split is missing, or a shard is damaged (shard and record named).
    """
    opened = open_split(data_dir, split)
    examples: Any = opened.records().map(opened.features.deserialize_example)
    with naming_damage(opened):
        for example in examples.as_numpy_iterator():
            texts = {
                'id': example['id'].decode(),
                'source': example['source'].decode(),
                'captions': tuple(caption.decode() for caption in example['captions']),
            }
            scalars = {kind: example[kind].item() for kind in ('fps', 'height', 'width')}
            yield Clip(**example | texts | scalars)
