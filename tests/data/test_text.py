import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_jax.data.text import normalise
from tests.fakes.real_data import real_data


@pytest.mark.parametrize(
    ('caption', 'expected'),
    [
        ('A man is  cooking.', 'a man is cooking'),
        ("it's the dog's ball", 'it s the dog s ball'),
        ('Make-up on a half‑pipe', 'make-up on a half-pipe'),
        ('-fast- and- -slow, x-, -3', 'fast and slow x 3'),
        ('3.5 of 1,000,000. 2, 4 or .5', '3.5 of 1,000,000 2 4 or 5'),
        ('the u.s.a,b', 'the u s a b'),
        ('a man -- in red — runs–away', 'a man in red runs away'),
        ('a man--running-\u200b-off', 'a man running off'),
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
    path = real_data('msvd', 'annotations', f'sents_{split}_lc_nopunc.txt')
    captions = [line.partition('\t')[2] for line in path.read_text('utf-8').splitlines()]
    assert [normalise(caption) for caption in captions] == captions
