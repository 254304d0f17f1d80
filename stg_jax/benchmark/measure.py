"""Time calls fairly and find the memory that a call takes."""

import concurrent.futures
import dataclasses
import importlib
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Spread:
    """What several measurements of one thing gave."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> 'Spread':
        """Return the spread of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclasses.dataclass(frozen=True)
class Peak:
    """What a call returned and the memory of the process that made it.

    Attributes:
      value: what the call returned.
      before_mb: most memory of the process before the call, with all libraries loaded.
      peak_mb: most memory of the process.
    """

    value: Any
    before_mb: float
    peak_mb: float


def seconds_in_turn(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Time calls in turn, so that a busy moment of the machine falls on all of them alike.

    Each is called once before anything is timed.

    Returns:
      For each call its seconds in every round.
    """
    seconds = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def rate(amount: float, seconds: list[float]) -> Spread:
    """Return how much was done per second."""
    return Spread.of([amount / each for each in seconds])


def ratio(seconds: list[float], others: list[float]) -> Spread:
    """Return how many times as fast one call was as another one, round by round."""
    return Spread.of([other / each for each, other in zip(seconds, others, strict=True)])


def apart(module: str, function: str, *args: Any) -> Peak:
    """Call a function in a process of its own, named so that this one need not import it."""
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measured, module, function, args).result()


def _measured(module: str, function: str, args: tuple) -> Peak:
    call = getattr(importlib.import_module(module), function)
    before = _peak_mb()
    value = call(*args)
    return Peak(value, before, _peak_mb())


def _peak_mb() -> float:
    status = Path('/proc/self/status')
    if not status.exists():
        unit = 1 if sys.platform == 'darwin' else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    # Not from getrusage: Linux counts there what the parent process held.
    fields = dict(line.split(':', 1) for line in status.read_text().splitlines())
    return int(fields['VmHWM'].split()[0]) * 1024 / 1e6
