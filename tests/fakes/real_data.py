"""Real annotations, features, videos and detectors, which the repository does not contain."""

import os
from pathlib import Path

import pytest

VARIABLE = 'STG_JAX_REAL_DATA'


def real_data(*parts):
    """Return the path of a file or folder of real data; skip the test if it is absent."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f'{VARIABLE} is not set')
    path = Path(folder, *parts).absolute()
    if not path.exists():
        pytest.skip(f'{VARIABLE} has no {Path(*parts)}')
    return path
