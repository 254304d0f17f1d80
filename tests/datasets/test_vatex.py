import json
import zipfile

import pytest

from stg_jax.datasets import vatex
from stg_jax.datasets.registry import find_data_set, read_annotations
from stg_jax.errors import UserError


def clip(name, *captions):
    return {'videoID': name, 'enCap': list(captions), 'chCap': ['一个人在跑步']}


TRAIN = [clip('a-_b_000001_000011', 'A man RUNS.', "It's a dog"), clip('c_2_12', 'a cat', '?')]
VAL = [clip('d_000003_000013', 'two cats')]
PRIVATE = [{'videoID': 'e_000004_000014'}]
SPLITS = {
    'train': {'a-_b_000001_000011': ['a man runs', 'it s a dog'], 'c_2_12': ['a cat']},
    'val': {'d_000003_000013': ['two cats']},
    'test': {},
}


def test_reads_one_file_for_each_split_plain_or_zipped(tmp_path):
    folder = tmp_path / 'vatex'
    folder.mkdir()
    (folder / 'vatex_training_v1.0.json').write_text(json.dumps(TRAIN))
    (folder / 'vatex_private_test_without_annotations.json').write_text(json.dumps(PRIVATE))
    assert find_data_set(folder) == 'vatex'
    with zipfile.ZipFile(folder / 'val.zip', 'w') as archive:
        archive.writestr('vatex_validation_v1.0.json', json.dumps(VAL))
    found = read_annotations('vatex', folder)
    assert found.splits == SPLITS
    assert found.source['a-_b_000001_000011'] == 'a-_b'
    assert found.notes == [
        '1 captions without any word are left out',
        '1 clips without English captions are left out',
    ]


def test_one_file_of_another_name_is_divided_by_hash(tmp_path):
    path = tmp_path / 'captions.json'
    path.write_text(json.dumps(TRAIN + VAL))
    found = vatex.read(path)
    assert {split: len(clips) for split, clips in found.splits.items()} == {
        'train': 1, 'val': 1, 'test': 1,
    }  # fmt: skip
    assert 'SHA-256' in found.notes[-1]


def test_other_data_sets_point_to_it(tmp_path):
    path = tmp_path / 'vatex_training.json'
    path.write_text(json.dumps(TRAIN))
    for data_set in ('own', 'msrvtt'):
        with pytest.raises(UserError, match='looks like annotations of vatex: prepare vatex'):
            read_annotations(data_set, path)


@pytest.mark.parametrize(
    ('document', 'sentence'),
    [
        ({'videoID': 'a'}, 'is no list of clips with videoID and enCap'),
        ([{'enCap': ['x']}], 'entry 1 is no object with a videoID'),
        ([clip('a_1_2', 'x'), 5], 'entry 2 is no object with a videoID'),
        ([{'videoID': 'a_1_2', 'enCap': 'x'}], 'enCap of a_1_2 is no list of captions'),
        ([{'videoID': 'a_1_2', 'enCap': [5]}], 'enCap of a_1_2 is no list of captions'),
        ([{'videoID': 'a_1_2', 'chCap': ['一']}], 'holds no English caption'),
    ],
)
def test_refuses_broken_annotations(tmp_path, document, sentence):
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=sentence):
        vatex.read(path)


def test_refuses_a_clip_in_two_splits(tmp_path):
    (tmp_path / 'train.json').write_text(json.dumps(TRAIN))
    (tmp_path / 'val.json').write_text(json.dumps(TRAIN[:1]))
    with pytest.raises(UserError, match='a-_b_000001_000011 is in two splits, train and val'):
        vatex.read(tmp_path)
    (tmp_path / 'val.json').rename(tmp_path / 'more.json')
    with pytest.raises(UserError, match='is in two splits, none and train'):
        vatex.read(tmp_path)
