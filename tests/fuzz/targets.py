"""What is fuzzed: for each format a folder of sound files, and the function that reads it.

Libraries are imported by the functions that use them, so that a process loads only its own.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Target:
    """A format.

    Attributes:
      make: writes sound files into a folder.
      read: reads all of them.
      has_checksums: whether damage must be noticed: a read without an error gives the same values.
    """

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    has_checksums: bool = False


def equal(one, other):
    """Compare nested values, arrays by their bytes."""
    return repr(_plain(one)) == repr(_plain(other))


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _make_data_folder(folder):
    from tests.fakes import fake_data

    fake_data.fake_data_folder(folder, train=3, val=2, test=1)


def _read_shards(folder):
    from stg_jax.data.records import read_clips

    return list(read_clips(folder / 'data', 'train'))


def _make_shards(folder):
    _make_data_folder(folder)
    for path in (folder / 'data').iterdir():
        if not path.name.endswith('.json') and 'train.tfrecord' not in path.name:
            path.unlink()


def _read_data_folder(folder):
    from stg_jax.prepare.verify.verify import verify

    verify(folder / 'data', max_words=5, min_count=1)


def _clips():
    return [f'clip{i}' for i in range(3)]


def _make_hdf5_frames(folder):
    from tests.fakes import fake_features

    fake_features.write_hdf5(folder / 'f.hdf5', fake_features.fake_frames(_clips()))


def _make_hdf5_objects(folder):
    from tests.fakes import fake_features

    fake_features.write_hdf5(folder / 'f.hdf5', fake_features.fake_objects(_clips()))


def _make_hdf5_rows(folder):
    from tests.fakes import fake_features

    rows = {'feats': np.ones((3, 4, 5), np.float32), 'lens': np.array([4, 2, 1])}
    fake_features.write_hdf5(folder / 'f.hdf5', rows)


def _make_npz_frames(folder):
    from tests.fakes import fake_features

    np.savez_compressed(folder / 'f.npz', **fake_features.fake_frames(_clips()))


def _make_npy(folder):
    from tests.fakes import fake_features

    fake_features.write_npy(folder / 'f', fake_features.fake_frames(_clips()))


def _make_npz(folder):
    from tests.fakes import fake_features

    images = fake_features.images_of(fake_features.fake_objects(_clips()))
    fake_features.write_npz(folder / 'f', images)


def _make_tsv(name):
    def make(folder):
        from tests.fakes import fake_features

        images = fake_features.images_of(fake_features.fake_objects(_clips()))
        fake_features.write_tsv(folder / name, images)

    return make


def _read_frames(name):
    def read(folder):
        from stg_jax.feature_files.open import open_frames

        return _read_all(open_frames(str(folder / name)))

    return read


def _read_objects(name):
    def read(folder):
        from stg_jax.feature_files.open import open_objects

        return _read_all(open_objects(str(folder / name), fit=None))

    return read


def _read_all(source):
    """Read every clip; a single clip may be refused, as preparation leaves it out."""
    try:
        return {key: _attempt(source.read, key) for key in source.keys}
    finally:
        source.close()


@dataclasses.dataclass(frozen=True)
class Refused:
    """Stands for a value that was refused in one sentence."""

    sentence: str


def _attempt(read, *args):
    from stg_jax.errors import UserError

    try:
        return read(*args)
    except UserError as error:
        return Refused(str(error))


def _inspect(name):
    def read(folder):
        from stg_jax.prepare.inspect.path import inspect

        return inspect(str(folder / name), None, None)

    return read


def _write_texts(**texts):
    def make(folder):
        (folder / 'a').mkdir()
        for name, text in texts.items():
            (folder / 'a' / name.replace('__', '.')).write_text(text)

    return make


_VIDEOS = [{'video_id': f'video{i}', 'split': 'train' if i else 'validate'} for i in range(3)]
_SENTENCES = [{'video_id': f'video{i}', 'caption': 'a man runs', 'sen_id': i} for i in range(3)]
_VATEX = [{'videoID': f'a_{i}', 'enCap': ['a man runs', 'he runs'], 'chCap': []} for i in range(3)]
_ANNOTATIONS = {
    'msvd': _write_texts(
        youtube_mapping__txt='a_1_2 vid1\nb_1_2 vid2\n',
        sents_train_lc_nopunc__txt='vid1\ta man runs\nvid2\ta dog barks\n',
    ),
    'msvd_corpus': _write_texts(
        youtube_mapping__txt='a_1_2\tvid1\nb_1_2\tvid2\n',
        corpus__csv='VideoID,Start,End,Language,Description\n'
        'a,1,2,English,"A man, running"\nb,1,2,English,a dog\n',
        AllVideoDescriptions__txt='# x\na_1_2 a man runs\nb_1_2 a dog\n',
    ),
    'msrvtt_coco': _write_texts(
        coco__json=json.dumps(
            {'images': [{'id': 0}], 'annotations': [{'image_id': 0, 'id': 0, 'caption': 'x'}]}
        )
    ),
    'msrvtt': _write_texts(
        videodatainfo__json=json.dumps({'videos': _VIDEOS, 'sentences': _SENTENCES})
    ),
    'vatex': _write_texts(vatex_training__json=json.dumps(_VATEX)),
    'own_csv': _write_texts(c__csv='clip,caption,split\na,"a man, runs",train\nb,a dog,val\n'),
    'own_jsonl': _write_texts(
        c__jsonl='{"clip": "a", "caption": "a man"}\n{"clip": "b", "captions": ["x", "y"]}\n'
    ),
}


def _read_annotations(data_set):
    def read(folder):
        from stg_jax.datasets.registry import read_annotations

        path = folder / 'a'
        if data_set.startswith('own'):
            (path,) = path.iterdir()
        return read_annotations(data_set.partition('_')[0], path)

    return read


_PREDICTIONS = {
    'json': '{"a": "a man runs", "b": "a dog"}',
    'rows.json': '[{"video_id": "a", "caption": "a man"}, {"video_id": "b", "caption": "x"}]',
    'jsonl': '{"clip": "a", "caption": "a man"}\n{"clip": "b", "caption": "x"}\n',
    'tsv': 'a\ta man runs\nb\ta dog\n',
    'csv': 'clip,caption\na,"a man, runs"\nb,a dog\n',
}


def _make_predictions(folder):
    for name, text in _PREDICTIONS.items():
        (folder / f'p.{name}').write_text(text)


def _read_predictions(folder):
    from stg_jax.evaluate.caption_files import read_predictions
    from stg_jax.evaluate.reference_files import read_references

    return [
        _attempt(read, path)
        for path in sorted(folder.iterdir())
        for read in (read_predictions, read_references)
    ]


def _make_run_files(folder):
    from etils import epath

    from tests.fakes import fake_run_folder

    fake_run_folder.create(epath.Path(folder / 'run'))


def _read_run_files(folder):
    from stg_jax.run.folder import RunFolder

    return RunFolder.open(folder / 'run')


def _parameters():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(4, 5)).astype(np.float32) for name in ('kernel', 'bias')}


def _make_checkpoint(folder):
    from etils import epath

    from stg_jax.run.checkpoint import Checkpoints

    with Checkpoints(epath.Path(folder)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, _parameters(), {'count': np.zeros(1)}, {}, None)


def _read_checkpoint(folder):
    from etils import epath

    from stg_jax.run.checkpoint import restore_params

    params, _ = restore_params(epath.Path(folder), _parameters(), 'latest')
    return {name: np.asarray(value) for name, value in params.items()}


def _make_videos(folder):
    import av

    frames = np.random.default_rng(0).integers(0, 255, (12, 32, 48, 3), np.uint8)
    for name, codec in (('v.mp4', 'mpeg4'), ('v.avi', 'mjpeg'), ('v.mkv', 'ffv1')):
        with av.open(str(folder / name), 'w') as container:
            stream = container.add_stream(codec, rate=5)
            stream.width, stream.height = 48, 32
            stream.pix_fmt = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
            for frame in frames:
                for packet in stream.encode(av.VideoFrame.from_ndarray(frame)):
                    container.mux(packet)
            for packet in stream.encode(None):
                container.mux(packet)


def _read_videos(folder):
    from stg_jax.extract.video.frames import read_frames

    return [_attempt(read_frames, path, 4) for path in sorted(folder.iterdir())]


_PICTURES = {
    'do_resize': True,
    'size': {'height': 64, 'width': 96},
    'resample': 2,
    'do_rescale': True,
    'rescale_factor': 1 / 255,
    'do_normalize': True,
    'image_mean': [0.5, 0.4, 0.3],
    'image_std': [0.5, 0.25, 0.2],
    'do_center_crop': False,
}


def _make_onnx(folder):
    from tests.fakes import fake_detectors, fake_onnx

    fake_onnx.save_encoder(folder / 'encoder.onnx', size=('height', 'width'))
    fake_onnx.save_constant(folder / 'detector.onnx', fake_detectors.yolov8())
    (folder / 'preprocessor_config.json').write_text(json.dumps(_PICTURES, indent=2))


def _read_onnx(folder):
    from stg_jax.extract.onnx.detector import OnnxDetector
    from stg_jax.extract.onnx.frame_encoder import OnnxFrameEncoder

    return [
        _attempt(lambda: OnnxFrameEncoder(folder / 'encoder.onnx', batch_size=2)),
        _attempt(lambda: OnnxDetector(folder / 'detector.onnx', min_score=0.3, batch_size=2)),
    ]


TARGETS = {
    'shards': Target(_make_shards, _read_shards, has_checksums=True),
    'data_folder': Target(_make_data_folder, _read_data_folder),
    'hdf5_frames': Target(_make_hdf5_frames, _read_frames('f.hdf5')),
    'hdf5_objects': Target(_make_hdf5_objects, _read_objects('f.hdf5')),
    'hdf5_rows': Target(_make_hdf5_rows, _read_frames('f.hdf5')),
    'npz_frames': Target(_make_npz_frames, _read_frames('f.npz')),
    'npy': Target(_make_npy, _read_frames('f')),
    'npz': Target(_make_npz, _read_objects('f')),
    'tsv': Target(_make_tsv('f.tsv'), _read_objects('f.tsv')),
    'tsv_gz': Target(_make_tsv('f.tsv.gz'), _read_objects('f.tsv.gz')),
    'inspect_hdf5': Target(_make_hdf5_objects, _inspect('f.hdf5')),
    'inspect_npz': Target(_make_npz, _inspect('f')),
    'inspect_tsv': Target(_make_tsv('f.tsv'), _inspect('f.tsv')),
    **{name: Target(make, _read_annotations(name)) for name, make in _ANNOTATIONS.items()},
    'predictions': Target(_make_predictions, _read_predictions),
    'run_folder': Target(_make_run_files, _read_run_files),
    'checkpoint': Target(_make_checkpoint, _read_checkpoint, has_checksums=True),
    'videos': Target(_make_videos, _read_videos),
    'onnx': Target(_make_onnx, _read_onnx),
}
