"""Run a compiled function over any number of rows in batches of one shape."""

from collections.abc import Callable, Sequence

import numpy as np


def in_batches(
    fn: Callable[..., np.ndarray], columns: Sequence[np.ndarray], batch_size: int
) -> np.ndarray:
    """Return `fn(*columns)` for columns of R rows each, called on `batch_size` rows at a time.

    The last batch repeats its last row, so that `fn` is compiled once and what it returns for a
    row does not depend on how many there are.
    """
    num_rows = len(columns[0])
    parts = []
    for start in range(0, num_rows, batch_size):
        index = np.minimum(np.arange(start, start + batch_size), num_rows - 1)
        part = np.asarray(fn(*(column[index] for column in columns)))
        parts.append(part[: num_rows - start])
    return np.concatenate(parts)
