"""Fast BLEU and CIDEr for repeated scoring of one split: n-grams of references are counted once.

Validation scores the same split after every epoch, in milliseconds. The scores are those of
pycocoevalcap up to rounding, on tokens separated by spaces. Its CIDEr is CIDEr-D (Vedantam, Zitnick
and Parikh, 2015): counts are clipped, and a Gaussian of the difference in length, which
pycocoevalcap counts in bigrams, penalizes repetition.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from stg_jax.evaluate.metrics import check_references, in_order_of
from stg_jax.evaluate.summable import BleuCounts

MAX_ORDER = 4
# A pair of numbers as one int64 key: NumPy sorts and searches such keys without Python loops.
_HALF = 32  # bits
_NO_KEY = np.iinfo(np.int64).max


def pair(high_X: np.ndarray, low_X: np.ndarray) -> np.ndarray:
    """Pack two numbers below 2**31 into one int64; keys sort by the first, then the second."""
    return (high_X << _HALF) | low_X


def unpair(key_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unpack the two numbers of each key."""
    return key_X >> _HALF, key_X & (2**_HALF - 1)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Occurrences of n-grams of one order in captions, sorted by caption, then n-gram.

    Attributes:
      caption_X: index of the caption.
      gram_X: number of the n-gram.
      count_X: occurrences, at least one.
    """

    caption_X: np.ndarray
    gram_X: np.ndarray
    count_X: np.ndarray


class NgramNumbers:
    """A numbering of the n-grams of some captions, to look up those of other captions.

    Attributes:
      num_grams: the number of distinct n-grams of each order; known n-grams have smaller numbers.
    """

    def __init__(self, captions: Sequence[Sequence[str]]):
        # The number of a word is also that of its 1-gram.
        words = dict.fromkeys(word for caption in captions for word in caption)
        self._word_numbers = {word: number for number, word in enumerate(words)}
        self._known_keys = []
        word_X, caption_X = self._flatten(captions)
        gram_X = word_X
        for order in range(2, MAX_ORDER + 1):
            key_X, start_X = _keys(gram_X, word_X, caption_X, order)
            # A sentinel above all keys, so that searchsorted never returns the end of the array.
            self._known_keys.append(np.append(np.unique(key_X), _NO_KEY))
            gram_X = np.zeros_like(word_X)
            gram_X[start_X] = np.searchsorted(self._known_keys[-1], key_X)
        self.num_grams = [len(words), *(len(keys) - 1 for keys in self._known_keys)]

    def counts(self, captions: Sequence[Sequence[str]]) -> Iterator[Counts]:
        """Yield the counts of orders 1 to 4; unknown n-grams get numbers after the known ones."""
        word_X, caption_X = self._flatten(captions)
        yield _count(caption_X, word_X)
        gram_X = word_X
        for order, known in enumerate(self._known_keys, 2):
            key_X, start_X = _keys(gram_X, word_X, caption_X, order)
            gram_X = np.zeros_like(word_X)
            gram_X[start_X] = _find(key_X, known)
            yield _count(caption_X[start_X], gram_X[start_X])

    def _flatten(self, captions: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Concatenate captions: the number of each word, and the index of its caption."""
        known, new = self._word_numbers, {}
        numbers = [
            known[word] if word in known else new.setdefault(word, len(known) + len(new))
            for caption in captions
            for word in caption
        ]
        lengths = [len(caption) for caption in captions]
        return np.array(numbers, np.int64), np.repeat(np.arange(len(captions)), lengths)


def _keys(
    gram_X: np.ndarray, word_X: np.ndarray, caption_X: np.ndarray, order: int
) -> tuple[np.ndarray, np.ndarray]:
    """Build the keys of the n-grams of a text, and the positions where they start.

    An n-gram is the (n - 1)-gram at its start and one more word, so that a pair of numbers is
    enough for any n.

    Args:
      gram_X: number of the n-gram of order - 1 that starts at each word.
      word_X: number of each word.
      caption_X: index of the caption of each word.
      order: n.
    """
    last = order - 1
    start_X = np.flatnonzero(caption_X[last:] == caption_X[: max(0, len(caption_X) - last)])
    return pair(gram_X[start_X], word_X[start_X + last]), start_X


