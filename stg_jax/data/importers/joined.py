"""Several files as one source, for features that are kept in a file per split."""

from collections.abc import Sequence

import numpy as np

from stg_jax.data.importers.sources import Closing, FrameSource, Objects, ObjectSource
from stg_jax.errors import UserError


class Joined(Closing):
    """The clips of all `sources`, each read from the one that holds it.

    Raises:
      UserError: two hold the same clip, or features of another width.
    """

    def __init__(self, path: str, sources: Sequence[FrameSource] | Sequence[ObjectSource]):
        self.path = path
        self.family = sources[0].family
        self.width = sources[0].width
        self.warnings = list(
            dict.fromkeys(sentence for source in sources for sentence in source.warnings)
        )
        self._sources = sources
        self._holder: dict[str, FrameSource | ObjectSource] = {}
        for source in sources:
            if source.width != self.width:
                raise UserError(
                    f'{sources[0].path} is {self.width} wide and {source.path} {source.width}: '
                    'join files of one network only'
                )
            for key in source.keys:
                if key in self._holder:
                    raise UserError(f'{self._holder[key].path} and {source.path} both hold {key}')
                self._holder[key] = source
        self.keys = list(self._holder)

    def read(self, key: str) -> np.ndarray | Objects:
        """Return what the file that holds the clip says of it."""
        if key not in self._holder:
            raise UserError(f'{self.path}: {key} does not exist: choose another clip or file')
        return self._holder[key].read(key)

    def close(self) -> None:
        """Close all files."""
        for source in self._sources:
            source.close()
