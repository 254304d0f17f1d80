"""The standard deviation of numbers that stream by."""

import numpy as np


class Spread:
    """Count, sum and sum of squares in float64, kept while values come and go."""

    def __init__(self):
        self._sums = np.zeros(3)

    def add(self, values: np.ndarray) -> None:
        """Take in every entry of `values`."""
        values = values.astype(np.float64)
        self._sums += values.size, values.sum(), np.square(values).sum()

    def deviation(self) -> float:
        """Return the standard deviation, or 1 where nothing varies: features are divided by it."""
        count, total, squares = self._sums
        variance = squares / count - (total / count) ** 2 if count else 0.0
        return float(np.sqrt(variance)) if variance > 0 else 1.0
