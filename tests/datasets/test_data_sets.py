"""The table of data sets: what reads it, and what a new row takes."""

import importlib

import pytest

from stg_jax.datasets.base import Annotations
from stg_jax.datasets.registry import DATASETS, DataSet, find_data_set, read_annotations
from stg_jax.errors import UserError
from stg_jax.prepare.inspect.path import inspect

FILES = {
    'sents_val_lc_nopunc.txt': ('vid1201\ta man\n', 'msvd'),
    'corpus.csv': ('VideoID,Start,End,Language,Description\n', 'msvd'),
    'own.csv': ('clip,caption\na,a man\n', 'own'),
    'own.jsonl': ('{"clip": "a", "caption": "a man"}\n', 'own'),
    'msrvtt.json': ('{"video1": {"0": "a man"}}', 'msrvtt'),
    'vatex.json': (' [{"chCap": ["x", "y"], "videoID": "a_1_2"}]', 'vatex'),
    'notes.txt': ('a man\n', 'msvd'),
    'clip.mp4': ('', None),
}


@pytest.mark.parametrize('name', FILES)
def test_annotations_are_recognized_alone_and_in_a_folder(tmp_path, name):
    text, expected = FILES[name]
    (tmp_path / name).write_text(text)
    assert find_data_set(tmp_path / name) == expected
    (tmp_path / '._x.json').write_text('[{"videoID": 1}]')
    in_folder = None if name.startswith(('own', 'notes')) else expected
    assert find_data_set(tmp_path) == in_folder
    assert find_data_set(tmp_path / 'nowhere') is None


@pytest.mark.parametrize('name', DATASETS)
def test_every_row_names_a_config_and_its_annotations(name):
    row = DATASETS[name]
    assert importlib.import_module(f'configs.{row.config}').get_config().data.dir
    assert row.annotations


def read_pairs(path, clean=str.lower):
    """Read lines of clip=caption, all for training."""
    pairs = [line.split('=') for line in path.read_text().splitlines()]
    splits = {'train': {clip: [clean(text)] for clip, text in pairs}, 'val': {}, 'test': {}}
    return Annotations('pairs', splits, number={}, source={}, notes=[])


def test_a_new_row_is_all_that_readers_of_annotations_need(tmp_path, monkeypatch):
    row = DataSet(read_pairs, lambda path: path.suffix == '.pairs', 'lines of clip=caption', ())
    monkeypatch.setitem(DATASETS, 'pairs', row)
    path = tmp_path / 'a.pairs'
    path.write_text('a=A man')
    assert find_data_set(path) == 'pairs'
    assert read_annotations('pairs', path, str.upper).splits['train'] == {'a': ['A MAN']}
    assert f'pass it as: pairs --annotations={path}' in inspect(path, None, None)
    with pytest.raises(UserError, match='looks like annotations of pairs: prepare pairs'):
        read_annotations('own', path)
