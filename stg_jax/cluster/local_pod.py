"""Run a pod, start it again when it stopped or was lost, and kill it on purpose if asked to."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from stg_jax.cli.app import RESTART, USER_ERROR
from stg_jax.cluster.chaos import Killer

LOST = 1  # exit code of a job that lost a process
_GRACE = 60  # seconds in which the others save, too, when one has saved and stopped
_LAST_WORDS = 3  # seconds in which the others say what they have to when one is lost
_POLL = 0.05

OnLine = Callable[[int, str], None]


class Pod:
    """What to run how often.

    Args:
      command: script and arguments of a command that knows --multihost.
      num_processes: of the job.
      num_devices: CPU devices of each process.
    """

    def __init__(self, command: Sequence[str], num_processes: int, num_devices: int):
        self._command, self._num_processes = command, num_processes
        self._environment = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(num_devices)}

    def commands(self, port: int) -> list[list[str]]:
        """Return the command line of each process."""
        return [
            [
                *(sys.executable, *self._command, '--multihost'),
                *(f'--coordinator=127.0.0.1:{port}', f'--num_processes={self._num_processes}'),
                f'--process_id={number}',
            ]
            for number in range(self._num_processes)
        ]

    def described(self) -> list[str]:
        """Return what would be run, a line for a shell each."""
        settings = ' '.join(f'{key}={value}' for key, value in self._environment.items())
        return [f'{settings} {shlex.join(command)}' for command in self.commands(free_port())]

    def start(self, on_line: OnLine) -> 'Job':
        """Start all processes; `on_line(number of the process, line)` is called from threads."""
        environment = os.environ | self._environment | {'PYTHONUNBUFFERED': '1'}
        return Job(self.commands(free_port()), environment, on_line)


class Job:
    """Processes that run."""

    def __init__(self, commands: list[list[str]], environment: dict[str, str], on_line: OnLine):
        self._processes = [
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors='replace',
            )
            for command in commands
        ]
        self._readers = [
            threading.Thread(target=_read, args=(number, process, on_line), daemon=True)
            for number, process in enumerate(self._processes)
        ]
        for reader in self._readers:
            reader.start()

    def send(self, number: int, what: signal.Signals) -> None:
        """Send a signal to one process."""
        self._processes[number].send_signal(what)

    def stop(self) -> None:
        """Ask all to save and stop."""
        for process in self._processes:
            process.terminate()

    def wait(self, say: Callable[[str], None]) -> int:
        """Wait for the end of all, bring it about when one is lost, and return the job's code.

        0 when all are done, 75 when all saved and stopped, 2 after a mistake of the user, else 1.
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
        deadline = time.monotonic() + (_GRACE if code == RESTART else _LAST_WORDS)
        while self._running() and time.monotonic() < deadline:
            time.sleep(_POLL)
        if code == RESTART and (others := self._running()):
            say(f'process {number} stopped, but {others} did not within {_GRACE} s: ending them')
        codes = {process.poll() for process in self._processes}
        if code == RESTART:
            return RESTART if codes <= {RESTART, 0} else LOST
        return USER_ERROR if code == USER_ERROR else LOST

    def _first_failure(self) -> tuple[int, int] | None:
        codes = ((number, process.poll()) for number, process in enumerate(self._processes))
        failed = [(number, code) for number, code in codes if code]
        # Of several that ended since the last look, the one that a signal ended is the cause.
        return min(failed, key=lambda end: end[1], default=None)

    def _running(self) -> list[int]:
        return [n for n, process in enumerate(self._processes) if process.poll() is None]


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def _read(number: int, process: subprocess.Popen, on_line: OnLine) -> None:
    for line in process.stdout:
        on_line(number, line.rstrip('\n'))


def _cause(code: int) -> str:
    return f'exit code {code}' if code > 0 else f'killed by {signal.Signals(-code).name}'


class Supervisor:
    """Keep a pod running.

    Args:
      pod: what to run.
      num_processes: of the pod.
    """

    def __init__(self, pod: Pod, num_processes: int):
        self._pod, self._num_processes = pod, num_processes
        self._print = threading.Lock()
        self._asked = False
        self._job: Job | None = None

    def run(self, restarts: int) -> int:
        """Run to the end, starting again up to `restarts` times; return the exit code."""
        with _forwarding(self):
            code = self._once(None)
            for attempt in range(1, restarts + 1):
                if self._asked or code not in (RESTART, LOST):
                    break
                self._say(f'start {attempt} of {restarts} after exit code {code}')
                code = self._once(None)
            return code

    def chaos(self, kills: int, seed: int) -> int:
        """Kill a process `kills` times, starting again each time, then run to the end."""
        with _forwarding(self):
            number = 0
            while number < kills and not self._asked:
                killer = Killer(self._num_processes, seed * 1000 + number)
                code = self._once(killer)
                if not killer.done:
                    if code == 0:
                        self._say(f'finished after {number} of {kills} kills: train for longer')
                    return code or LOST
                number += 1
                self._say(f'kill {number}: {killer.done}; exit code {code}')
            return RESTART if self._asked else self._once(None)

    def stop(self) -> None:
        """Ask the processes to save and stop, and start none again."""
        self._asked = True
        if self._job:
            self._job.stop()

    def _once(self, killer: Killer | None) -> int:
        ready = threading.Event()

        def on_line(number: int, line: str) -> None:
            with self._print:
                print(f'[{number}] {line}', flush=True)
            ready.wait()
            if killer:
                killer.watch(self._job, number, line)

        self._job = self._pod.start(on_line)
        ready.set()
        try:
            return self._job.wait(self._say)
        finally:
            if killer:
                killer.cancel()

    def _say(self, text: str) -> None:
        with self._print:
            print(f'pod: {text}', file=sys.stderr, flush=True)


class _forwarding:  # noqa: N801 - reads as a verb
    """While entered, SIGTERM and Ctrl-C stop the processes instead of ending this one."""

    def __init__(self, supervisor: Supervisor):
        self._supervisor = supervisor

    def __enter__(self):
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._before = {n: signal.signal(n, lambda *_: self._supervisor.stop()) for n in numbers}

    def __exit__(self, *unused):
        for number, handler in self._before.items():
            signal.signal(number, handler)
