"""Kill processes of a pod at random moments of its work."""

import random
import signal
import threading
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGKILL)
_LONGEST_DELAY = 0.4  # seconds after a line; a tiny network takes some steps and saves in that time
_MOST_LINES = 4


class Killer:
    """Send one signal to one process, some lines of its log and a moment after the start.

    A line is that of a step, after which come more steps or a validation, or that of an epoch,
    after which its checkpoint is written.
    """

    def __init__(self, job_size: int, seed: int):
        rng = random.Random(seed)
        self._victim = rng.randrange(job_size)
        self._signal = rng.choice(_SIGNALS)
        self._start = rng.choice(['step ', 'epoch '])
        self._lines_left = rng.randint(1, _MOST_LINES) if self._start == 'step ' else 1
        self._delay = rng.uniform(0, _LONGEST_DELAY)
        self._timer: threading.Timer | None = None
        self.last_line = ''
        self.done = ''

    def watch(self, job: Any, number: int, line: str) -> None:
        """Look at a line of a process; start the countdown at the chosen one."""
        if number != 0:
            return
        self.last_line = line
        if self._timer or not line.startswith(self._start):
            return
        self._lines_left -= 1
        if self._lines_left == 0:
            self._timer = threading.Timer(self._delay, self._kill, [job])
            self._timer.start()

    def cancel(self) -> None:
        """Spare the victim if it still lives."""
        if self._timer:
            self._timer.cancel()

    def _kill(self, job: Any) -> None:
        self.done = f'{self._signal.name} to process {self._victim} after {self.last_line!r}'
        job.send(self._victim, self._signal)
