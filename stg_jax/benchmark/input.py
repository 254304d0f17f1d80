"""The suite 'input': from feature files and videos to shards, and from shards to batches.

Every stage runs in a process of its own, so that its peak of memory is its own; this one imports no
library that is large.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from stg_jax.benchmark import random_files
from stg_jax.benchmark.timing import Peak, Spread, apart, rate, ratio

_PASSES = 10  # of an epoch
_ROUNDS = 8  # of reading
_IMPORTED = 64  # clips of region features, 7.7 MB each
_RENDERED = 12  # videos
_MAKING, _READING = 'stg_jax.benchmark.input_writing', 'stg_jax.benchmark.input_reading'

Stage = dict[str, Any]


def run(config: Any, num_clips: int) -> list[Stage]:
    """Return speed and memory of every stage, for random clips of the config's shape.

    Args:
      config: as of configs/common.py; its `data.dir` is not used.
      num_clips: how many clips are written and read.

    Returns:
      For each stage 'stage' (its name), 'before_mb' and 'peak_mb' (memory of the process with its
      libraries loaded, and at most), and of these what has a meaning, each with median, min and
      max: 'clips_per_s', 'mb_per_s' (of shards, or of the file imported), 'frames_per_s', and in
      relation to what took turns with it, round by round, 'to_bare' (of streaming, to a bare pass
      over the shards) or 'to_memmap' (of the cache, to slicing arrays on disk).
    """
    data = config.data.copy_and_resolve_references()
    shape = random_files.Shape(
        frames=data.frames,
        objects=data.objects,
        appearance=data.appearance_dim,
        motion=data.motion_dim,
        object=data.object_dim,
        captions=_PASSES * data.captions_per_clip,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data.dir = str(folder / 'data')
        clips_per_batch = config.train.batch_size // data.captions_per_clip
        return [
            _writing(folder / 'data', num_clips, shape),
            *_reading(folder / 'arrays', data, num_clips, clips_per_batch),
            _importing(folder, shape),
            *_videos(folder / 'videos', shape),
        ]


def _writing(out: Path, num_clips: int, shape: random_files.Shape) -> Stage:
    written = apart(_MAKING, 'write_shards', out, num_clips, shape)
    return _stage('write shards', written, num_clips, [written.value], _shard_mb(out))


def _reading(arrays: Path, data: Any, num_clips: int, clips_per_batch: int) -> list[Stage]:
    apart(_READING, 'write_arrays', data, arrays)
    arguments = data, arrays, clips_per_batch
    num_mb = _PASSES * _shard_mb(Path(data.dir))
    stages = []
    # A pair in a process of its own: what another way leaves in memory and caches is not its doing.
    for other, way in (('bare', 'streamed'), ('memmap', 'cached')):
        seconds = apart(_READING, 'seconds_of_epochs', (other, way), *arguments, _ROUNDS).value
        for name, each in seconds.items():
            peak = apart(_READING, 'read_epoch', name, *arguments)
            stage = _stage(f'read: {name}', peak, _PASSES * num_clips, each, num_mb)
            stages.append(stage | {f'to_{other}': _fields(ratio(each, seconds[other]))})
    return stages


def _importing(folder: Path, shape: random_files.Shape) -> Stage:
    random_files.write_frame_file(folder / 'frames.hdf5', _IMPORTED, shape.appearance)
    random_files.write_region_file(folder / 'regions.hdf5', _IMPORTED)
    num_mb = (folder / 'regions.hdf5').stat().st_size / 1e6
    imported = apart(_MAKING, 'import_regions', folder, folder / 'imported', _IMPORTED, shape)
    return _stage('import regions', imported, _IMPORTED, [imported.value], num_mb)


def _videos(folder: Path, shape: random_files.Shape) -> list[Stage]:
    rendered = apart(_MAKING, 'render_videos', folder, _RENDERED)
    paths, seconds = rendered.value
    decoded = apart(_MAKING, 'decode_videos', paths, shape.frames)
    num_frames, decoding = decoded.value
    extracted = apart(_MAKING, 'extract_pixels', paths, shape.frames, shape.objects)
    decode = _stage('decode toy videos', decoded, _RENDERED, [decoding])
    return [
        _stage('render toy videos', rendered, _RENDERED, [seconds]),
        decode | {'frames_per_s': _fields(rate(num_frames, [decoding]))},
        _stage('extract toy pixels', extracted, _RENDERED, [extracted.value]),
    ]


def _stage(
    name: str, peak: Peak, num_clips: int, seconds: list[float], num_mb: float | None = None
) -> Stage:
    stage = {'stage': name, 'clips_per_s': _fields(rate(num_clips, seconds))}
    if num_mb is not None:
        stage['mb_per_s'] = _fields(rate(num_mb, seconds))
    return stage | {'before_mb': peak.before_mb, 'peak_mb': peak.peak_mb}


def _shard_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob('*.tfrecord*')) / 1e6


def _fields(spread: Spread) -> dict[str, float]:
    return dataclasses.asdict(spread)
