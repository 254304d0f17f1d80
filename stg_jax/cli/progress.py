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
