import dataclasses
import json

import jax
import numpy as np
import pytest

import stg_jax
from stg_jax.config import flat
from stg_jax.errors import UserError
from stg_jax.extract import models
from stg_jax.extract.pretrained import FeatureExtractor
from stg_jax.extract.registry import build_extractor
from stg_jax.run.folder import RunFolder
from stg_jax.share.model_folder import export_model
from tests.fakes import fake_data, fake_run
from tests.fakes.fake_export import fake_model
from tests.fakes.untrained_run import untrained_run

SECRET = '/home/someone/secret'


@pytest.fixture
def run(tmp_path):
    """Return a model whose config and manifest name paths and clips."""
    changes = {'data.dir': f'{SECRET}/data', 'train.init_from': f'{SECRET}/run'}
    run = fake_model(tmp_path / 'run', **changes)
    manifest = dataclasses.replace(
        run.manifest, sources={'videos': SECRET}, missing={'motion': [f'{SECRET}-clip']}
    )
    manifest.save(run.path / 'manifest.json')
    (run.path / 'digests.json').unlink()
    return RunFolder.open(run.path)


def with_extractor(run, **settings):
    settings = {'name': 'models', 'version': FeatureExtractor.version, **settings}
    dataclasses.replace(run.manifest, extractor=settings).save(run.path / 'manifest.json')


def test_an_exported_model_is_the_run(tmp_path, run):
    captioner = stg_jax.load(run.path)
    exported = stg_jax.load(export_model(captioner, tmp_path / 'out'))
    jax.tree.map(np.testing.assert_array_equal, exported.params, captioner.params)
    assert (exported.step, exported.why) == (captioner.step, captioner.why)
    assert exported.run.vocab == run.vocab
    ours, theirs = run.config.flat(), exported.run.config.flat()
    assert {key for key in ours if ours[key] != theirs[key]} == {'data.dir', 'train.init_from'}
    assert exported.run.manifest.scale == run.manifest.scale


def test_nothing_of_this_machine_is_exported(tmp_path, run):
    out = export_model(stg_jax.load(run.path), tmp_path / 'out')
    for path in out.rglob('*'):
        assert SECRET.encode() not in path.read_bytes(), path
        assert str(tmp_path).encode() not in path.read_bytes(), path


def test_a_source_on_the_hub_stays_named(tmp_path):
    run = fake_model(tmp_path / 'run', **{'train.init_from': 'hf://user/name'})
    out = export_model(stg_jax.load(run.path), tmp_path / 'out')
    assert (
        flat(json.loads((out / 'config.json').read_text()))['train.init_from'] == 'hf://user/name'
    )


def test_an_existing_folder_is_not_overwritten(tmp_path, run):
    (tmp_path / 'out').mkdir()
    with pytest.raises(UserError, match='exists already'):
        export_model(stg_jax.load(run.path), tmp_path / 'out')


def test_model_files_of_the_extractor_travel_along(tmp_path, run, monkeypatch):
    nets = tmp_path / 'nets'
    (nets / 'onnx').mkdir(parents=True)
    files = {
        'yolox.onnx': b'detector',
        'yolox.names': b'cat\ndog',
        'onnx/model.onnx': b'encoder',
        'onnx/model.onnx_data': b'weights',
        'preprocessor_config.json': b'{}',
    }
    for name, data in files.items():
        (nets / name).write_bytes(data)
    detector, encoder = f'onnx:{nets}/yolox.onnx#yolox', f'onnx:{nets}/onnx/model.onnx'
    digests = {
        detector: models.digest('detector', detector),
        encoder: models.digest('frame_encoder', encoder),
    }
    with_extractor(
        run, detector=detector, frame_encoder=encoder, clip_encoder='difference', digests=digests
    )
    out = export_model(stg_jax.load(run.path), tmp_path / 'out')
    copied = {
        p.relative_to(out / 'extractor').as_posix()
        for p in out.rglob('*')
        if p.is_file() and 'extractor' in p.parts
    }
    assert copied == {
        'detector/yolox.onnx',
        'detector/yolox.names',
        'detector/preprocessor_config.json',
        'frame_encoder/model.onnx',
        'frame_encoder/model.onnx_data',
        'frame_encoder/preprocessor_config.json',
    }
    settings = RunFolder.open(out).manifest.extractor
    assert settings['detector'] == 'onnx:extractor/detector/yolox.onnx#yolox'
    assert settings['clip_encoder'] == 'difference'
    # Opened from anywhere, the extractor finds them there and sees that they are the same.
    seen = {}
    monkeypatch.setattr(
        'stg_jax.extract.pretrained.FeatureExtractor.from_settings', lambda s: seen.update(s)
    )
    build_extractor(settings, out)
    for part in ('detector', 'frame_encoder'):
        assert models.digest(part, seen[part]) == seen['digests'][seen[part]]


def test_a_model_file_that_is_gone_is_named_without_its_path(tmp_path, run):
    name = f'onnx:{SECRET}/yolox.onnx'
    with_extractor(run, detector=name, digests={name: 'ab'})
    out = export_model(stg_jax.load(run.path), tmp_path / 'out')
    settings = RunFolder.open(out).manifest.extractor
    assert settings['detector'] == 'onnx:extractor/detector/yolox.onnx'
    assert settings['digests'] == {'onnx:extractor/detector/yolox.onnx': 'ab'}
    assert SECRET not in (out / 'README.md').read_text()


@pytest.mark.slow
def test_an_exported_model_writes_the_captions_of_the_run(tmp_path):
    data = fake_data.fake_data_folder(tmp_path)
    workdir = untrained_run(tmp_path / 'run', fake_run.tiny_config(data))
    clips = fake_data.fake_clips(4)
    expected = stg_jax.load(workdir).caption_clips(clips)
    done = fake_run.run('export', workdir, tmp_path / 'out', '--license=mit')
    assert done.returncode == 0, done.stderr
    assert stg_jax.load(tmp_path / 'out').caption_clips(clips) == expected
