"""All signal handling: SIGTERM and Ctrl-C as exceptions, or as a call that asks for a stop."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

# Seconds. A signal sent at once would be raised inside the same hook and be lost again.
_PAUSE = 0.1
_EXIT_CODE = 128 + signal.SIGTERM  # what a shell reports of a process that SIGTERM ended


def interrupt_on(number: int) -> None:
    """Let a signal raise KeyboardInterrupt from now on, as Ctrl-C does by default."""
    signal.signal(number, signal.default_int_handler)


def ignore_interrupts() -> None:
    """Let a worker process ignore Ctrl-C, which a terminal sends to the whole process group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def on_stop(notify: Callable[[], None]) -> Iterator[None]:
    """Call `notify` on SIGTERM and Ctrl-C inside the block, instead of ending the process."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: notify()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit inside the block, so that `finally` clauses run.

    A handler that is already installed stays: whoever set it knows better how to end. Only the main
    thread receives signals, so nothing changes in other threads.
    """
    is_main = threading.current_thread() is threading.main_thread()
    # Python installs handlers from the main thread only.
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(_EXIT_CODE))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def resend_lost_signals() -> None:
    """Send a signal again if the exception that it raised was discarded.

    Python discards exceptions raised inside finalizers and garbage collector callbacks. A signal
    that arrives during one of them would otherwise have no effect at all.
    """
    sys.unraisablehook = _hook


def _hook(unraisable: Any) -> None:
    number = _signal_of(unraisable.exc_type)
    if number is None:
        if not _is_late_write(unraisable):
            sys.__unraisablehook__(unraisable)
        return
    # A thread, because the hook itself must return before an exception can be raised.
    timer = threading.Timer(_PAUSE, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def _is_late_write(unraisable: Any) -> bool:
    """Whether this is a write of TensorStore that ended after the save that it belongs to.

    When one write fails, as on a full disk, the event loop of all is closed. Each of the others
    would then print a traceback beside the one sentence about the disk.
    """
    is_closed = str(unraisable.exc_value) == 'Event loop is closed'
    return is_closed and issubclass(unraisable.exc_type, RuntimeError)


def _signal_of(exception: type[BaseException]) -> int | None:
    """Find the signal whose handler raises such an exception in this process."""
    if issubclass(exception, SystemExit) and callable(signal.getsignal(signal.SIGTERM)):
        return signal.SIGTERM
    if issubclass(exception, KeyboardInterrupt):
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is signal.default_int_handler:
                return number
    return None
