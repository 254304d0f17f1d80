"""Durations as people type them, and times as subtitles write them."""

import re

from stg_jax.errors import UserError

_DURATION = re.compile(r'([0-9]+\.?[0-9]*|\.[0-9]+) ?(ms|s|m|h|)')
_FACTOR = {'ms': 0.001, 's': 1.0, '': 1.0, 'm': 60.0, 'h': 3600.0}


def parse_seconds(text: str) -> float:
    """Return the seconds of a duration such as '10s', '10', '1.5m' or '500ms'.

    Raises:
      UserError: it is none, or zero.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _FACTOR[match[2]] if match else 0.0
    if not seconds:
        raise UserError(f'{text!r} is no duration: write seconds such as 10s, or minutes as 1.5m')
    return seconds


def clock(seconds: float, point: str) -> str:
    """Write a time as hours:minutes:seconds and milliseconds after `point`: '01:02:03.004'."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f'{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}'
