"""Some columns of a source, for files in which the outputs of several networks lie side by side."""

import numpy as np

from stg_jax.data.importers.sources import Closing, FrameSource
from stg_jax.errors import UserError


class Columns(Closing):
    """The features `start` to `stop` (exclusive) of every step of another source."""

    def __init__(self, source: FrameSource, start: int, stop: int):
        if not 0 <= start < stop <= source.width:
            raise UserError(
                f'{source.path} has columns 0-{source.width}, which do not hold {start}-{stop}'
            )
        self._source = source
        self._columns = slice(start, stop)
        self.path = source.path
        self.family = source.family
        self.keys = source.keys
        self.width = stop - start
        self.warnings = source.warnings

    def read(self, key: str) -> np.ndarray:
        """Return (S, D) float32 features of a clip, see `FrameSource`."""
        return self._source.read(key)[:, self._columns]

    def close(self) -> None:
        """Close the file."""
        self._source.close()
