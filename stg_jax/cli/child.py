"""Commands that this process starts, one at a time, and asks to stop when it is asked itself."""

import subprocess
from collections.abc import Sequence

from stg_jax.cli import program


class Child:
    """The one process that runs at a time.

    Attributes:
      asked: whether `stop` was called.
    """

    def __init__(self):
        self._process: subprocess.Popen | None = None
        self.asked = False

    def run(self, command: Sequence[str]) -> int:
        """Run a command, its name and arguments, to its end and return its exit code."""
        name, *args = command
        # A session of its own: Ctrl-C reaches it once, through this process.
        with subprocess.Popen([*program.command(name), *args], start_new_session=True) as process:
            self._process = process
            if self.asked:  # the signal came before there was a process to pass it on to
                process.terminate()
            return process.wait()

    def stop(self) -> None:
        """Ask the process to save and stop."""
        self.asked = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
