"""The paired bootstrap over clips (Koehn, 2004): is a difference more than the choice of clips?

Clips are drawn with replacement many times, the same ones for both systems. BLEU and METEOR are
recomputed from the counts of the drawn clips; the other scores are means over clips.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from stg_jax.evaluate.compare.systems import System

CONFIDENCE = 95  # percent
_AT_ONCE = 500  # samples scored at once, to bound the memory


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of two systems in one metric, positive if the second is better.

    Attributes:
      value: the difference on the clips as they are.
      low: lower end of the 95 % interval.
      high: upper end.
      p: two-sided p-value of no difference.
    """

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    base: System, other: System, *, rounds: int, seed: int
) -> dict[str, Difference]:
    """Compute the difference of `other` to `base` in each metric, on the same clips."""
    num_clips = len(base.clips)
    once_1C = np.ones((1, num_clips))
    # The observed difference is that of the sample with every clip once.
    observed = _differences(base, other, once_1C)
    samples = [
        _differences(base, other, weight_YC) for weight_YC in _draws(num_clips, rounds, seed)
    ]
    return {
        name: _difference(float(value_1[0]), np.concatenate([each[name] for each in samples]))
        for name, value_1 in observed.items()
    }


def intervals(system: System, *, rounds: int, seed: int) -> dict[str, tuple[float, float]]:
    """Compute the 95 % interval of each score of one system, over the choice of clips."""
    samples = [system.resampled(weight) for weight in _draws(len(system.clips), rounds, seed)]
    tail = (100 - CONFIDENCE) / 2
    found = {}
    for name in samples[0]:
        low, high = np.percentile(np.concatenate([x[name] for x in samples]), [tail, 100 - tail])
        found[name] = float(low), float(high)
    return found


def _draws(num_clips: int, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """Yield rows of how many times each clip is drawn in `num_clips` draws."""
    # The counts of a draw with replacement are multinomial; no list of clips is ever built.
    rng = np.random.default_rng(seed)
    even_C = np.full(num_clips, 1 / num_clips)
    for start in range(0, rounds, _AT_ONCE):
        weight_YC = rng.multinomial(num_clips, even_C, size=min(_AT_ONCE, rounds - start))
        yield weight_YC.astype(np.float64)  # BLAS only multiplies floats


def _differences(base: System, other: System, weight_YC: np.ndarray) -> dict[str, np.ndarray]:
    theirs, ours = base.resampled(weight_YC), other.resampled(weight_YC)
    return {name: ours[name] - theirs[name] for name in theirs}


def _difference(value: float, sample_Y: np.ndarray) -> Difference:
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(sample_Y, [tail, 100 - tail])
    # Add one to both counts, so that p is never 0: no number of samples proves that a sign never
    # occurs.
    sides = [(np.sum(sample_Y <= 0) + 1), (np.sum(sample_Y >= 0) + 1)]
    p = min(1.0, 2 * min(sides) / (len(sample_Y) + 1))
    return Difference(value, float(low), float(high), float(p))
