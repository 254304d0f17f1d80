"""METEOR of sums of clips, from the counts that its program reports.

Counts of clips add up, so that METEOR of a corpus is that of the sum of its clips' counts. A row of
counts is: words of the caption and of the reference, function words of both; for each of the four
kinds of match the content words of both and the function words of both; chunks, matched words of
both.
"""

from collections.abc import Iterable

import numpy as np

# Of METEOR 1.5 for English (Denkowski and Lavie, 2014).
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_WEIGHT_M = np.array([1.0, 0.6, 0.8, 0.6])  # of exact, stem, synonym and paraphrase matches


def counts_of_clips(reports: Iterable[str]) -> np.ndarray:
    """Return what METEOR reported of each clip, ready to be added up: float64 (X, 23)."""
    count_X23 = np.array([report.split() for report in reports], np.float64)
    # A caption that equals its reference is not fragmented at all: METEOR adds no chunk for it.
    is_equal_X = (count_X23[:, 21:] == count_X23[:, :2]).all(axis=1) & (count_X23[:, 20] == 1)
    count_X23[is_equal_X, 20] = 0
    return count_X23


def meteor_of_counts(count_X23: np.ndarray) -> np.ndarray:
    """Return METEOR in [0, 1] of each row of counts of clips or of their sums."""
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
