"""Stop a command at random moments, in each way that machines do, until it has ended by itself."""

import contextlib
import os
import random
import signal
import subprocess
import time

from tests.fakes import fake_run

_FULL = 'full disk'
_WAYS = (signal.SIGTERM, signal.SIGKILL, _FULL)
_CODES = {
    signal.SIGTERM: {75, 130, -signal.SIGTERM},  # the last one before the command has its handlers
    signal.SIGKILL: {-signal.SIGKILL},
    _FULL: {2},
}
_LONGEST_DELAY = 0.4  # seconds after the moment that was chosen
_TIMEOUT = 240  # seconds


@contextlib.contextmanager
def small_disk(folder, megabytes=256):
    """Mount a file system on `folder` that can be filled up; yield None where that is not allowed.

    Yields:
      A function that fills the disk and returns the file to delete.
    """
    command = ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'tmpfs', str(folder)]
    if os.geteuid() or subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        yield None
        return
    try:
        yield lambda: _fill(folder)
    finally:
        subprocess.run(['umount', '--lazy', str(folder)], check=True)


def _fill(folder):
    ballast = folder / 'ballast'
    with contextlib.suppress(OSError), ballast.open('wb', buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    return ballast


def run_with_kills(name, arguments, *, count, seed, marks, fill):
    """Start a command `count` times and stop it each time, then let it end.

    Args:
      name: of the script of launch/.
      arguments: its command line.
      count: how often it is stopped.
      seed: of ways and moments.
      marks: starts of lines of its standard error; a moment is one of them or the start itself.
      fill: see `small_disk`; None leaves out the full disk.
    """
    rng = random.Random(seed)
    ways = [way for way in _WAYS if way != _FULL or fill]
    for number in range(count):
        way = ways[number % len(ways)]
        code, said = _start_and_stop(name, arguments, rng, way, marks, fill)
        assert code != 0, f'done before it was stopped {count} times: give it more to do'
        assert code in _CODES[way], f'{way} ended with {code}: {said}'
        assert 'Traceback' not in said, said
        if way == _FULL:
            assert 'No space left on device' in said, said
    finished = fake_run.run(name, *arguments)
    assert finished.returncode == 0, finished.stderr


def _start_and_stop(name, arguments, rng, way, marks, fill):
    """Return the exit code and the standard error of a command that was stopped."""
    running = fake_run.start(name, *arguments)
    mark, delay = rng.choice(('', *marks)), rng.uniform(0, _LONGEST_DELAY)
    lines = rng.randint(1, 3) if mark == 'step ' else 1
    deadline = time.monotonic() + _TIMEOUT
    while running.is_alive() and _count(running.stderr, mark) < lines:
        assert time.monotonic() < deadline, f'{name} says nothing that starts with {mark!r}'
        time.sleep(0.01)
    time.sleep(delay)
    ballast = fill() if way == _FULL else None
    if ballast is None:
        running.send(way)
    code, said = running.wait(_TIMEOUT)
    if ballast is not None:
        ballast.unlink()
    return code, said


def _count(path, mark):
    text = path.read_text() if path.exists() else ''
    return sum(line.startswith(mark) for line in text.splitlines()) if mark else len(text) + 99
