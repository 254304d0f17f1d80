"""Prepare the toy world: render its videos, and extract features from their pixels."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from stg_jax import files
from stg_jax.cli.progress import progress
from stg_jax.data.clip import Clip
from stg_jax.data.frame_sampling import sample_index
from stg_jax.data.manifest import Manifest
from stg_jax.datasets import toy
from stg_jax.errors import UserError
from stg_jax.extract.toy_pixels.extractor import PixelExtractor
from stg_jax.prepare.from_videos import VideoMaker
from stg_jax.prepare.workers import Request, Result, chunked, make_all


def prepare_toy(
    out: Path,
    *,
    num_clips: Mapping[str, int],
    seed: int,
    num_frames: int,
    num_objects: int,
    workers: int | None = None,
) -> Manifest:
    """Render the toy world into `out`/videos, extract features and write them.

    Args:
      out: folder that must not exist; it appears whole or not at all.
      num_clips: number of clips of each split.
      seed: of the random scenes.
      num_frames: T, frames sampled of each clip.
      num_objects: N, maximum objects of a frame.
      workers: processes that extract features; one per core by default.
    """
    from stg_jax.data import records  # imports TensorFlow, which worker processes do not need

    extractor = PixelExtractor(num_frames, num_objects)
    with files.write_folder(out) as folder:
        # The videos are part of the data folder: they are what the captioner is shown at the end.
        films = toy.render(folder / 'videos', seed=seed, num_clips=num_clips)
        films = progress(films, sum(num_clips.values()), 'toy world: rendered')
        clips = film_clips(films, extractor, workers or os.cpu_count() or 1)
        return records.write_records(
            folder,
            {split: itertools.islice(clips, count) for split, count in num_clips.items()},
            data_set='toy',
            extractor=extractor.settings,
            sources={'seed': seed, 'videos': 'videos'},
        )


def read_counts(text: str) -> dict[str, int]:
    """Parse the number of clips of each split from text like 'train=1500,val=60,test=60'."""
    counts = {}
    for part in text.split(','):
        split, _, count = part.partition('=')
        if not count.isdecimal():
            raise UserError(f'clips must look like train=1500,val=60,test=60, found {text!r}')
        counts[split] = int(count)
    return counts


def film_clips(
    films: Iterable[toy.ToyClip], extractor: PixelExtractor, workers: int
) -> Iterator[Clip]:
    """Extract features from the films in order; add the true boxes that the renderer knows."""
    true_box = {}

    def requests() -> Iterator[Request]:
        for film in films:
            index = sample_index(len(film.true_box), extractor.settings['frames'])
            # The renderer knows where the objects are. The extractor must not, so the boxes are
            # added only afterwards, for tests of grounding.
            true_box[film.id] = film.true_box[index]
            # Rendering runs in this process, while the workers extract the films before it.
            yield Request(film.id, film.captions, path=os.fspath(film.path))

    for results in make_all(VideoMaker(extractor.settings), chunked(requests()), workers):
        for result in results:
            clip = _made(result)
            yield dataclasses.replace(clip, true_box=true_box.pop(clip.id))


def _made(result: Result) -> Clip:
    if not isinstance(result, Clip):
        raise UserError(f'a film just rendered cannot be read: {result.reason}')
    return result
