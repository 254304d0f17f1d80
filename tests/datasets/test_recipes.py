"""The programs of docs/data.md that write captions.csv for other data sets."""

import csv
import json
import re

import numpy as np
import pytest

from tests.fakes.fake_run import ROOT

PAGE = (ROOT / 'docs' / 'data.md').read_text()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(data_set):
    """Run the first block of Python after the name of a data set; return the rows that it wrote."""
    exec(re.search(rf'\*\*{data_set}\*\*.*?```python\n(.*?)```', PAGE, re.DOTALL)[1], {})
    with open('captions.csv', newline='') as file:
        header, *rows = csv.reader(file)
    assert header == ['clip', 'caption', 'split']
    return rows


def test_tgif(folder):
    (folder / 'splits').mkdir()
    urls = [f'https://example.org/tumblr_{i}.gif' for i in range(3)]
    for url, name in zip(urls, ('train', 'val', 'test'), strict=True):
        (folder / 'splits' / f'{name}.txt').write_text(f'{url}\n')
    (folder / 'tgif-v1.0.tsv').write_text(''.join(f'{url}\ta "man", running\n' for url in urls))
    assert run('TGIF') == [
        [f'tumblr_{i}', 'a "man", running', split]
        for i, split in enumerate(('train', 'val', 'test'))
    ]


def test_charades(folder):
    for split in ('train', 'test'):
        rows = ''.join(f'{split}{i},"one;two, and more;"\n' for i in range(40))
        (folder / f'Charades_v1_{split}.csv').write_text(f'id,descriptions\n{rows}')
    rows = run('Charades')
    assert [row[:2] for row in rows[:2]] == [['train0', 'one'], ['train0', 'two, and more']]
    assert len(rows) == 160
    assert 0 < sum(split == 'val' for *_, split in rows) < 30
    assert all(split == 'test' for clip, _, split in rows if clip.startswith('test'))


def test_activitynet(folder):
    (folder / 'features').mkdir()
    steps = np.arange(20.0)[:, None]
    for name, video in (('train', 'v_a'), ('val_1', 'v_b')):
        np.save(folder / 'features' / f'{video}.npy', steps)
        found = {'duration': 10, 'timestamps': [[0, 5], [9.9, 12]], 'sentences': [' One.', 'Two.']}
        (folder / f'{name}.json').write_text(json.dumps({video: found}))
    assert run(r'ActivityNet Captions') == [
        *(['v_a_0', 'One.', 'train'], ['v_a_1', 'Two.', 'train']),
        *(['v_b_0', 'One.', 'val'], ['v_b_1', 'Two.', 'val']),
    ]
    np.testing.assert_array_equal(np.load('segments/v_a_0.npy'), steps[:10])
    np.testing.assert_array_equal(np.load('segments/v_b_1.npy'), steps[19:])
