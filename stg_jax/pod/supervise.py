"""Run a pod, start it again when it stopped or was lost, and kill it on purpose if asked to."""

import signal
import sys
import threading

from stg_jax.cli import RESTART
from stg_jax.pod.chaos import Killer
from stg_jax.pod.processes import LOST, Job, Pod


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
