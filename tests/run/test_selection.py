"""Which checkpoint is taken and what is said of it; how often the test split was looked at."""

import concurrent.futures
import json

import numpy as np
import pytest

from stg_jax.api import train
from stg_jax.errors import UserError
from stg_jax.evaluate.evaluate import count_look
from stg_jax.run.build import build_model, param_shapes
from stg_jax.run.checkpoint import Checkpoints
from stg_jax.run.folder import RunFolder
from stg_jax.run.selection import choose_params
from stg_jax.run.validation_score import ValidationScore
from tests.fakes import fake_data, fake_run

SCORES = {1: 20.0, 2: 50.0, 3: 40.0, 4: 50.0, 5: None}


def tree(value):
    return {'w': np.full((2, 3), value, np.float32)}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run') / 'checkpoints'
    with Checkpoints(folder, keep_best=3) as checkpoints:
        for step, score in SCORES.items():
            score = ValidationScore(score, 2.0) if score else None
            checkpoints.save(step, tree(step), {'m': np.zeros(2)}, {'step': step}, score)
    return folder


def test_the_best_on_validation_is_chosen_and_its_score_named(folder):
    choice = choose_params(folder, tree(0))
    assert choice.steps == [2]
    assert choice.params['w'][0, 0] == 2
    assert 'step 2' in choice.why
    assert 'best on validation: CIDEr 50.00' in choice.why


@pytest.mark.parametrize('which', ['latest', '3'])
def test_another_checkpoint_is_said_to_be_asked_for(folder, which):
    assert f'asked for as {which!r}' in choose_params(folder, tree(0), which).why


def test_a_checkpoint_that_is_not_there_is_refused(folder):
    with pytest.raises(UserError, match="no checkpoint '99'"):
        choose_params(folder, tree(0), '99')


def test_an_average_is_the_mean_of_the_best(folder):
    choice = choose_params(folder, tree(0), average=3)
    assert choice.steps == [2, 4, 3]
    np.testing.assert_array_equal(choice.params['w'], tree(3)['w'])
    assert choice.params['w'].dtype == np.float32
    assert '2 (CIDEr 50.00), 4 (CIDEr 50.00), 3 (CIDEr 40.00)' in choice.why


def test_an_average_of_more_than_was_kept_is_refused(folder):
    with pytest.raises(UserError, match=r'3 validated checkpoints, not 4: .*keep_best=4'):
        choose_params(folder, tree(0), average=4)
    with pytest.raises(UserError, match='--checkpoint=latest'):
        choose_params(folder, tree(0), 'latest', average=2)


def test_every_look_at_the_test_split_counts_even_at_the_same_time(tmp_path):
    run = RunFolder(tmp_path, None, None, None)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda step: count_look(run, {'step': step}), range(20)))
    assert count_look(run, {'step': 20}) == 21
    looks = [json.loads(path.read_text()) for path in (tmp_path / 'eval/test_looks').iterdir()]
    assert sorted(look['step'] for look in looks) == list(range(21))


def test_training_chooses_without_ever_reading_the_test_split(tmp_path):
    data = fake_data.fake_data_folder(tmp_path)
    of_test = [path for path in data.rglob('*') if path.is_file() and '-test' in path.name]
    assert of_test
    for path in of_test:
        path.write_bytes(b'damaged')
    config = fake_run.tiny_config(
        data, model__branches='scene', train__epochs=2, train__keep_best=2
    )
    assert train(config, tmp_path / 'run')
    run = RunFolder.open(tmp_path / 'run')
    shapes = param_shapes(build_model(run.config, run.manifest, run.vocab), run.config.data)
    assert len(choose_params(run.checkpoints, shapes, average=2).steps) == 2
