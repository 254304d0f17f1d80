"""The suite 'e2e': a whole training run, from shards to the last checkpoint."""

import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stg_jax.benchmark.measure import Spread
from stg_jax.benchmark.random_data import Shape, random_clips
from stg_jax.benchmark.synthetic import LENGTHS
from stg_jax.data.clip import Clip
from stg_jax.data.records import write_data_folder
from stg_jax.train.loop import train

_CAPTIONS = 40  # of a clip, as MSVD has; it also has one validation clip to twelve train clips
_WORDS = 9462

Stage = dict[str, Any]


def run(config: Any, num_clips: int) -> list[Stage]:
    """Train on random clips as the config says, with a validation after each epoch.

    Returns:
      The stage 'whole run' with 'seconds', compilation and checkpoints included, and
      'captions_per_s'; and the stage 'steps' with 'captions_per_s' and 'data_wait' (share of the
      time), as the run has logged them, with median, min and max.
    """
    config = config.copy_and_resolve_references()
    config.train.patience = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config.data.dir = str(folder / 'data')
        splits = {'train': num_clips, 'val': max(1, num_clips // 12)}
        clips = {split: list(_clips(config.data, number)) for split, number in splits.items()}
        write_data_folder(folder / 'data', clips, data_set='random', extractor={'name': 'random'})
        start = time.perf_counter()
        train(config, folder / 'run')
        seconds = time.perf_counter() - start
        logged = [json.loads(line) for line in (folder / 'run' / 'metrics.jsonl').open()]
    steps = [values for values in logged if 'data_wait' in values]
    captions = config.train.epochs * num_clips * _CAPTIONS
    return [
        {'stage': 'whole run', 'seconds': seconds, 'captions_per_s': captions / seconds},
        {
            'stage': 'steps',
            'captions_per_s': _spread(values['captions_per_second'] for values in steps),
            'data_wait': _spread(values['data_wait'] for values in steps),
        },
    ]


def _clips(data: Any, number: int) -> Iterator[Clip]:
    shape = Shape(
        frames=data.frames,
        objects=data.objects,
        appearance=data.appearance_dim,
        motion=data.motion_dim,
        object=data.object_dim,
        captions=0,
    )
    rng = np.random.default_rng(0)
    for clip in random_clips(number, shape):
        yield dataclasses.replace(clip, captions=tuple(_caption(rng) for _ in range(_CAPTIONS)))


def _caption(rng: np.random.Generator) -> str:
    num_words = rng.choice(np.arange(1, len(LENGTHS) + 1), p=np.array(LENGTHS) / sum(LENGTHS))
    return ' '.join(f'word{i}' for i in rng.integers(_WORDS, size=num_words))


def _spread(values: Iterator[float]) -> dict[str, float]:
    return dataclasses.asdict(Spread.of(list(values)))
