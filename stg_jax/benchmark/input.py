"""The suite 'input': from feature files and videos to shards, and from shards to batches.

Every stage runs in a new process, so that its peak memory is its own; this process imports no large
library.
"""

import dataclasses
import tempfile
from pathlib import Path

from stg_jax.benchmark import random_files
from stg_jax.benchmark.timing import Peak, Stage, in_own_process, rate, speedup
from stg_jax.config import Config, DataConfig

_PASSES = 10  # over the clips in an epoch
_ROUNDS = 8  # of reading
_IMPORTED = 64  # clips of region features, 7.7 MB each
_RENDERED = 12  # videos
_MAKING, _READING = 'stg_jax.benchmark.input_writing', 'stg_jax.benchmark.input_reading'


def run(config: Config, num_clips: int) -> list[Stage]:
    """Measure speed and memory of every stage, on random clips of the config's shape.

    Args:
      config: as of configs/common.py; its `data.dir` is not used.
      num_clips: number of clips that are written and read.

    Returns:
      For each stage 'stage' (its name), 'before_mb' and 'peak_mb' (memory of the process with its
      libraries loaded, and its peak), and those of the following that apply, each with median, min
      and max: 'clips_per_s', 'mb_per_s' (of shards, or of the imported file), 'frames_per_s';
      'to_bare', the speed of streaming relative to a bare pass over the shards, and 'to_memmap',
      that of the cache relative to slicing arrays on disk, both round by round.
    """
    data = config.data
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
        data = dataclasses.replace(data, dir=str(folder / 'data'))
        clips_per_batch = config.train.batch_size // data.captions_per_clip
        return [
            _writing(folder / 'data', num_clips, shape),
            *_reading(folder / 'arrays', data, num_clips, clips_per_batch),
            _importing(folder, shape),
            *_videos(folder / 'videos', shape),
        ]


def _writing(out: Path, num_clips: int, shape: random_files.Shape) -> Stage:
    written = in_own_process(_MAKING, 'write_shards', out, num_clips, shape)
    return _stage('write shards', written, num_clips, [written.value], _shard_mb(out))


def _reading(arrays: Path, data: DataConfig, num_clips: int, clips_per_batch: int) -> list[Stage]:
    in_own_process(_READING, 'write_arrays', data, arrays)
    arguments = data, arrays, clips_per_batch
    num_mb = _PASSES * _shard_mb(Path(data.dir))
    stages = []
    # Each pair in a new process: memory and caches that others leave must not count for it.
    # Each way is compared with the fastest possible read of the same data: nothing parsed, or plain
    # arrays.
    for other, way in (('bare', 'streamed'), ('memmap', 'cached')):
        seconds = in_own_process(
            _READING, 'seconds_of_epochs', (other, way), *arguments, _ROUNDS
        ).value
        for name, each in seconds.items():
            # A second run for the memory: the process above held the data of both ways.
            peak = in_own_process(_READING, 'read_epoch', name, *arguments)
            stage = _stage(f'read: {name}', peak, _PASSES * num_clips, each, num_mb)
            stages.append(stage | {f'to_{other}': speedup(each, seconds[other]).as_json()})
    return stages


def _importing(folder: Path, shape: random_files.Shape) -> Stage:
    random_files.write_frame_file(folder / 'frames.hdf5', _IMPORTED, shape.appearance)
    random_files.write_region_file(folder / 'regions.hdf5', _IMPORTED)
    num_mb = (folder / 'regions.hdf5').stat().st_size / 1e6
    imported = in_own_process(
        _MAKING, 'import_regions', folder, folder / 'imported', _IMPORTED, shape
    )
    return _stage('import regions', imported, _IMPORTED, [imported.value], num_mb)


def _videos(folder: Path, shape: random_files.Shape) -> list[Stage]:
    rendered = in_own_process(_MAKING, 'render_videos', folder, _RENDERED)
    paths, seconds = rendered.value
    decoded = in_own_process(_MAKING, 'decode_videos', paths, shape.frames)
    num_frames, decoding = decoded.value
    extracted = in_own_process(_MAKING, 'extract_pixels', paths, shape.frames, shape.objects)
    decode = _stage('decode toy videos', decoded, _RENDERED, [decoding])
    return [
        _stage('render toy videos', rendered, _RENDERED, [seconds]),
        decode | {'frames_per_s': rate(num_frames, [decoding]).as_json()},
        _stage('extract toy pixels', extracted, _RENDERED, [extracted.value]),
    ]


def _stage(
    name: str, peak: Peak, num_clips: int, seconds: list[float], num_mb: float | None = None
) -> Stage:
    stage = {'stage': name, 'clips_per_s': rate(num_clips, seconds).as_json()}
    if num_mb is not None:
        stage['mb_per_s'] = rate(num_mb, seconds).as_json()
    return stage | {'before_mb': peak.before_mb, 'peak_mb': peak.peak_mb}


def _shard_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob('*.tfrecord*')) / 1e6
