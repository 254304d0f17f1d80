import json

import pytest

from stg_jax.errors import UserError
from stg_jax.run import hub
from stg_jax.run.folder import RunFolder
from stg_jax.run.selection import choose_params
from tests.fakes import fake_hub
from tests.fakes.fake_export import fake_model, shapes_of


@pytest.fixture
def server(tmp_path, monkeypatch):
    with fake_hub.serving(tmp_path / 'cache', monkeypatch) as server:
        yield server


@pytest.fixture
def model(tmp_path):
    return fake_model(tmp_path / 'model').path


def upload(server, model, repo='user/name', **other_files):
    """Put a model on the hub, without its client."""
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    server.repos[repo] = files | other_files


def downloaded(server):
    return {path.rpartition('/')[2] for method, path in server.requests if '/resolve/' in path}


def test_a_model_of_the_hub_is_the_one_that_was_uploaded(server, model):
    upload(server, model)
    there = RunFolder.open('hf://user/name')
    here = RunFolder.open(model)
    assert (there.config, there.manifest, there.vocab) == (here.config, here.manifest, here.vocab)
    found = choose_params(there.checkpoints, shapes_of(there))
    assert (found.steps, found.why) == ([7], 'step 7, drawn at random')


def test_only_json_text_and_safetensors_are_downloaded(server, model):
    upload(server, model, **{'evil.py': b'1', 'model.pkl': b'2', 'extractor/a.onnx': b'3'})
    folder = hub.download('hf://user/name')
    assert downloaded(server) == set(hub.FILES)
    assert {path.name for path in folder.rglob('*')} == set(hub.FILES)


def test_a_second_load_downloads_nothing(server, model):
    upload(server, model)
    first = hub.download('hf://user/name')
    server.requests.clear()
    assert hub.download('hf://user/name') == first
    assert not downloaded(server)


def test_without_a_connection_the_cache_is_used(tmp_path, monkeypatch, model):
    with fake_hub.serving(tmp_path / 'cache', monkeypatch) as server:
        upload(server, model)
        first = hub.download('hf://user/name')
    assert hub.download('hf://user/name') == first
    with pytest.raises(UserError, match='is not in the cache: check the connection'):
        hub.download('hf://user/other')


def test_a_revision_can_be_named(server, model):
    upload(server, model)
    commit = server.commit('user/name')
    assert hub.download(f'hf://user/name@{commit}') == hub.download('hf://user/name')
    with pytest.raises(UserError, match='cannot be downloaded'):
        hub.download('hf://user/name@none')


def test_a_model_that_does_not_exist_is_reported(server):
    with pytest.raises(UserError, match=r'hf://user/name cannot be downloaded .*check the name'):
        hub.download('hf://user/name')


@pytest.mark.parametrize(
    'address',
    ['hf://name', 'hf://a/b/c', 'hf://../name', 'hf://user/..', 'hf://user/na me', 'hf://u/n@../x'],
)
def test_a_malformed_address_is_refused_before_anything_is_asked_for(server, address):
    with pytest.raises(UserError, match='is no address of a model'):
        hub.download(address)
    assert not server.requests


def test_a_repository_of_something_else_is_refused(server):
    server.repos['user/name'] = {'config.json': b'{}', 'pytorch_model.bin': b'x'}
    with pytest.raises(UserError, match=r'is not a model of stg_jax \(it has no manifest.json\)'):
        hub.download('hf://user/name')
    assert not downloaded(server)


def test_a_file_beyond_its_limit_is_not_downloaded(server, model):
    upload(server, model, **{'digests.json': b'x' * (2**20 + 1)})
    with pytest.raises(UserError, match=r'digests.json of hf://user/name has 1048577 bytes'):
        hub.download('hf://user/name')
    assert not downloaded(server)


@pytest.mark.parametrize(
    'encoder',
    ['keras:hf://evil/preset', 'onnx:/etc/model.onnx', 'onnx:../../model.onnx', 'keras:~/preset'],
)
def test_an_extractor_outside_of_the_model_is_refused(server, model, encoder):
    path = model / 'manifest.json'
    manifest = json.loads(path.read_text())
    manifest['extractor'] = {'name': 'models', 'frame_encoder': encoder, 'digests': {}}
    path.write_text(json.dumps(manifest))
    upload(server, model)
    with pytest.raises(UserError, match='is not part of it'):
        RunFolder.open('hf://user/name')


def test_an_extractor_of_known_names_is_allowed(server, model):
    path = model / 'manifest.json'
    manifest = json.loads(path.read_text())
    manifest['extractor'] = {
        'detector': 'onnx:extractor/detector/yolox.onnx#yolox',
        'frame_encoder': 'keras:resnet_101_imagenet',
    }
    path.write_text(json.dumps(manifest))
    upload(server, model)
    hub.download('hf://user/name')
