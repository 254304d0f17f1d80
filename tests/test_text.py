from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_jax.data.text import normalise

MSVD = Path(__file__).parents[2] / 'shared' / 'real' / 'msvd' / 'annotations'


@pytest.mark.parametrize(
    ('caption', 'expected'),
    [
        ('A man is  cooking.', 'a man is cooking'),
        ("it's the dog's ball", 'it s the dog s ball'),
        ('make-up on a half‑pipe', 'makeup on a halfpipe'),
        ('a man -- in red — runs–away', 'a man in red runs away'),
        ('a man--running', 'a man running'),
        ('"Hello," (he said) {now} [3/4] & more!', 'hello he said now 3 4 more'),
        ('the guy\ufeff talks', 'the guy talks'),
        ('Café d’Arlésienne ÉTÉ', 'café d arlésienne été'),
        ('snake_case\tand\nlines', 'snake case and lines'),
        ('一个男人。', '一个男人'),
        ('<pad> <bos>', 'pad bos'),
        (' ... ', ''),
    ],
)
def test_normalises(caption, expected):
    assert normalise(caption) == expected


@given(st.text())
def test_twice_changes_nothing(caption):
    assert normalise(normalise(caption)) == normalise(caption)


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_leaves_msvd_sentences_as_they_are(split):
    path = MSVD / f'sents_{split}_lc_nopunc.txt'
    if not path.exists():
        pytest.skip(f'{path} is absent')
    captions = [line.partition('\t')[2] for line in path.read_text('utf-8').splitlines()]
    assert [normalise(caption) for caption in captions] == captions
