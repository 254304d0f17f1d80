"""Signals that arrive while Python collects garbage, where exceptions are thrown away."""

import subprocess
import sys

import pytest

from tests.fakes import fake_run

COMMAND = """
import contextlib, gc, os, signal, time
from stg_jax.cli import app
from stg_jax.cli.signals import exit_on_sigterm

def signal_once(phase, info):
    gc.callbacks.remove(signal_once)
    os.kill(os.getpid(), signal.{name})
    time.sleep(1)

def main(args):
    if {interrupts}:
        signal.signal(signal.{name}, signal.default_int_handler)
    with contextlib.nullcontext() if {interrupts} else exit_on_sigterm():
        gc.callbacks.append(signal_once)
        gc.collect()
        time.sleep(30)

app.run(main)
"""


@pytest.mark.parametrize(
    ('name', 'interrupts', 'exit_code'),
    [('SIGINT', True, 130), ('SIGTERM', True, 130), ('SIGTERM', False, 143)],
)
def test_a_signal_that_meets_the_garbage_collector_ends_the_command(name, interrupts, exit_code):
    ended = subprocess.run(
        [sys.executable, '-c', COMMAND.format(name=name, interrupts=interrupts)],
        cwd=fake_run.ROOT,
        env=fake_run.environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == exit_code, ended.stderr
    assert 'Traceback' not in ended.stderr


OF_A_FINALIZER = """
from stg_jax.cli import signals
signals.resend_lost_signals()

class Fails:
    def __del__(self):
        raise ValueError('of a finalizer')

Fails()
"""


def test_other_exceptions_are_printed_as_ever():
    ended = subprocess.run(
        [sys.executable, '-c', OF_A_FINALIZER],
        cwd=fake_run.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert 'ValueError: of a finalizer' in ended.stderr


LATE_WRITE = """
from stg_jax.cli import signals
signals.resend_lost_signals()

class Late:
    def __del__(self):
        raise RuntimeError('Event loop is closed')

Late()
"""


def test_writes_that_end_after_a_failed_save_are_not_printed():
    ended = subprocess.run(
        [sys.executable, '-c', LATE_WRITE],
        cwd=fake_run.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stderr == ''
