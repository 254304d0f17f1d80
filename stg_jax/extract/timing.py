"""How long each stage takes."""

import contextlib
import time
from collections.abc import Iterator


class Stages:
    """Adds up the seconds of named stages.

    Attributes:
      seconds: by stage, in the order of their first start.
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time of a block; one that fails is not counted."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
