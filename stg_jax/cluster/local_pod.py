"""Rehearse a pod on this machine: start its processes, supervise them, and restart them."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from stg_jax.cli import program, signals
from stg_jax.cli.app import RESTART, USER_ERROR

LOST = 1  # exit code of a pod that lost a process
_GRACE = 60  # seconds in which the others save, too, when one has saved and stopped
_LAST_WORDS = 3  # seconds in which the others report what they know when one is lost
_POLL = 0.05  # seconds

# Called from threads with the processes, the number of one of them, and a line that it printed.
OnLine = Callable[['PodProcesses', int, str], None]


class Pod:
    """The command lines of a job of several processes.

    Args:
      command: script, or name of a command, and arguments; it has the flags of --multihost.
      num_processes: of the job.
      num_devices: CPU devices of each process.
    """

    def __init__(self, command: Sequence[str], num_processes: int, num_devices: int):
        name, *rest = command[1:] if command[0] == program.NAME else command
        start = [sys.executable, name] if name.endswith('.py') else program.command(name)
        self._command = [*start, *rest]
        self._num_processes = num_processes
        # Several processes cannot share an accelerator, and the devices of a rehearsal must be
        # equal.
        self._environment = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(num_devices)}

    def commands(self, port: int) -> list[list[str]]:
        """Return the command line of each process."""
        return [
            [
                *(*self._command, '--multihost'),
                *(f'--coordinator=127.0.0.1:{port}', f'--num_processes={self._num_processes}'),
                f'--process_id={number}',
            ]
            for number in range(self._num_processes)
        ]

    def shell_lines(self) -> list[str]:
        """Return the command of each process as a line for a shell."""
        settings = ' '.join(f'{key}={value}' for key, value in self._environment.items())
        return [f'{settings} {shlex.join(command)}' for command in self.commands(free_port())]

    def start(self, on_line: OnLine) -> 'PodProcesses':
        """Start all processes; `on_line` gets every line that they print."""
        environment = os.environ | self._environment | {'PYTHONUNBUFFERED': '1'}
        # A new port for every start: the old one may still be in use by a process that is ending.
        return PodProcesses(self.commands(free_port()), environment, on_line)


class PodProcesses:
    """The running processes of a pod."""

    def __init__(self, commands: list[list[str]], environment: dict[str, str], on_line: OnLine):
        self._on_line = on_line
        self._processes = [
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                # One stream, so that errors appear between the lines they belong to.
                stderr=subprocess.STDOUT,
                text=True,
                errors='replace',
            )
            for command in commands
        ]
        # A thread each: a process blocks once its pipe is full.
        self._readers = [
            threading.Thread(target=self._read, args=(number, process), daemon=True)
            for number, process in enumerate(self._processes)
        ]
        for reader in self._readers:
            reader.start()

    def send(self, number: int, what: signal.Signals) -> None:
        """Send a signal to one process."""
        self._processes[number].send_signal(what)

    def stop(self) -> None:
        """Ask all processes to save and stop."""
        for process in self._processes:
            process.terminate()

    def wait(self, say: Callable[[str], None]) -> int:
        """Wait until all processes have ended; end the others when one is lost.

        Returns:
          The exit code of the pod: 0 when all finished, 75 when all saved and stopped, 2 after a
          user error, 1 when a process was lost.
        """
        try:
            return self._wait(say)
        finally:
            for process in self._processes:
                process.kill()
            for process, reader in zip(self._processes, self._readers, strict=True):
                process.wait()
                reader.join()

    def _wait(self, say: Callable[[str], None]) -> int:
        while not (ended := self._first_failure()) and self._running():
            time.sleep(_POLL)
        if not ended:
            return 0
        number, code = ended
        if code not in (RESTART, USER_ERROR):
            say(f'process {number} was lost ({_cause(code)}): ending the others')
        # When one process saves, the others save the same step; writing a large checkpoint takes a
        # while. When one is lost, the others can only wait for it in a collective.
        deadline = time.monotonic() + (_GRACE if code == RESTART else _LAST_WORDS)
        while self._running() and time.monotonic() < deadline:
            time.sleep(_POLL)
        if code == RESTART and (others := self._running()):
            say(f'process {number} stopped, but {others} did not within {_GRACE} s: ending them')
        # Processes may still finish within the grace period, so the codes are read at the end.
        codes = {process.poll() for process in self._processes}
        if code == RESTART:
            return RESTART if codes <= {RESTART, 0} else LOST
        return USER_ERROR if code == USER_ERROR else LOST

    def _first_failure(self) -> tuple[int, int] | None:
        codes = ((number, process.poll()) for number, process in enumerate(self._processes))
        failed = [(number, code) for number, code in codes if code]
        # If several ended since the last look, the cause is the one that a signal ended: its code
        # is negative.
        return min(failed, key=lambda end: end[1], default=None)

    def _running(self) -> list[int]:
        return [n for n, process in enumerate(self._processes) if process.poll() is None]

    def _read(self, number: int, process: subprocess.Popen) -> None:
        for line in process.stdout or ():
            self._on_line(self, number, line.rstrip('\n'))


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    # Another process could take the port before it is used; for a rehearsal that is rare enough.
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def _cause(code: int) -> str:
    return f'exit code {code}' if code > 0 else f'killed by {signal.Signals(-code).name}'


class Supervisor:
    """Keeps a pod running, and prints its lines with the numbers of the processes.

    Args:
      pod: to run.
      watch: also called with every line.
    """

    def __init__(self, pod: Pod, watch: OnLine | None = None):
        self._pod, self._watch = pod, watch
        self._print = threading.Lock()
        self._asked = False
        self._processes: PodProcesses | None = None

    def run(self, restarts: int) -> int:
        """Run to the end, restarting up to `restarts` times; return the exit code."""
        with signals.on_stop(self._stop):
            code = self._run_once()
            for attempt in range(1, restarts + 1):
                if self._asked or code not in (RESTART, LOST):
                    break
                self._say(f'start {attempt} of {restarts} after exit code {code}')
                code = self._run_once()
            return code

    def _stop(self) -> None:
        """Ask the processes to save and stop, and restart none."""
        self._asked = True
        if self._processes:
            self._processes.stop()

    def _run_once(self) -> int:
        self._processes = self._pod.start(self._on_line)
        return self._processes.wait(self._say)

    def _on_line(self, processes: PodProcesses, number: int, line: str) -> None:
        with self._print:
            print(f'[{number}] {line}', flush=True)
        if self._watch:
            self._watch(processes, number, line)

    def _say(self, text: str) -> None:
        with self._print:
            print(f'pod: {text}', file=sys.stderr, flush=True)
