"""The toy world as a data folder: rendered videos, and features extracted from their pixels."""

import concurrent.futures
import functools
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from stg_jax import files
from stg_jax.data import toy
from stg_jax.data.clip import Clip
from stg_jax.data.manifest import Manifest
from stg_jax.data.sampling import sample_index
from stg_jax.errors import UserError
from stg_jax.extract.pixels import PixelExtractor
from stg_jax.prepare.progress import progress

_CHUNK = 8  # clips sent to a process at a time


def prepare_toy(
    out: Path, *, num_clips: Mapping[str, int], seed: int, num_frames: int, num_objects: int
) -> Manifest:
    """Render the toy world into `out`/videos, extract features with all cores and write them.

    Args:
      out: folder that must not exist; it appears whole or not at all.
      num_clips: clips of each split.
      seed: another one gives other videos.
      num_frames: T, frames sampled of each clip.
      num_objects: N, the most objects of a frame.
    """
    from stg_jax.data import records  # here: the worker processes need no TensorFlow

    extractor = PixelExtractor(num_frames, num_objects)
    extract = functools.partial(_extract, extractor)
    # spawn: a forked child of a process with TensorFlow's threads may hang.
    context = multiprocessing.get_context('spawn')
    pool = concurrent.futures.ProcessPoolExecutor(os.cpu_count(), mp_context=context)
    with files.write_folder(out) as folder, pool:

        def clips(split: str, count: int) -> Iterator[Clip]:
            films = toy.render(folder / 'videos', seed=seed, num_clips={split: count})
            films = progress(films, count, f'{split}: rendered')
            extracted = pool.map(extract, films, chunksize=_CHUNK)
            yield from progress(extracted, count, f'{split}: extracted')

        return records.write_records(
            folder,
            {split: clips(split, count) for split, count in num_clips.items()},
            data_set='toy',
            extractor=extractor.settings,
            sources={'seed': seed, 'videos': 'videos'},
        )


def read_counts(text: str) -> dict[str, int]:
    """Read the clips of each split from text like 'train=1500,val=60,test=60'."""
    counts = {}
    for part in text.split(','):
        split, _, count = part.partition('=')
        if not count.isdecimal():
            raise UserError(f'clips must look like train=1500,val=60,test=60, found {text!r}')
        counts[split] = int(count)
    return counts


def _extract(extractor: PixelExtractor, film: toy.ToyClip) -> Clip:
    clip = extractor.extract(film.path, clip_id=film.id, captions=film.captions)
    index = sample_index(len(film.true_box), len(clip.object_mask))
    return replace(clip, true_box=film.true_box[index])
