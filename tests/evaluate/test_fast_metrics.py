"""Scores from references counted once, against pycocoevalcap, which counts them every time."""

import collections
import itertools

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


def grams(text, order):
    words = text.split()
    return collections.Counter(zip(*(words[i:] for i in range(order)), strict=False))


def similarity(caption, reference, references, order):
    """Return CIDEr-D of one order between two captions, as its paper defines it."""
    frequency = collections.Counter(
        gram
        for texts in references.values()
        for gram in {g for t in texts for g in grams(t, order)}
    )

    def weights(text):
        return {
            gram: count * np.log(len(references) / max(1, frequency[gram]))
            for gram, count in grams(text, order).items()
        }

    ours, theirs = weights(caption), weights(reference)
    product = sum(min(ours[gram], theirs.get(gram, 0)) * theirs.get(gram, 0) for gram in ours)
    norm = np.sqrt(sum(x**2 for x in ours.values()) * sum(x**2 for x in theirs.values()))
    apart = max(len(caption.split()) - 1, 0) - max(len(reference.split()) - 1, 0)
    return 10 * product / norm * np.exp(-(apart**2) / 72) if norm else 0.0


REFERENCES = {
    'a': ['a man runs fast', 'a man runs', 'the dog barks', 'a man runs'],
    'b': ['a dog barks', 'the dog barks loudly at a man'],
    'c': ['one caption alone'],
    'd': ['a', 'a man runs fast in the rain'],
}


def test_a_caption_left_out_is_compared_with_the_others_of_its_clip():
    found = PreparedReferences(REFERENCES).leave_one_out()
    assert np.isnan(found.pop('c')).all()
    for clip, scores in found.items():
        for number, score in enumerate(scores):
            caption, others = REFERENCES[clip][number], list(REFERENCES[clip])
            del others[number]
            each = [
                similarity(caption, other, REFERENCES, order)
                for other, order in itertools.product(others, range(1, 5))
            ]
            assert score == pytest.approx(sum(each) / 4 / len(others), abs=1e-9)
    assert found['a'][1] > found['a'][2]


def test_many_captions_of_a_clip_score_as_they_do_alone():
    prepared = PreparedReferences(REFERENCES)
    texts = ['a man barks', 'the dog barks', '', 'a cat']
    alone = [prepared.per_clip(dict.fromkeys('abcd', text))[0] for text in texts]
    found = prepared.cider([*'dcba' * 4], [text for text in texts for _ in range(4)])
    np.testing.assert_allclose(found, np.concatenate([each[::-1] for each in alone]))
