"""Time calls fairly, measure their memory, and report the results with the machine."""

import concurrent.futures
import dataclasses
import datetime
import importlib
import importlib.metadata
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

_Name = TypeVar('_Name', bound=Hashable)

# One measured part of a suite: its name under 'stage', and its figures.
Stage = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Summary:
    """Several measurements of one quantity."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Summary':
        """Summarise some values."""
        return cls(statistics.median(values), min(values), max(values))

    def as_json(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return dataclasses.asdict(self)


def time_interleaved(
    calls: Mapping[_Name, Callable[[], Any]], rounds: int
) -> dict[_Name, list[float]]:
    """Time calls one after another in every round, so that a busy moment slows all of them alike.

    Each is called once before anything is timed.

    Returns:
      For each call its seconds in every round.
    """
    seconds = {name: [] for name in calls}
    for call in calls.values():
        call()
    # Interleaved: on a shared machine the speed drifts by tens of percent within minutes, but
    # ratios within a round are stable.
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def rate(amount: float, seconds: Sequence[float]) -> Summary:
    """Compute the amount of work per second."""
    return Summary.of([amount / each for each in seconds])


def speedup(seconds: Sequence[float], others: Sequence[float]) -> Summary:
    """Compute how many times as fast one call was as another, round by round."""
    # The ratio of each round, not of the medians: both calls of a round saw the same machine.
    return Summary.of([other / each for each, other in zip(seconds, others, strict=True)])


@dataclasses.dataclass(frozen=True)
class Peak:
    """The result of a call, and the memory of the process that made it.

    Attributes:
      value: result of the call.
      before_mb: peak memory of the process before the call, with all libraries loaded.
      peak_mb: peak memory of the process.
    """

    value: Any
    before_mb: float
    peak_mb: float


def in_own_process(module: str, function: str, *args: Any) -> Peak:
    """Call a function in a new process; it is given by name so that this one need not import it."""
    context = multiprocessing.get_context('spawn')
    # Peak memory is a property of a process, so each measurement needs its own. spawn: a forked
    # process would start with the parent's peak.
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
    # Not from getrusage: Linux includes the memory of the parent process there.
    fields = dict(line.split(':', 1) for line in status.read_text().splitlines())
    return int(fields['VmHWM'].split()[0]) * 1024 / 1e6


# The table: columns in this order, where a stage has them.
_TITLES = {
    'clips_per_s': 'clips/s',
    'captions_per_s': 'captions/s',
    'to_first': 'x first',
    'ours_to_it': 'ours x it',
    'mb_per_s': 'MB/s',
    'frames_per_s': 'frames/s',
    'to_bare': 'x bare',
    'to_memmap': 'x memmap',
    'before_mb': 'MB before',
    'peak_mb': 'MB peak',
    'gflop': 'GFLOP/caption',
    'gflop_per_s': 'GFLOP/s',
    'of_ceiling': 'of matmul peak',
    'temp_mb': 'MB in a step',
    'banded_mb': 'MB banded',
    'to_dense': 'x dense',
    'mb_to_dense': 'dense MB / banded',
    'seconds': 's',
    'data_wait': 'waiting for data',
}


def table(stages: Sequence[Stage]) -> str:
    """Format a line for each stage: medians, with minimum and maximum in brackets."""
    columns = [key for key in _TITLES if any(key in stage for stage in stages)]
    rows = [['', *(_TITLES[key] for key in columns)]]
    rows += [[stage['stage'], *(_cell(stage.get(key)) for key in columns)] for stage in stages]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(_line(row, widths) for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return '-'
    if not isinstance(value, Mapping):
        return _number(value)
    if value['min'] == value['max']:
        return _number(value['median'])
    return f'{_number(value["median"])} [{_number(value["min"])}-{_number(value["max"])}]'


def _number(value: float) -> str:
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *cells = (
        cell.rjust(width) if i else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return '  '.join([name, *cells])


# Libraries whose versions change the figures.
_PACKAGES = (
    *('numpy', 'jax', 'jaxlib', 'flax', 'torch'),
    *('tensorflow', 'tensorflow-datasets', 'h5py', 'av'),
)


def describe_machine() -> dict[str, object]:
    """Return processor, memory, versions, command and date, as JSON."""
    return {
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'command': ' '.join(sys.argv),
        'processor': _processor(),
        # In a container the machine has more cores than the process may use.
        'cores': len(os.sched_getaffinity(0)),
        'memory_gb': os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9,
        'system': f'{platform.system()} {platform.machine()}',
        'versions': {'python': platform.python_version(), **_versions()},
    }


def _processor() -> str:
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    installed = {dist.name: dist.version for dist in importlib.metadata.distributions()}
    return {name: installed[name] for name in _PACKAGES if name in installed}
