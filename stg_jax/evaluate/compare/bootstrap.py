"""The bootstrap over clips and seeds: is a difference more than the choice of these?

Clips are drawn with replacement many times, the same ones for both systems (Koehn, 2004), and with
them, for each system by itself, seeds. BLEU and METEOR are recomputed from the counts of the drawn
clips; the other scores are means over clips.
"""

import dataclasses
from collections.abc import Iterator, Sequence

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
    """Compute the difference of `other` to `base` in each metric, on the same clips.

    With a single seed of a system, the interval holds for the networks at hand, not for new ones.
    """
    # The observed difference is that of the sample with every clip and seed once.
    observed = _differences(
        *(each.resampled(np.ones((1, len(base.clips)))) for each in (base, other))
    )
    sampled = (_differences(*pair) for pair in _samples((base, other), rounds, seed))
    samples = _joined(list(sampled))
    return {name: _difference(float(x_1[0]), samples[name]) for name, x_1 in observed.items()}


def intervals(system: System, *, rounds: int, seed: int) -> dict[str, tuple[float, float]]:
    """Compute the 95 % interval of each score of a system, over the choice of clips and seeds."""
    samples = _joined([scores for (scores,) in _samples((system,), rounds, seed)])
    return {name: _interval(sample_Y) for name, sample_Y in samples.items()}


def _samples(
    systems: Sequence[System], rounds: int, seed: int
) -> Iterator[list[dict[str, np.ndarray]]]:
    """Yield the scores of each system on samples of the clips, and of the seeds of each."""
    rng = np.random.default_rng(seed)
    for start in range(0, rounds, _AT_ONCE):
        size = min(_AT_ONCE, rounds - start)
        weight_YC = _draw(rng, len(systems[0].clips), size)
        yield [each.resampled(weight_YC, _draw(rng, len(each.results), size)) for each in systems]


def _draw(rng: np.random.Generator, number: int, size: int) -> np.ndarray:
    """Draw rows of how many times each of `number` things is drawn in `number` draws."""
    # The counts of a draw with replacement are multinomial; no list of clips is ever built.
    weight_YX = rng.multinomial(number, np.full(number, 1 / number), size=size)
    return weight_YX.astype(np.float64)  # BLAS only multiplies floats


def _joined(samples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([each[name] for each in samples]) for name in samples[0]}


def _differences(
    theirs: dict[str, np.ndarray], ours: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return {name: ours[name] - theirs[name] for name in theirs}


def _interval(sample_Y: np.ndarray) -> tuple[float, float]:
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(sample_Y, [tail, 100 - tail])
    return float(low), float(high)


def _difference(value: float, sample_Y: np.ndarray) -> Difference:
    low, high = _interval(sample_Y)
    # Add one to both counts, so that p is never 0: no number of samples proves that a sign never
    # occurs.
    sides = [(np.sum(sample_Y <= 0) + 1), (np.sum(sample_Y >= 0) + 1)]
    p = min(1.0, 2 * min(sides) / (len(sample_Y) + 1))
    return Difference(value, low, high, float(p))
