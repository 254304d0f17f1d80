import json

import pytest
import yaml

import stg_jax
from stg_jax.share.model_folder import export_model
from tests.fakes.fake_export import fake_model


def scores(cider, **changes):
    """Return what an evaluation of two clips writes, without the metrics that need Java."""
    return {
        'metrics': {'CIDEr': sum(cider) / len(cider), 'BLEU-4': 31.2},
        'per_clip': {f'clip{i}': {'CIDEr': value} for i, value in enumerate(cider)},
        'counts': {},
        'versions': {'tokenizer': 'PTB', 'pycocoevalcap': '1.2'},
        'num_clips': len(cider),
        'num_references': 6,
        'split': 'test',
        'branch': 'scene',
        'beam_size': 5,
        'length_penalty': 0.6,
        'checkpoint': 'best',
        'average': 1,
        'checkpoint_step': 7,
        'checkpoints': {'runs/x': 'the best'},
        'test_looks': 3,
    } | changes


@pytest.fixture
def run(tmp_path):
    return fake_model(tmp_path / 'run')


def evaluate(run, name, *args, **changes):
    folder = run.evaluation(name)
    folder.mkdir(parents=True)
    (folder / 'scores.json').write_text(json.dumps(scores(*args, **changes)))


def card_of(run, **options):
    out = export_model(stg_jax.load(run.path), run.path.parent / 'my-model', **options)
    text = (out / 'README.md').read_text()
    _, metadata, body = text.split('---\n', 2)
    return yaml.safe_load(metadata), body


def test_the_hub_reads_the_metadata(run):
    evaluate(run, 'test', [40.0, 60.0])
    metadata, _ = card_of(run, license='apache-2.0')
    assert metadata['license'] == 'apache-2.0'
    assert metadata['library_name'] == 'stg_jax'
    (index,) = metadata['model-index']
    (result,) = index['results']
    assert result['dataset'] == {'type': 'fake', 'name': 'fake', 'split': 'test'}
    assert {each['name']: each['value'] for each in result['metrics']}['CIDEr'] == 50.0


def test_scores_come_with_intervals_and_protocol(run):
    evaluate(run, 'test', [50.0, 50.0])
    evaluate(run, 'val', [30.0, 30.0], split='val')
    _, body = card_of(run)
    # Clips that are all alike leave no room for chance.
    assert '| test | scene | 5 | 2 | 31.2 |  |  | 50.0 (50.0 to 50.0) |' in body
    assert body.index('| test | scene') < body.index('| val | scene')
    assert '95 % interval' in body
    assert 'CIDEr is CIDEr-D' in body and 'step 7, drawn at random' in body
    assert 'Looks at the test split: 3.' in body


@pytest.mark.parametrize(
    'changes', [{'checkpoint_step': 8}, {'average': 3}, {'checkpoints': {'a': '', 'b': ''}}]
)
def test_scores_of_other_parameters_are_not_claimed(run, changes):
    evaluate(run, 'test', [50.0, 50.0], **changes)
    metadata, body = card_of(run)
    assert 'Not evaluated with these parameters.' in body
    assert 'model-index' not in metadata


def test_scores_of_an_older_version_are_left_out(run):
    folder = run.evaluation('test')
    folder.mkdir(parents=True)
    (folder / 'scores.json').write_text('{"CIDEr": 50}')
    assert 'Not evaluated' in card_of(run)[1]


def test_data_limits_and_license_are_stated(run):
    metadata, body = card_of(run)
    assert metadata['license'] == 'unknown'
    assert 'Not stated: ask the author' in body
    assert '| train | 2 clips with 5 captions |' in body
    assert '| appearance features | 8 numbers |' in body
    assert 'use the 6 words of the training captions' in body
