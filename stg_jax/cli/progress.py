"""How far a preparation is, on standard error."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_T = TypeVar('_T')


def say(text: str) -> None:
    """Write a line about what was found or left out."""
    print(text, file=sys.stderr)


def progress(items: Iterable[_T], total: int, what: str) -> Iterator[_T]:
    """Yield `items`; now and then write how many of `total` clips are done and how fast."""
    terminal = sys.stderr.isatty()
    start = shown = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if count == total or now - shown > (0.2 if terminal else 10):
            shown = now
            end = '\r' if terminal and count < total else '\n'
            rate = count / max(now - start, 1e-9)
            print(f'{what} {count}/{total} clips, {rate:.1f}/s', end=end, file=sys.stderr)
