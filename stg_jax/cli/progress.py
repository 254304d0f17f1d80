"""Progress of a long command, on standard error."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_T = TypeVar('_T')
# Seconds between two reports: a terminal overwrites its line, a log keeps every one.
_ON_TERMINAL, _IN_LOG = 0.2, 10


def say(text: str) -> None:
    """Print a line about what was found or left out."""
    print(text, file=sys.stderr)


class StatusLine:
    """What a command is doing: redrawn on a terminal, repeated every ten seconds in a log."""

    def __init__(self):
        self._terminal = sys.stderr.isatty()
        # A log hears of nothing that is over in less time.
        self._shown = time.monotonic()

    def show(self, text: str) -> None:
        """Show what is being done now."""
        if self._terminal:
            print(f'\r\033[K{text}', end='', file=sys.stderr, flush=True)
        elif time.monotonic() - self._shown > _IN_LOG:
            self._shown = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line from a terminal, before other text is printed."""
        if self._terminal:
            print('\r\033[K', end='', file=sys.stderr, flush=True)


def progress(items: Iterable[_T], total: int, what: str) -> Iterator[_T]:
    """Yield `items`; regularly report how many of `total` clips are done, and how fast."""
    terminal = sys.stderr.isatty()
    start = shown = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if count == total or now - shown > (_ON_TERMINAL if terminal else _IN_LOG):
            shown = now
            # The last line stays on the terminal.
            end = '\r' if terminal and count < total else '\n'
            rate = count / max(now - start, 1e-9)
            print(f'{what} {count}/{total} clips, {rate:.1f}/s', end=end, file=sys.stderr)
