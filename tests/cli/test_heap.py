"""What a process keeps of the memory that it freed."""

import ctypes
import subprocess
import sys

import pytest

from tests.fakes.fake_run import ROOT

_TAKE_AND_FREE = """
import resource, threading
import numpy as np
from stg_jax.cli import heap
{keep}

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(100_000_000, np.int8)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

faults = []
for _ in range(3):
    thread = threading.Thread(target=page_faults)  # XLA works in threads
    thread.start()
    thread.join()
print(faults[-1])
"""


def faults_of_100_mb(keep):
    command = [sys.executable, '-c', _TAKE_AND_FREE.format(keep=keep)]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallopt'), reason='not the C library of GNU')
def test_memory_that_was_freed_is_used_again_without_asking_the_kernel():
    assert faults_of_100_mb('heap.keep_freed_memory()') < 100 < faults_of_100_mb('')
