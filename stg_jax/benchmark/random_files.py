"""Clips and feature files of any size, made quickly from random numbers."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stg_jax.data.clip import Clip

STEPS, REGIONS, REGION_WIDTH = 26, 36, 2048  # of RMN's region features
_WORDS = tuple(f'word{i}' for i in range(1000))
_NUM_WORDS = 9  # of a caption


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a random clip."""

    frames: int
    objects: int
    appearance: int
    motion: int
    object: int
    captions: int


def random_clips(num_clips: int, shape: Shape) -> Iterator[Clip]:
    """Yield clips in which every object exists."""
    rng = np.random.default_rng(0)
    T, N = shape.frames, shape.objects
    corner = np.sort(rng.uniform(size=(T, N, 2, 2)).astype(np.float32), axis=-2)
    features: dict[str, Any] = {
        'appearance': rng.normal(size=(T, shape.appearance)).astype(np.float32),
        'motion': rng.normal(size=(T, shape.motion)).astype(np.float32),
        'object': rng.normal(size=(T, N, shape.object)).astype(np.float32),
    }
    for number in range(num_clips):
        yield Clip(
            id=f'video{number}',
            captions=random_captions(rng, shape.captions),
            # Different values in every clip, at the cost of a copy only.
            **{kind: np.roll(value, number, axis=-1) for kind, value in features.items()},
            box=corner.reshape(T, N, 4),
            score=np.full((T, N), 0.5, np.float32),
            label=np.zeros((T, N), np.int32),
            object_mask=np.ones((T, N), np.bool_),
            true_box=np.zeros((T, 0, 4), np.float32),
        )


def random_captions(rng: np.random.Generator, number: int) -> tuple[str, ...]:
    """Draw captions of random words."""
    words = rng.integers(len(_WORDS), size=(number, _NUM_WORDS))
    return tuple(' '.join(_WORDS[i] for i in row) for row in words)


def write_frame_file(path: Path, num_clips: int, width: int) -> None:
    """Write features of frames as HDF5: clip name to (steps, width)."""
    feature_SC = np.random.default_rng(0).normal(size=(STEPS, width)).astype(np.float32)
    with h5py.File(path, 'w') as file:
        for number in range(num_clips):
            file[f'video{number}'] = np.roll(feature_SC, number, axis=-1)


def write_region_file(path: Path, num_clips: int) -> None:
    """Write RMN's layout: `vfeats` (clips, 26, 36, 2048) and `sfeats` (clips, 26, 36, 5)."""
    rng = np.random.default_rng(0)
    feature_SND = rng.normal(size=(STEPS, REGIONS, REGION_WIDTH)).astype(np.float32)
    box_SN4 = np.tile(np.array([0.1, 0.2, 0.5, 0.8], np.float32), (STEPS, REGIONS, 1))
    area_SN1 = np.full((STEPS, REGIONS, 1), 0.24, np.float32)
    with h5py.File(path, 'w') as file:
        # One dataset for all clips, as RMN stores them: this exercises reading slices.
        features = file.create_dataset('vfeats', (num_clips, *feature_SND.shape), np.float32)
        boxes = file.create_dataset('sfeats', (num_clips, STEPS, REGIONS, 5), np.float32)
        for number in range(num_clips):
            features[number] = np.roll(feature_SND, number, axis=-1)
            boxes[number] = np.concatenate([box_SN4, area_SN1], axis=-1)
