"""Whether two systems differ by more than the choice of clips: the paired bootstrap (Koehn, 2004).

The same clips are drawn for both, with replacement, again and again. BLEU and METEOR are computed
anew from the counts of the drawn clips; the other scores are means over clips.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from stg_jax.evaluate.compare.systems import System

CONFIDENCE = 95  # percent
_AT_ONCE = 500  # samples, to bound the memory


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much one system is ahead of another in one metric.

    Attributes:
      value: on the clips as they are.
      low: lower end of the 95 % interval.
      high: upper end.
      p: two-sided, the chance of a difference so far from zero if there was none.
    """

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    base: System, other: System, *, rounds: int, seed: int
) -> dict[str, Difference]:
    """Return how much `other` is ahead of `base`, by metric; the clips must be the same."""
    num_clips = len(base.clips)
    once_1C = np.ones((1, num_clips))
    observed = _ahead(base, other, once_1C)
    samples = [_ahead(base, other, weight_YC) for weight_YC in _draws(num_clips, rounds, seed)]
    return {
        name: _difference(float(value_1[0]), np.concatenate([each[name] for each in samples]))
        for name, value_1 in observed.items()
    }


def _draws(num_clips: int, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """Yield rows of how often each clip is drawn in num_clips draws."""
    rng = np.random.default_rng(seed)
    even_C = np.full(num_clips, 1 / num_clips)
    for start in range(0, rounds, _AT_ONCE):
        weight_YC = rng.multinomial(num_clips, even_C, size=min(_AT_ONCE, rounds - start))
        yield weight_YC.astype(np.float64)  # BLAS multiplies floats only


def _ahead(base: System, other: System, weight_YC: np.ndarray) -> dict[str, np.ndarray]:
    theirs, ours = base.resampled(weight_YC), other.resampled(weight_YC)
    return {name: ours[name] - theirs[name] for name in theirs}


def _difference(value: float, sample_Y: np.ndarray) -> Difference:
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(sample_Y, [tail, 100 - tail])
    # One more in both counts: no number of samples proves that something never happens.
    sides = [(np.sum(sample_Y <= 0) + 1), (np.sum(sample_Y >= 0) + 1)]
    p = min(1.0, 2 * min(sides) / (len(sample_Y) + 1))
    return Difference(value, float(low), float(high), float(p))
