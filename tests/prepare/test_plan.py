"""Which clips are planned."""

import pytest

from stg_jax.datasets.base import Annotations
from stg_jax.errors import UserError
from stg_jax.prepare.plan import requests


def annotations(**splits):
    return Annotations(data_set='own', splits=splits, number={}, source={}, notes=[])


def test_splits_without_clips_are_left_out():
    found = requests(annotations(train={'a': ['x'], 'b': ['y']}, val={'c': ['z']}), {'a': 'a.mp4'})
    assert [
        (split, [request.clip_id for request in wanted]) for split, wanted in found.items()
    ] == [('train', ['a'])]


def test_a_validation_clip_without_words_is_refused():
    named = annotations(train={'a': ['x']}, val={'b': []}, test={'c': []})
    with pytest.raises(UserError, match='validation clip b has no caption with a word'):
        requests(named, dict.fromkeys('abc', ''))


def test_other_clips_without_words_are_planned():
    named = annotations(train={'a': ['x']}, val={'b': []}, test={'c': []})
    assert list(requests(named, dict.fromkeys('ac', ''))) == ['train', 'test']
