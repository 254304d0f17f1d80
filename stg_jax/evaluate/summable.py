"""BLEU and METEOR of any set of clips, from counts of each clip that add up.

The score of a corpus follows from the sum of its clips' counts. The bootstrap relies on it: it
scores thousands of resampled test sets without running Java again.

METEOR's program reports 23 counts for a clip: words of the caption and of the reference; function
words of both; for each of the four kinds of match the content words of both and the function words
of both; chunks; matched words of both.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

# pycocoevalcap's constants against 0 / 0. They change scores of short corpora, so they must be
# the same here.
_SMALL, _TINY = 1e-9, 1e-15


@dataclasses.dataclass(frozen=True)
class BleuCounts:
    """The counts behind BLEU, of X clips or X corpora.

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
        """Parse the ten numbers of each clip, between spaces, in the order of the attributes."""
        count_XC = np.array([report.split() for report in reports], np.float64)
        return cls(count_XC[:, :4], count_XC[:, 4:8], count_XC[:, 8], count_XC[:, 9])

    def total(self, weight_YX: np.ndarray | None = None) -> 'BleuCounts':
        """Sum the clips with Y rows of weights; by default once with all weights 1."""
        if weight_YX is None:
            weight_YX = np.ones((1, len(self.length_X)))
        fields = (self.correct_X4, self.guess_X4, self.length_X, self.closest_X)
        return BleuCounts(*(weight_YX @ field for field in fields))

    def scores(self) -> np.ndarray:
        """Compute BLEU-1 to BLEU-4 of each clip or corpus, float64 (X, 4) in [0, 1]."""
        # Corpus BLEU: precisions of summed counts, their geometric mean, and a brevity penalty.
        precision_X4 = (self.correct_X4 + _TINY) / (self.guess_X4 + _SMALL)
        mean_X4 = np.cumprod(precision_X4, axis=1) ** (1 / np.arange(1, 5))
        ratio_X = (self.length_X + _TINY) / (self.closest_X + _SMALL)
        brevity_X = np.where(ratio_X < 1, np.exp(1 - 1 / ratio_X), 1.0)
        return mean_X4 * brevity_X[:, None]


# Of METEOR 1.5 for English (Denkowski and Lavie, 2014).
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_WEIGHT_M = np.array([1.0, 0.6, 0.8, 0.6])  # of exact, stem, synonym and paraphrase matches


def counts_of_clips(reports: Iterable[str]) -> np.ndarray:
    """Parse METEOR's counts of each clip, so that rows add up: float64 (X, 23)."""
    count_X23 = np.array([report.split() for report in reports], np.float64)
    # METEOR counts no chunk for a caption that equals its reference: it has no fragmentation.
    is_equal_X = (count_X23[:, 21:] == count_X23[:, :2]).all(axis=1) & (count_X23[:, 20] == 1)
    count_X23[is_equal_X, 20] = 0
    return count_X23


def meteor_of_counts(count_X23: np.ndarray) -> np.ndarray:
    """Compute METEOR in [0, 1] from each row of counts, of a clip or of a sum of clips."""
    # Denkowski and Lavie (2014): precision and recall weight content words by delta and matches by
    # their kind; alpha balances precision and recall; beta and gamma penalize fragmentation.
    words_X2, function_X2 = count_X23[:, :2], count_X23[:, 2:4]
    match_XM22 = count_X23[:, 4:20].reshape(-1, len(_WEIGHT_M), 2, 2)  # content or function, side
    weighted_X22 = np.einsum('M,XMCS->XCS', _WEIGHT_M, match_XM22)
    matched_X2 = _DELTA * weighted_X22[:, 0] + (1 - _DELTA) * weighted_X22[:, 1]
    all_X2 = _DELTA * (words_X2 - function_X2) + (1 - _DELTA) * function_X2
    share_X2 = matched_X2 / np.where(all_X2 > 0, all_X2, 1)
    precision_X, recall_X = share_X2.T
    mean_X = _ALPHA * precision_X + (1 - _ALPHA) * recall_X
    fmean_X = precision_X * recall_X / np.where(mean_X > 0, mean_X, 1)
    pairs_X = count_X23[:, 21:].mean(axis=1)
    fragments_X = count_X23[:, 20] / np.where(pairs_X > 0, pairs_X, 1)
    return fmean_X * (1 - _GAMMA * fragments_X**_BETA)
