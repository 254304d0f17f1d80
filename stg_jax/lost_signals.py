"""Signals that Python threw away are sent again.

A handler that raises, as that of Ctrl-C does, runs wherever the program is. In a callback of the
garbage collector (JAX has one) or in a `__del__` Python prints the exception and goes on, and
nobody ends the program.
"""

import os
import signal
import sys
import threading
from typing import Any

_PAUSE = 0.1  # seconds; sent at once, it would end the hook and be thrown away again


def send_again() -> None:
    """From now on, send a signal again whose KeyboardInterrupt or SystemExit was thrown away."""
    sys.unraisablehook = _hook


def _hook(unraisable: Any) -> None:
    number = _signal_of(unraisable.exc_type)
    if number is None:
        sys.__unraisablehook__(unraisable)
        return
    timer = threading.Timer(_PAUSE, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def _signal_of(exception: type[BaseException]) -> int | None:
    """Return the signal that raises such an exception here, None where none does."""
    if issubclass(exception, SystemExit) and callable(signal.getsignal(signal.SIGTERM)):
        return signal.SIGTERM
    if issubclass(exception, KeyboardInterrupt):
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is signal.default_int_handler:
                return number
    return None
