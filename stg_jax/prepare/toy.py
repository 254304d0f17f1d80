"""Prepare the toy world: render its videos, and extract features from their pixels."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stg_jax import files
from stg_jax.cli.progress import progress
from stg_jax.config import ToyConfig
from stg_jax.data.clip import Clip
from stg_jax.data.frame_sampling import sample_index
from stg_jax.data.manifest import Manifest
from stg_jax.datasets import toy
from stg_jax.datasets.toy.scenes import USUAL, Difficulty
from stg_jax.errors import UserError
from stg_jax.extract.base import to_clip
from stg_jax.extract.toy_pixels.extractor import DetectorNoise, PixelExtractor
from stg_jax.extract.video.frames import Video
from stg_jax.prepare.workers import Chunk, Request, Result, attempt, chunked, make_all


def prepare_toy(
    out: Path,
    *,
    num_clips: Mapping[str, int],
    world: ToyConfig,
    num_frames: int,
    num_objects: int,
    workers: int | None = None,
) -> Manifest:
    """Render the toy world into `out`/videos, extract features and write them.

    Args:
      out: folder that must not exist; it appears whole or not at all.
      num_clips: number of clips of each split.
      world: seed and difficulty of the scenes.
      num_frames: T, frames sampled of each clip.
      num_objects: N, maximum objects of a frame.
      workers: processes that render and extract features; one per core by default.
    """
    from stg_jax.data import records  # imports TensorFlow, which worker processes do not need

    toy.check_splits(num_clips)
    noise = DetectorNoise(world.detector_dropout, world.detector_jitter)
    extractor = PixelExtractor(num_frames, num_objects, with_grid=True, noise=noise)
    difficulty = Difficulty(world.distractors, world.captions, world.held_out)
    with files.write_folder(out) as folder:
        maker = ToyMaker(extractor, folder / 'videos', world.seed, difficulty)
        clips = film_clips(maker, num_clips, workers or os.cpu_count() or 1)
        clips = progress(clips, sum(num_clips.values()), 'toy world: made')
        return records.write_records(
            folder,
            {split: itertools.islice(clips, count) for split, count in num_clips.items()},
            data_set='toy',
            extractor=extractor.settings,
            sources={
                'seed': world.seed,
                'difficulty': dataclasses.asdict(difficulty),
                'videos': 'videos',
            },
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


class ToyMaker:
    """Renders clips, reads them back from their files, and describes what is read.

    Rendering takes as long as the rest, so that it is done by the workers, too. See `work.Maker`.
    """

    def __init__(
        self,
        extractor: PixelExtractor,
        folder: str | os.PathLike[str],
        seed: int,
        difficulty: Difficulty = USUAL,
    ):
        self.settings: dict[str, Any] = extractor.settings | {'seed': seed}
        self._extractor, self._folder = extractor, folder
        self._seed, self._difficulty = seed, difficulty

    def load(self, chunk: Chunk) -> list[tuple[toy.ToyClip, Video]]:
        """Render and decode the clips of a chunk."""
        films = [self._render(request.clip_id) for request in chunk]
        return [(film, self._extractor.read(film.path)) for film in films]

    def make(self, chunk: Chunk, loaded: list[tuple[toy.ToyClip, Video]]) -> list[Result]:
        """Describe the clips; each also gets the boxes that the renderer knows."""
        described = self._extractor.describe([video for _, video in loaded])
        return [
            attempt(_clip, request, film, video, arrays)
            for request, (film, video), arrays in zip(chunk, loaded, described, strict=True)
        ]

    def _render(self, clip_id: str) -> toy.ToyClip:
        split = clip_id.rstrip('0123456789')
        index = int(clip_id.removeprefix(split))
        return toy.render_clip(self._folder, split, index, self._seed, self._difficulty)


def film_clips(maker: ToyMaker, num_clips: Mapping[str, int], workers: int) -> Iterator[Clip]:
    """Yield `num_clips` clips of each split, in order.

    Raises:
      UserError: a clip cannot be read back from its file.
    """
    requests = (
        Request(toy.clip_id(split, index), captions=())
        for split, count in num_clips.items()
        for index in range(count)
    )
    for results in make_all(maker, chunked(requests), workers):
        yield from map(_made, results)


def _clip(request: Request, film: toy.ToyClip, video: Video, arrays: Mapping[str, Any]) -> Clip:
    clip = to_clip(request.clip_id, film.captions, video, arrays)
    index = sample_index(len(film.true_box), len(video.index))
    return dataclasses.replace(clip, true_box=film.true_box[index])


def _made(result: Result) -> Clip:
    if not isinstance(result, Clip):
        raise UserError(f'a film just rendered cannot be read: {result.reason}')
    return result
