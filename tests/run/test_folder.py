import pytest

from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from stg_jax.run.folder import RunFolder
from tests.fakes.fake_run_folder import MANIFEST, VOCAB, create


def test_a_run_reads_back_as_it_was_created(tmp_path):
    created = create(tmp_path / 'run')
    opened = RunFolder.open(tmp_path / 'run')
    assert opened.config == created.config
    assert opened.manifest == MANIFEST
    assert opened.vocab.words == VOCAB.words


def test_the_same_config_goes_on_and_may_last_longer(tmp_path):
    create(tmp_path)
    create(tmp_path, **{'train.epochs': 99, 'decode.beam_size': 2, 'data.dir': '/elsewhere'})
    assert RunFolder.open(tmp_path).config.train.epochs == 99


def test_another_config_is_refused_and_the_keys_named(tmp_path):
    create(tmp_path)
    with pytest.raises(UserError, match=r'model.width \(there 512, now 64\), seed \(there 0'):
        create(tmp_path, **{'model.width': 64, 'seed': 3})
    assert RunFolder.open(tmp_path).config.model.width == 512


def test_another_vocabulary_is_refused(tmp_path):
    create(tmp_path)
    with pytest.raises(UserError, match='another vocabulary'):
        create(tmp_path, Vocabulary.build(['other words'], 1))


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / 'notes').write_text('mine')
    with pytest.raises(UserError, match=r'notes cannot be written \(File exists\): choose'):
        create(tmp_path / 'notes')
    assert (tmp_path / 'notes').read_text() == 'mine'


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match='holds no run'):
        RunFolder.open(tmp_path)


def test_a_run_whose_config_lost_bytes_is_refused(tmp_path):
    create(tmp_path)
    path = tmp_path / 'config.json'
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match=r'config\.json is not valid JSON'):
        RunFolder.open(tmp_path)
