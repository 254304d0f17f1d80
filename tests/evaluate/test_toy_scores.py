"""Scores by meaning in evaluations of toy runs, and the linear probe beside them."""

import types

import pytest

from configs import toy
from stg_jax.config import parse_config
from stg_jax.data.captions import read_captions
from stg_jax.data.manifest import Manifest
from stg_jax.data.vocab import Vocabulary
from stg_jax.datasets.toy.attributes import SCORES
from stg_jax.evaluate.toy import meaning_scores, probe_scores, table
from stg_jax.prepare.toy import prepare_toy


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy') / 'data'
    config = parse_config(toy.get_config()).changed(data__dir=str(folder), data__frames=4)
    counts = {'train': 60, 'test': 10}
    size = {'num_frames': config.data.frames, 'num_objects': config.data.objects}
    manifest = prepare_toy(folder, num_clips=counts, world=config.toy, workers=1, **size)
    vocab = Vocabulary.build(['a red ball'], 1)
    return types.SimpleNamespace(config=config, manifest=manifest, vocab=vocab)


def test_references_are_right_and_others_are_not(run):
    references = read_captions(run.config.data.dir, 'test')
    right = {clip: captions[-1] for clip, captions in references.items()}
    scores = meaning_scores(run, right, references)['attributes']
    assert scores == dict.fromkeys(SCORES.values(), 100)
    wrong = dict.fromkeys(references, 'a red ball')
    found = meaning_scores(run, wrong, references)
    assert found['attributes']['everything right'] == 0
    assert found['attributes_per_clip'].keys() == references.keys()


def test_other_data_have_no_such_scores(run):
    manifest = Manifest(**{**vars(run.manifest), 'data_set': 'msvd'})
    other = types.SimpleNamespace(manifest=manifest)
    assert meaning_scores(other, {'a': 'a man'}, {'a': ['a man runs']}) == {}


def test_the_probe_learns_what_is_linear_in_the_features(run):
    train = probe_scores(run, run, 'train')
    assert 'everything right' not in train and 'object right' not in train
    assert train['colors right'] > 80 and train['event right'] > 80
    test = probe_scores(run, run, 'test')
    assert all(0 <= value <= 100 for value in test.values())


def test_a_table_has_a_column_for_each_branch():
    lines = list(table({'scene': {'event right': 97.25}, 'probe': {'all things right': 42.0}}))
    assert lines[0].split() == ['scene', 'probe']
    assert lines[1].split() == ['event', 'right', '97.2%']
    assert [line for line in lines if '42.0%' in line] == [f'{"all things right":<27}    42.0%']
