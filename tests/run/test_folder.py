import json

import pytest

from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from stg_jax.run.folder import RunFolder
from tests.fakes.fake_run_folder import MANIFEST, VOCAB, create

# The keys of the first version by group: a key that came later needs a value for older runs.
FIRST = {
    'data': 'appearance_dim cache captions_per_clip dir eval_captions frames max_words min_count '
    'motion_dim object_dim objects order shuffle_buffer toy_clips',
    'decode': 'batch_size beam_size length_penalty',
    'kd': 'detach_teacher direction kind temperature',
    'loss': 'kd_weight label_smoothing scene_weight',
    'model': 'branches decoder_layers dropout dtype encoder_layers feedforward fusion graph '
    'graph_layers graph_norm heads scene_fusion temporal_direction width',
    'optim': 'clip lr warmup',
    'profile': 'start steps',
    'train': 'accumulate batch_size checkpoint_steps epochs keep_best log_steps patience',
}


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


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_changed_word_of_the_vocabulary_is_noticed_and_training_writes_it_anew(tmp_path):
    create(tmp_path)
    change(tmp_path / 'vocab.txt', 'ball', 'bell')
    with pytest.raises(UserError, match=r'vocab\.txt is damaged: it is not what training wrote'):
        RunFolder.open(tmp_path)
    create(tmp_path)
    assert RunFolder.open(tmp_path).vocab.words == VOCAB.words


def test_a_changed_number_of_the_manifest_is_noticed(tmp_path):
    create(tmp_path)
    change(tmp_path / 'manifest.json', '1.5', '1.4')
    with pytest.raises(UserError, match=r'manifest\.json is damaged'):
        RunFolder.open(tmp_path)


def test_a_changed_value_of_the_config_is_noticed_and_training_writes_it_anew(tmp_path):
    create(tmp_path)
    change(tmp_path / 'config.json', '"beam_size": 5', '"beam_size": 4')
    with pytest.raises(UserError, match=r'config\.json is damaged: it is not what training wrote'):
        RunFolder.open(tmp_path)
    create(tmp_path)
    assert RunFolder.open(tmp_path).config.decode.beam_size == 5


def test_data_may_be_moved_and_the_config_be_laid_out_otherwise(tmp_path):
    create(tmp_path)
    path = tmp_path / 'config.json'
    tree = json.loads(path.read_text())
    tree['data']['dir'] = '/moved'
    path.write_text(json.dumps(tree, indent=None, sort_keys=True))
    assert RunFolder.open(tmp_path).config.data.dir == '/moved'


def test_a_run_of_an_older_version_has_no_digests_and_opens(tmp_path):
    create(tmp_path)
    (tmp_path / 'digests.json').unlink()
    assert RunFolder.open(tmp_path).vocab.words == VOCAB.words
    with pytest.raises(UserError, match='another vocabulary'):
        create(tmp_path, Vocabulary.build(['other words'], 1))


def test_a_config_of_an_older_version_opens_by_the_values_that_it_trained_with(tmp_path):
    config = create(tmp_path).config
    new = json.loads((tmp_path / 'config.json').read_text())
    tree = {group: {key: new[group][key] for key in keys.split()} for group, keys in FIRST.items()}
    tree['seed'] = new['seed']
    tree['data']['skip_damaged'] = False
    (tmp_path / 'config.json').write_text(json.dumps(tree))
    digests = json.loads((tmp_path / 'digests.json').read_text())
    del digests['config.json']
    (tmp_path / 'digests.json').write_text(json.dumps(digests))
    assert RunFolder.open(tmp_path).config == config
    create(tmp_path, **{'train.epochs': 99})  # and training resumes


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('"frames": 10', '"frames": "ten"', "config.data.frames is 'ten'"),
        ('"frames": 10', '"frames": -10', 'config.data.frames is -10'),
        ('"frames": 10,', '', 'config.data.frames is missing'),
        ('"frames": 10', '"frames": 10, "depth": 3', 'config.data.depth is unknown'),
        ('"data": {', '"data": [], "more": {', 'config'),
    ],
)
def test_a_config_of_another_version_is_one_sentence(tmp_path, old, new, message):
    create(tmp_path)
    change(tmp_path / 'config.json', old, new)
    with pytest.raises(UserError, match=r'config\.json does not fit this version') as refused:
        RunFolder.open(tmp_path)
    assert message in str(refused.value)


@pytest.mark.parametrize('name', ['config.json', 'digests.json', 'manifest.json'])
@pytest.mark.parametrize('content', ['[]', '3', '{"', ''])
def test_damaged_json_is_one_sentence(tmp_path, name, content):
    create(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=name.replace('.', r'\.')):
        RunFolder.open(tmp_path)
