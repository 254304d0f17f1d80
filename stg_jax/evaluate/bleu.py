"""BLEU as pycocoevalcap computes it, from counts of many clips at once.

Counts of clips add up, so that BLEU of a corpus is that of the sum of its clips' counts.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

# The constants of pycocoevalcap, which keep products and ratios away from 0 / 0.
_SMALL, _TINY = 1e-9, 1e-15


@dataclasses.dataclass(frozen=True)
class BleuCounts:
    """What BLEU is made of: of X clips, or of X corpora.

    Attributes:
      correct_X4: n-grams of the caption that its references hold, for n = 1 to 4.
      guess_X4: n-grams of the caption.
      length_X: words of the caption.
      closest_X: words of the reference closest in length; of two, the shorter.
    """

    correct_X4: np.ndarray
    guess_X4: np.ndarray
    length_X: np.ndarray
    closest_X: np.ndarray

    @classmethod
    def of_clips(cls, reports: Iterable[str]) -> 'BleuCounts':
        """Read the ten numbers of each clip, between spaces, in the order of the attributes."""
        count_XC = np.array([report.split() for report in reports], np.float64)
        return cls(count_XC[:, :4], count_XC[:, 4:8], count_XC[:, 8], count_XC[:, 9])

    def total(self, weight_YX: np.ndarray | None = None) -> 'BleuCounts':
        """Add up clips, each as often as each of Y rows of weights says; all once by default."""
        if weight_YX is None:
            weight_YX = np.ones((1, len(self.length_X)))
        fields = (self.correct_X4, self.guess_X4, self.length_X, self.closest_X)
        return BleuCounts(*(weight_YX @ field for field in fields))

    def scores(self) -> np.ndarray:
        """Return BLEU-1 to BLEU-4 of each clip or corpus, float64 (X, 4) in [0, 1]."""
        precision_X4 = (self.correct_X4 + _TINY) / (self.guess_X4 + _SMALL)
        mean_X4 = np.cumprod(precision_X4, axis=1) ** (1 / np.arange(1, 5))
        ratio_X = (self.length_X + _TINY) / (self.closest_X + _SMALL)
        brevity_X = np.where(ratio_X < 1, np.exp(1 - 1 / ratio_X), 1.0)
        return mean_X4 * brevity_X[:, None]
