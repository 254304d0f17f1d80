"""The n-grams of many captions at once, as numbers in NumPy arrays.

The key of an n-gram is the number of its first n - 1 words and that of its last word, so that each
order is found by one search in a sorted array.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

MAX_ORDER = 4
_HALF = 32  # bits
_NO_KEY = np.iinfo(np.int64).max


def pair(high_X: np.ndarray, low_X: np.ndarray) -> np.ndarray:
    """Return one int64 for two numbers below 2**31; keys sort by the first, then the second."""
    return (high_X << _HALF) | low_X


def unpair(key_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two numbers of each key."""
    return key_X >> _HALF, key_X & (2**_HALF - 1)


@dataclasses.dataclass(frozen=True)
class Counts:
    """How often captions hold n-grams of one order, sorted by caption, then n-gram.

    Attributes:
      caption_X: index of the caption.
      gram_X: number of the n-gram.
      count_X: occurrences, at least one.
    """

    caption_X: np.ndarray
    gram_X: np.ndarray
    count_X: np.ndarray


class NgramNumbers:
    """Number the n-grams of some captions, and find those of other captions among them.

    Attributes:
      num_grams: of each order, how many different n-grams there are; their numbers are smaller.
    """

    def __init__(self, captions: Sequence[Sequence[str]]):
        words = dict.fromkeys(word for caption in captions for word in caption)
        self._word_numbers = {word: number for number, word in enumerate(words)}
        self._known_keys = []
        word_X, caption_X = self._flatten(captions)
        gram_X = word_X
        for order in range(2, MAX_ORDER + 1):
            key_X, start_X = _keys(gram_X, word_X, caption_X, order)
            # A last key above all others: a search never ends outside of the array.
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
        """Return the number of each word of the text, and the caption that it stands in."""
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
    """Return the keys of the n-grams of a text and where they start.

    Args:
      gram_X: number of the n-gram of order - 1 that starts at each word.
      word_X: number of each word.
      caption_X: the caption that each word stands in.
      order: n.
    """
    last = order - 1
    start_X = np.flatnonzero(caption_X[last:] == caption_X[: max(0, len(caption_X) - last)])
    return pair(gram_X[start_X], word_X[start_X + last]), start_X


def _find(key_X: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the place of each key among the sorted known ones; others get numbers after them."""
    place_X = np.searchsorted(known, key_X)
    new_X = known[place_X] != key_X
    place_X[new_X] = len(known) + np.unique(key_X[new_X], return_inverse=True)[1]
    return place_X


def _count(caption_X: np.ndarray, gram_X: np.ndarray) -> Counts:
    key_Y, count_Y = np.unique(pair(caption_X, gram_X), return_counts=True)
    return Counts(*unpair(key_Y), count_Y)
