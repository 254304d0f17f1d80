"""Kill processes of a pod at random moments of its work."""

import random
import signal
import threading

from stg_jax.cluster.local_pod import Pod, PodProcesses, Supervisor

_SIGNALS = (signal.SIGTERM, signal.SIGKILL)
_LONGEST_DELAY = 0.4  # seconds after a line; a tiny network takes some steps and saves in that time
_MOST_LINES = 4


class Killer:
    """Send one signal to one process, some lines of its log and a moment after the start.

    A line is that of a step, after which come more steps or a validation, or that of an epoch,
    after which its checkpoint is written.
    """

    def __init__(self, num_processes: int, seed: int):
        rng = random.Random(seed)
        self._victim = rng.randrange(num_processes)
        self._signal = rng.choice(_SIGNALS)
        self._start = rng.choice(['step ', 'epoch '])
        self._lines_left = rng.randint(1, _MOST_LINES) if self._start == 'step ' else 1
        self._delay = rng.uniform(0, _LONGEST_DELAY)
        self._timer: threading.Timer | None = None
        self.has_killed = False

    def watch(self, processes: PodProcesses, number: int, line: str) -> None:
        """Look at a line of a process; start the countdown at the chosen one."""
        if number != 0 or self._timer or not line.startswith(self._start):
            return
        self._lines_left -= 1
        if self._lines_left == 0:
            self._timer = threading.Timer(self._delay, self._kill, [processes])
            self._timer.start()

    def cancel(self) -> None:
        """Spare the victim if it still lives."""
        if self._timer:
            self._timer.cancel()

    def _kill(self, processes: PodProcesses) -> None:
        self.has_killed = True
        processes.send(self._victim, self._signal)


def run_with_kills(pod: Pod, num_processes: int, kills: int, seed: int = 0) -> tuple[int, int]:
    """Kill a process `kills` times, starting again each time, then run to the end.

    Returns:
      The last exit code, and how many processes were killed.
    """
    for number in range(kills):
        killer = Killer(num_processes, seed * 1000 + number)
        code = Supervisor(pod, killer.watch).run(restarts=0)
        killer.cancel()
        if not killer.has_killed:
            return code, number
    return Supervisor(pod).run(restarts=0), kills
