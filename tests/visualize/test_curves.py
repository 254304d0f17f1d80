"""Curves of runs, read back from the SVG that shows them."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from configs import common
from stg_jax.config import parse_config
from stg_jax.data.manifest import KINDS, Manifest
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from stg_jax.run.folder import RunFolder
from stg_jax.visualize.curves import draw_curves, read_metrics

RECORDS = [
    {'step': 1, 'loss': 4.0, 'xe_scene': 2.0, 'kd': 0.5, 'captions_per_second': 10.0},
    {'step': 2, 'loss': None, 'xe_scene': 1.5, 'kd': 0.4, 'captions_per_second': 12.0},
    {'step': 2, 'val_loss': 3.0, 'val_xe_scene': 1.7, 'val_kd': 0.3, 'val_cider': 20.0},
    {'step': 3, 'loss': 3.0, 'xe_scene': 1.0, 'kd': 0.2, 'captions_per_second': 14.0},
]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Return a run folder in which nothing is trained."""
    fields = {field.name: {} for field in dataclasses.fields(Manifest)}
    sizes = {name: dict.fromkeys(KINDS, 1) for name in ('widths', 'scale')}
    manifest = Manifest(
        **fields | sizes | {'data_set': 'none', 'frames': 1, 'objects': 1, 'cells': 0}
    )
    path = tmp_path_factory.mktemp('run')
    run = RunFolder(
        path, parse_config(common.get_config()), manifest, Vocabulary.build(['a ball'], 1)
    )
    run.claim()
    return run


def write(run, text):
    run.metrics.write_text(text)
    return run.path


def test_the_last_half_line_of_a_run_at_work_is_left_out(run):
    lines = [json.dumps(record) for record in RECORDS]
    assert read_metrics(write(run, '\n'.join([*lines, '{"step": 4, "lo']))) == RECORDS
    with pytest.raises(UserError, match='line 2'):
        read_metrics(write(run, '\n'.join([lines[0], '{"step": 4, "lo', lines[1]])))
    with pytest.raises(UserError, match='no logged step'):
        read_metrics(write(run, ''))
    with pytest.raises(UserError, match='holds no run'):
        read_metrics(run.path.parent / 'nowhere')


def drawn(path):
    """Return all words of an SVG, and how many points each of its lines has."""
    tree = ElementTree.parse(path)
    words = {match.strip() for match in re.findall(r'<!-- (.*?) -->', path.read_text())}
    tag = '{http://www.w3.org/2000/svg}'
    lines = [
        len(re.findall('[ML]', each.find(f'{tag}path').get('d')))
        for each in tree.iter(f'{tag}g')
        if (each.get('id') or '').startswith('line2d') and each.find(f'{tag}path') is not None
    ]
    return words, lines


def test_every_quantity_has_a_panel_and_every_run_a_line(tmp_path):
    pytest.importorskip('matplotlib')
    runs = {'first': RECORDS, 'second': RECORDS[:3]}
    draw_curves(tmp_path / 'curves.svg', runs)
    words, lines = drawn(tmp_path / 'curves.svg')
    titles = {
        'Loss',
        'Cross-entropy, scene branch',
        'Distillation',
        'Validation: cider',
        'Throughput',
    }
    assert titles <= words
    assert 'Cross-entropy, object branch' not in words
    assert {'first', 'first, validation', 'second', 'second, validation'} <= words
    assert lines.count(3) >= 3  # first run: cross-entropy, distillation, throughput


def test_only_pictures_are_written(tmp_path):
    with pytest.raises(UserError, match=r'curves\.txt must end in'):
        draw_curves(tmp_path / 'curves.txt', {'run': RECORDS})
    draw_curves(tmp_path / 'new' / 'curves.png', {'run': RECORDS})
    assert (tmp_path / 'new' / 'curves.png').read_bytes().startswith(b'\x89PNG')
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['curves.png']
