"""How long each stage of captioning a video takes."""

import contextlib
import time
from collections.abc import Iterator


class Stages:
    """Adds up the seconds of named stages.

    Attributes:
      seconds: by stage, in the order in which they first started.
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the duration of a block to a stage, unless the block fails."""
        # Not time.time, which goes back when the clock of the machine is set.
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
