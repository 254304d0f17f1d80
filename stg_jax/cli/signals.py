"""SIGTERM as an exception, so that other programs end and temporary files go before the process."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
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


_EXIT_CODE = 128 + signal.SIGTERM  # what a shell reports of a process that SIGTERM ended


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit inside of the block, where it would end the process at once.

    A handler that is there already stays: whoever set it knows better how to end. Signals reach
    the main thread alone, so that elsewhere nothing changes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(_EXIT_CODE))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
