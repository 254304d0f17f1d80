"""Scores from references counted once, against pycocoevalcap, which counts them every time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

from stg_jax.errors import UserError
from stg_jax.evaluate.fast_metrics import NgramNumbers, PreparedReferences

WORDS = st.sampled_from(['a', 'man', 'runs', 'é', '猫', '!', '|||', '"'])
CAPTION = st.lists(WORDS, max_size=9).map(' '.join)
REFERENCE = st.lists(WORDS, min_size=1, max_size=9).map(' '.join)
CLIP = st.tuples(CAPTION, st.lists(REFERENCE, min_size=1, max_size=4), st.booleans())


def judge(predictions, references):
    """Return pycocoevalcap's (CIDEr, BLEU-1 to 4) of the corpus and of each clip, sorted by id."""
    clips = sorted(references)
    grouped = {clip: list(references[clip]) for clip in clips}
    hypotheses = {clip: [predictions[clip]] for clip in clips}
    cider, clip_cider = Cider().compute_score(grouped, hypotheses)
    bleu, clip_bleu = Bleu(4).compute_score(grouped, hypotheses, verbose=0)
    return [cider, *bleu], np.array([clip_cider, *clip_bleu])


def assert_equals_the_judge(prepared, predictions, references):
    corpus, per_clip = judge(predictions, references)
    found = prepared.score(predictions)
    names = ['CIDEr', 'BLEU-1', 'BLEU-2', 'BLEU-3', 'BLEU-4']
    np.testing.assert_allclose([found[name] for name in names], np.multiply(100, corpus), atol=1e-9)
    cider_C, bleu = prepared.per_clip(predictions)
    np.testing.assert_allclose([cider_C, *bleu.scores().T], per_clip, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=150)
@given(st.lists(CLIP, min_size=1, max_size=6))
def test_equals_pycocoevalcap(clips):
    references, predictions = {}, {}
    for number, (caption, texts, has_empty) in enumerate(clips):
        references[f'clip{number}'] = texts + [''] * has_empty
        predictions[f'clip{number}'] = caption
    prepared = PreparedReferences(references)
    assert_equals_the_judge(prepared, predictions, references)
    # The second time must not remember words of the first.
    others = {clip: caption + ' 猫 new' for clip, caption in predictions.items()}
    assert_equals_the_judge(prepared, others, references)


def test_equals_pycocoevalcap_on_long_repetition():
    references = {'b': ['a b ' * 60, 'c'], 'a': ['a b a b'], 'c': ['a c b']}
    predictions = {'a': 'a b ' * 5000, 'b': 'b a ' * 40, 'c': ''}
    assert_equals_the_judge(PreparedReferences(references), predictions, references)


def test_every_ngram_has_its_own_number():
    captions = [['a', 'b', 'a', 'b'], [], ['b', 'a', 'b', 'c']]
    numbers = NgramNumbers(captions)
    assert numbers.num_grams == [3, 3, 3, 2]
    _, pairs, *_ = numbers.counts([*captions, ['b', 'a', 'c', 'c', 'c']])
    counts = {}
    for caption, gram, count in zip(pairs.caption_X, pairs.gram_X, pairs.count_X, strict=True):
        counts.setdefault(caption, {})[gram] = count
    a_b, b_a = sorted(counts[0], key=counts[0].get, reverse=True)
    assert counts[0] == {a_b: 2, b_a: 1}
    assert set(counts[2]) == {a_b, b_a, 3 - a_b - b_a}
    assert 1 not in counts
    known = {gram for gram in counts[3] if gram < numbers.num_grams[1]}
    assert known == {b_a}
    assert len(counts[3]) == 3
    assert sorted(counts[3].values()) == [1, 1, 2]


def test_references_without_words_are_refused():
    with pytest.raises(UserError, match="no references for clip 'b'"):
        PreparedReferences({'a': ['x'], 'b': ['', ' ']})
