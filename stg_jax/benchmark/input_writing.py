"""Write data: one function for each stage that is timed; each returns seconds."""

import time
from pathlib import Path

from stg_jax.benchmark.random_files import Shape, random_clips
from stg_jax.data.records import write_data_folder
from stg_jax.datasets import toy
from stg_jax.datasets.base import Annotations
from stg_jax.extract.toy_pixels.extractor import SIDE, PixelExtractor
from stg_jax.extract.video.frames import read_frames
from stg_jax.prepare.from_features import FeatureFiles, plan_features
from stg_jax.prepare.write import Runner, write_data


def write_shards(out: Path, num_clips: int, shape: Shape) -> float:
    """Write random clips as a data folder with a train split."""
    # Made before the clock starts; drawing random numbers takes longer than writing them.
    clips = list(random_clips(num_clips, shape))
    start = time.perf_counter()
    write_data_folder(out, {'train': clips}, data_set='random', extractor={'name': 'random'})
    return time.perf_counter() - start


def import_regions(folder: Path, out: Path, num_clips: int, shape: Shape) -> float:
    """Import `frames.hdf5` and `regions.hdf5` of a folder, as `prepare.py msrvtt` does."""
    ids = [f'video{number}' for number in range(num_clips)]
    annotations = Annotations(
        data_set='msrvtt',
        splits={'train': dict.fromkeys(ids, ('a caption',))},
        number={clip_id: number for number, clip_id in enumerate(ids)},
        source={},
        notes=(),
    )
    files = FeatureFiles(
        appearance=f'{folder}/frames.hdf5',
        motion=None,
        objects=f'{folder}/regions.hdf5',
        boxes=None,
        frame_sizes=None,
        grid=None,
        num_frames=shape.frames,
        num_objects=shape.objects,
        motion_steps='index',
    )
    start = time.perf_counter()
    write_data(out, plan_features(annotations, files, None), Runner())
    return time.perf_counter() - start


def render_videos(folder: Path, num_clips: int) -> tuple[list[Path], float]:
    """Render clips of the toy world; also returns their files."""
    start = time.perf_counter()
    paths = [clip.path for clip in toy.render(folder, seed=0, num_clips={'train': num_clips})]
    return paths, time.perf_counter() - start


def decode_videos(paths: list[Path], num_frames: int) -> tuple[int, float]:
    """Decode videos as the pixel extractor does; also returns the number of decoded frames."""
    start = time.perf_counter()
    decoded = sum(
        read_frames(path, num_frames, context=3, size=(SIDE, SIDE)).num_frames for path in paths
    )
    return decoded, time.perf_counter() - start


def extract_pixels(paths: list[Path], num_frames: int, num_objects: int) -> float:
    """Decode videos and extract their pixel features."""
    extractor = PixelExtractor(num_frames, num_objects)
    start = time.perf_counter()
    for path in paths:
        extractor.extract(path)
    return time.perf_counter() - start
