import pytest

import stg_jax
from stg_jax.errors import UserError
from stg_jax.run import hub
from stg_jax.share.model_folder import export_model
from stg_jax.share.push import push
from tests.fakes import fake_hub
from tests.fakes.fake_export import fake_model


@pytest.fixture
def server(tmp_path, monkeypatch):
    with fake_hub.serving(tmp_path / 'cache', monkeypatch) as server:
        yield server


@pytest.fixture
def exported(tmp_path):
    run = fake_model(tmp_path / 'run')
    return export_model(stg_jax.load(run.path), tmp_path / 'out', license='mit')


def test_what_is_pushed_is_what_is_loaded(server, exported):
    assert push(exported, 'user/name').startswith(f'{server.address}/user/name/commit/')
    assert server.repos['user/name'].keys() == {*hub.FILES, 'README.md'}
    captioner = stg_jax.load('hf://user/name')
    assert captioner.step == 7
    assert captioner.run.vocab == stg_jax.load(exported).run.vocab


def test_a_model_is_pushed_again_over_the_old_one(server, exported):
    push(exported, 'user/name')
    (exported / 'README.md').write_text('---\nlicense: mit\n---\nnew')
    push(exported, 'hf://user/name')
    assert server.repos['user/name']['README.md'].endswith(b'new')


def test_models_of_the_extractor_stay_here(server, exported):
    (exported / 'extractor' / 'detector').mkdir(parents=True)
    (exported / 'extractor' / 'detector' / 'yolox.onnx').write_bytes(b'x')
    push(exported, 'user/name')
    assert not [path for path in server.repos['user/name'] if 'extractor' in path]


def test_a_private_model_is_created_as_one(server, exported):
    push(exported, 'user/name', private=True)
    assert server.private == {'user/name'}


def test_a_user_who_is_not_logged_in_is_told_how(server, exported, monkeypatch):
    monkeypatch.setenv('HF_TOKEN', 'hf_another')
    with pytest.raises(UserError, match=r'the hub refuses user/name .*log in with hf auth'):
        push(exported, 'user/name')
    assert not server.repos


def test_a_folder_of_something_else_is_not_uploaded(server, tmp_path):
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(UserError, match='is no exported model: it has no manifest'):
        push(tmp_path, 'user/name')
    assert not server.requests


@pytest.mark.parametrize('name', ['name', 'user/name/more', 'user/name@v1'])
def test_a_name_that_is_no_place_for_a_model_is_refused(server, exported, name):
    with pytest.raises(UserError):
        push(exported, name)
    assert not server.requests
