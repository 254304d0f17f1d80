"""Notice that the run was asked to stop, and let the loop choose the moment."""

import signal
from types import FrameType


class StopRequest:
    """While entered, SIGTERM and the first Ctrl-C set `received` instead of ending the process."""

    def __init__(self):
        self.received = False

    def __enter__(self) -> 'StopRequest':
        """Install the handlers."""
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *unused) -> None:
        """Put the previous handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        # A second Ctrl-C means now.
        signal.signal(signal.SIGINT, signal.default_int_handler)
