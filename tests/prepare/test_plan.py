"""Which clips are planned."""

from pathlib import Path

import pytest

from configs import own
from stg_jax.config import parse_config
from stg_jax.data.manifest import Manifest
from stg_jax.datasets.base import Annotations
from stg_jax.errors import UserError
from stg_jax.prepare.plan import describe_written, requests


def manifest(**changes):
    sizes = {
        'frames': 10,
        'objects': 9,
        'cells': 16,
        'splits': {'val': {'clips': 1, 'captions': 2}},
    }
    return Manifest(
        data_set='own',
        widths={'appearance': 1280, 'motion': 1280, 'object': 320, 'grid': 320},
        scale={},
        missing={},
        sources={},
        **(sizes | {'extractor': {'nodes': 'grid'}} | changes),
    )


def test_the_next_command_reads_all_cells_and_types_no_width():
    data = parse_config(own.get_config()).data
    text = describe_written(Path('x'), manifest(), data, 'own')
    assert 'val 1 clips with 2 captions' in text
    assert 'appearance 26, motion 26, object 58, grid 102' in text
    assert '--config.data.objects=9' in text and '_dim' not in text
    assert '--config.model.scene_tokens=grid' in text
    # The best few boxes are a choice.
    text = describe_written(Path('x'), manifest(extractor={'nodes': 'boxes'}), data, 'own')
    assert '--config.data.objects' not in text


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
