"""A suite's stages as a table for people."""

from collections.abc import Mapping, Sequence
from typing import Any

_NAMES = {
    'clips_per_s': 'clips/s',
    'captions_per_s': 'captions/s',
    'to_first': 'x first',
    'ours_to_it': 'ours x it',
    'mb_per_s': 'MB/s',
    'frames_per_s': 'frames/s',
    'to_bare': 'x bare',
    'to_memmap': 'x memmap',
    'before_mb': 'MB before',
    'peak_mb': 'MB peak',
    'gflop': 'GFLOP/caption',
    'gflop_per_s': 'GFLOP/s',
    'of_ceiling': 'of ceiling',
    'temp_mb': 'MB in a step',
    'banded_mb': 'MB banded',
    'to_dense': 'x dense',
    'mb_to_dense': 'dense MB / banded',
    'seconds': 's',
    'data_wait': 'waiting for data',
}


def table(stages: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each stage: medians, with the spread of the speed in brackets."""
    columns = [key for key in _NAMES if any(key in stage for stage in stages)]
    rows = [['', *(_NAMES[key] for key in columns)]]
    rows += [[stage['stage'], *(_cell(stage.get(key)) for key in columns)] for stage in stages]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(_line(row, widths) for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return '-'
    if not isinstance(value, Mapping):
        return _number(value)
    if value['min'] == value['max']:
        return _number(value['median'])
    return f'{_number(value["median"])} [{_number(value["min"])}-{_number(value["max"])}]'


def _number(value: float) -> str:
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *cells = (
        cell.rjust(width) if i else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return '  '.join([name, *cells])