def _find(key_X: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Look up keys among the sorted known ones; unknown keys get new numbers after them."""
    place_X = np.searchsorted(known, key_X)
    new_X = known[place_X] != key_X
    # Equal unknown keys must get equal numbers, because their counts are added up.
    place_X[new_X] = len(known) + np.unique(key_X[new_X], return_inverse=True)[1]
    return place_X


def _count(caption_X: np.ndarray, gram_X: np.ndarray) -> Counts:
    key_Y, count_Y = np.unique(pair(caption_X, gram_X), return_counts=True)
    return Counts(*unpair(key_Y), count_Y)


# pycocoevalcap's constants.
_SIGMA = 6.0  # of the Gaussian over lengths
_SCALE = 10.0  # of CIDEr
_AT_ONCE = 8192  # references compared at once, to bound the memory


@dataclasses.dataclass(frozen=True)
class _Order:
    """The references' n-grams of one order.

    A pair (P) is a clip and an n-gram of its references. It has one entry (E) for every reference
    that contains the n-gram; the entries of a pair are contiguous.
    """

    key_P: np.ndarray  # pairs, sorted
    first_P: np.ndarray  # where the entries of a pair begin; the last value is their number
    most_P: np.ndarray  # the most occurrences in any one reference
    idf_G: np.ndarray  # of the known n-grams
    reference_E: np.ndarray  # entries: index of the reference
    weight_E: np.ndarray  # entries: occurrences times idf
    norm_R: np.ndarray  # of each reference's weights

    def idf(self, gram_X: np.ndarray, unknown: float) -> np.ndarray:
        """Look up the idf of n-grams; `unknown` for those that no reference contains."""
        return np.append(self.idf_G, unknown)[np.minimum(gram_X, len(self.idf_G))]

    def find(self, counts: Counts, clip_H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the n-grams that a reference of a caption's clip contains, and their pairs."""
        key_X = pair(clip_H[counts.caption_X], counts.gram_X)
        place_X = np.searchsorted(self.key_P, key_X)
        match_X = self.key_P[place_X] == key_X
        return match_X, place_X[match_X]


class PreparedReferences:
    """The references of a split, prepared to score captions of its clips in milliseconds."""

    def __init__(self, references: Mapping[str, Sequence[str]]):
        """Count the n-grams of tokenized references, one or more for each clip.

        Raises:
          UserError: there are no clips, or a clip has no reference.
        """
        check_references(references)
        self._clips = sorted(references)
        self._index = {clip: number for number, clip in enumerate(self._clips)}
        grouped = [references[clip] for clip in self._clips]
        self._num_references_C = np.array([len(group) for group in grouped])
        self._first_C = np.cumsum(self._num_references_C) - self._num_references_C
        self._references = [caption for group in grouped for caption in group]
        captions = [caption.split() for caption in self._references]
        self._length_R = np.array([len(words) for words in captions])
        self._numbers = NgramNumbers(captions)
        # References of all clips in one flat list; `clip_R` leads back to the clips.
        clip_R = np.repeat(np.arange(len(grouped)), self._num_references_C)
        self._orders = [
            _prepare(counts, num_grams, clip_R)
            for counts, num_grams in zip(
                self._numbers.counts(captions), self._numbers.num_grams, strict=True
            )
        ]

    def score(self, predictions: Mapping[str, str]) -> dict[str, float]:
        """Compute BLEU-1 to BLEU-4 and CIDEr of tokenized captions of the clips, times 100.

        Raises:
          UserError: the clips are not those of the references.
        """
        # CIDEr of a corpus is the mean over clips; BLEU follows from summed counts.
        cider_C, bleu = self.per_clip(predictions)
        (bleu_4,) = 100 * bleu.total().scores()
        scores = {f'BLEU-{n}': float(value) for n, value in enumerate(bleu_4, 1)}
        return scores | {'CIDEr': 100 * float(cider_C.mean())}

    def per_clip(self, predictions: Mapping[str, str]) -> tuple[np.ndarray, BleuCounts]:
        """Compute CIDEr (in [0, 10]) and the counts of BLEU for each clip, sorted by id.

        Raises:
          UserError: the clips are not those of the references.
        """
        texts = in_order_of(self._clips, predictions)
        length_C = np.array([len(text.split()) for text in texts])
        cider_C, correct_C4 = self._compare_all(np.arange(len(texts)), texts)
        # A caption of n words has n - k + 1 n-grams of order k.
        guess_C4 = np.maximum(length_C[:, None] - np.arange(MAX_ORDER), 0)
        return cider_C, BleuCounts(correct_C4, guess_C4, length_C, self._closest(length_C))

    def cider(self, clips: Sequence[str], captions: Sequence[str]) -> np.ndarray:
        """Compute CIDEr (in [0, 10]) of any number of tokenized captions of any of the clips."""
        return self._compare_all(np.array([self._index[clip] for clip in clips]), captions)[0]

    def leave_one_out(self) -> dict[str, np.ndarray]:
        """Compute CIDEr (in [0, 10]) of each reference against the others of its clip.

        Document frequencies count every reference. The only reference of a clip scores NaN.
        """
        clip_R = np.repeat(np.arange(len(self._clips)), self._num_references_C)
        parts = [slice(r, r + _AT_ONCE) for r in range(0, len(clip_R), _AT_ONCE)]
        # CIDEr is a mean over references, of which the caption itself can be taken back out: its
        # similarity to itself is 1 in every order in which an n-gram of it has any weight.
        mean_R = np.concatenate(
            [self._compare_all(clip_R[part], self._references[part])[0] for part in parts]
        )
        self_R = _SCALE / MAX_ORDER * sum((order.norm_R > 0) for order in self._orders)
        size_R = self._num_references_C[clip_R]
        with np.errstate(invalid='ignore'):
            others_R = np.where(size_R > 1, (size_R * mean_R - self_R) / (size_R - 1), np.nan)
        others_R = np.maximum(others_R, 0)  # of rounding errors
        return dict(zip(self._clips, np.split(others_R, self._first_C[1:]), strict=True))

    def _compare_all(
        self, clip_H: np.ndarray, texts: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute CIDEr (H,) and BLEU's matches (H, 4) of captions of clips."""
        captions = [text.split() for text in texts]
        length_H = np.array([len(words) for words in captions])
        cider_H = np.zeros(len(captions))
        correct_H4 = np.zeros((len(captions), MAX_ORDER), np.int64)
        for n, counts in enumerate(self._numbers.counts(captions)):
            found = self._compare(self._orders[n], counts, length_H, clip_H)
            cider_H += found[0]
            correct_H4[:, n] = found[1]
        return _SCALE / MAX_ORDER * cider_H / self._num_references_C[clip_H], correct_H4

    def _compare(
        self, order: _Order, counts: Counts, length_H: np.ndarray, clip_H: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute CIDEr's similarity, summed over references, and BLEU's matches of captions H."""
        num_captions = len(length_H)
        # pycocoevalcap gives an n-gram that no reference contains the document frequency 1, so its
        # idf is log(num_clips).
        idf_X = order.idf(counts.gram_X, np.log(len(self._clips)))
        weight_X = counts.count_X * idf_X
        norm_H = np.sqrt(np.bincount(counts.caption_X, weight_X**2, num_captions))
        match_X, place_M = order.find(counts, clip_H)
        caption_M = counts.caption_X[match_X]
        # BLEU clips a count at the most occurrences in any one reference.
        correct_M = np.minimum(counts.count_X[match_X], order.most_P[place_M])
        # One row for each reference that contains a matching n-gram.
        size_M = order.first_P[place_M + 1] - order.first_P[place_M]
        entry_E = _ranges(order.first_P[place_M], size_M)
        caption_E = np.repeat(caption_M, size_M)
        weight_E = np.repeat(weight_X[match_X], size_M)
        reference_E, theirs_E = order.reference_E[entry_E], order.weight_E[entry_E]
        # A norm is 0 where every n-gram of a caption is in all clips: each idf is then 0.
        norm_E = norm_H[caption_E] * order.norm_R[reference_E]
        # CIDEr-D clips the weight of the caption at that of the reference.
        cosine_E = np.minimum(weight_E, theirs_E) * theirs_E / np.where(norm_E > 0, norm_E, 1)
        apart_E = _bigrams(length_H[caption_E]) - _bigrams(self._length_R[reference_E])
        similarity_E = cosine_E * np.exp(-(apart_E**2) / (2 * _SIGMA**2))
        return (
            np.bincount(caption_E, similarity_E, num_captions),
            np.bincount(caption_M, correct_M, num_captions),
        )

    def _closest(self, length_C: np.ndarray) -> np.ndarray:
        """Length of the reference closest in length to each caption; of two, the shorter."""
        # Packed as (distance, length), the minimum is the closest and, of two, the shorter.
        apart_R = np.abs(self._length_R - np.repeat(length_C, self._num_references_C))
        return unpair(np.minimum.reduceat(pair(apart_R, self._length_R), self._first_C))[1]


def _prepare(counts: Counts, num_grams: int, clip_R: np.ndarray) -> _Order:
    clip_E = clip_R[counts.caption_X]
    key_E = pair(clip_E, counts.gram_X)
    # Sort once, so that scoring only needs searchsorted instead of dictionaries.
    by_key = np.argsort(key_E, kind='stable')
    key_P, first_P = np.unique(key_E[by_key], return_index=True)
    num_clips_G = np.bincount(unpair(key_P)[1], minlength=num_grams)
    idf_G = np.log(clip_R[-1] + 1) - np.log(np.maximum(1, num_clips_G))
    weight_E = counts.count_X * idf_G[counts.gram_X]
    most_P = np.maximum.reduceat(counts.count_X[by_key], first_P) if len(first_P) else first_P
    return _Order(
        # A sentinel, as in NgramNumbers.
        key_P=np.append(key_P, np.iinfo(np.int64).max),
        first_P=np.append(first_P, len(key_E)),
        most_P=most_P,
        idf_G=idf_G,
        reference_E=counts.caption_X[by_key],
        weight_E=weight_E[by_key],
        norm_R=np.sqrt(np.bincount(counts.caption_X, weight_E**2, len(clip_R))),
    )


def _bigrams(length_X: np.ndarray) -> np.ndarray:
    return np.maximum(length_X - 1, 0)


def _ranges(first_X: np.ndarray, size_X: np.ndarray) -> np.ndarray:
    """Concatenate ranges: first, first + 1, ... of each."""
    before_X = np.cumsum(size_X) - size_X
    return np.repeat(first_X - before_X, size_X) + np.arange(size_X.sum())
