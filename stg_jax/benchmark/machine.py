"""What a benchmark ran on."""

import datetime
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

_PACKAGES = (
    'numpy',
    'jax',
    'jaxlib',
    'flax',
    'torch',
    'tensorflow',
    'tensorflow-datasets',
    'h5py',
    'av',
)


def describe() -> dict[str, object]:
    """Return processor, memory, versions, command and date, as JSON."""
    return {
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'command': ' '.join(sys.argv),
        'processor': _processor(),
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
