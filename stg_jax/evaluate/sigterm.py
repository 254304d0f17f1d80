"""SIGTERM as an exception, so that other programs end and temporary files go before the process."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

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
