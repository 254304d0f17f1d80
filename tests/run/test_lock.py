"""Only one training at a time holds a run folder."""

import os
import signal
import subprocess
import sys

import pytest

from stg_jax.errors import UserError
from stg_jax.run.folder import lock_run
from tests.fakes.fake_run import ROOT, environment

_HOLD = """
import sys, time
from stg_jax.run.folder import lock_run
with lock_run(sys.argv[1]):
    print('held', flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Return a process that holds the lock of tmp_path/run."""
    command = [sys.executable, '-c', _HOLD, str(tmp_path / 'run')]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()
    process.wait()


def test_a_second_training_is_refused_and_the_first_named(tmp_path, other):
    with (
        pytest.raises(UserError, match=rf'run is in use: process {other.pid} on .* trains in it'),
        lock_run(tmp_path / 'run'),
    ):
        raise AssertionError('locked twice')


def test_a_killed_training_leaves_no_lock(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    with lock_run(tmp_path / 'run'):
        text = (tmp_path / 'run' / 'training.lock').read_text()
    assert f'"pid": {os.getpid()}' in text
    with lock_run(tmp_path / 'run'):
        pass


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'run').write_text('mine')
    with pytest.raises(UserError, match=r'run cannot be written'), lock_run(tmp_path / 'run'):
        raise AssertionError('locked a file')
