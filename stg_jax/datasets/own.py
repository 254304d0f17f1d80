"""Annotations of one's own clips: a CSV or JSONL file of `clip, caption[, split]`."""

import csv
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from stg_jax import files
from stg_jax.data.text import normalise
from stg_jax.datasets.base import (
    SPLIT_BY_HASH,
    SPLITS,
    Annotations,
    Clean,
    check_clip_id,
    split_by_hash,
    without_wordless,
)
from stg_jax.datasets.text_files import numbered_lines, parse_json
from stg_jax.errors import UserError

_VAL = ('val', 'valid', 'validation', 'validate', 'dev')
_SPLIT_OF_NAME = {'train': 'train', 'training': 'train', 'test': 'test'} | dict.fromkeys(
    _VAL, 'val'
)
_COLUMNS = ('clip', 'caption', 'split')

Row = tuple[str, str, list[str], str]  # where it is, clip id, captions, split or ''


def recognizes(path: Path) -> bool:
    """Whether a file is a CSV or JSONL file, as no other data set's is."""
    return path.suffix.lower() in _READERS


def read(path: str | os.PathLike[str], clean: Clean = normalise) -> Annotations:
    """Read a file with one row per caption, and any number of rows per clip.

    A CSV file begins with the names of its columns, in any case: `clip`, `caption` and perhaps
    `split`; it is separated by commas, or by the semicolons of a spreadsheet. A line of a JSONL
    file is an object with these names, or with a list `captions`. Clip names are compared without
    the blanks around them and in one Unicode form (NFC). Without splits, the SHA-256 of the clip
    ids decides, see `split_by_hash`.

    Raises:
      UserError: the file is missing, broken or without captions, a clip is in two splits or has a
        strange id, or a train clip has no caption.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'the annotations {path} are missing or no file: name a CSV or JSONL file')
    captions, split_of = {}, {}
    for where, clip_id, texts, split in _rows(path):
        # macOS decomposes accents in file names: one clip may be written in two forms.
        clip_id = unicodedata.normalize('NFC', clip_id.strip())
        check_clip_id(where, clip_id)
        captions.setdefault(clip_id, []).extend(map(clean, texts))
        if split_of.setdefault(clip_id, split) != split:
            both = ' and '.join(name or 'none' for name in (split_of[clip_id], split))
            raise UserError(f'{where}: clip {clip_id} is in two splits, {both}: choose one')
    captions, notes = without_wordless(captions)
    if not any(captions.values()):
        raise UserError(f'{path} holds no caption')
    if not any(split_of.values()):
        split_of = split_by_hash(captions)
        notes.append(SPLIT_BY_HASH)
    splits = _divide(path, captions, split_of)
    return Annotations('own', splits, number={}, source={}, notes=notes)


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix.lower() not in _READERS:
        raise UserError(f'{path} must end in .csv or .jsonl, with clip, caption and perhaps split')
    # A page in place of a table would be reported as a missing column.
    with path.open('rb') as file:
        other = files.not_data(file.read(512))
    if other:
        raise UserError(f'{path} {other}')
    return _READERS[path.suffix.lower()](path)


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding='utf-8-sig', newline='') as lines:
        rows = csv.reader(lines)
        try:
            separator = _separator(lines)
            # Strict: a stray quote would otherwise swallow the rows up to the next one.
            rows = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
            names = [name.strip().lower() for name in next(rows, [])]
            _check_columns(path, names)
            for fields in filter(None, rows):
                where = f'{path} line {rows.line_num}'
                if len(fields) != len(names):
                    raise UserError(
                        f'{where} has not the {len(names)} fields of the first line: '
                        f'put captions with {separator!r} into double quotes'
                    )
                row = dict(zip(names, fields, strict=True))
                yield where, row['clip'], [row['caption']], _split(where, row.get('split', ''))
        except csv.Error as error:
            raise UserError(f'{path} line {rows.line_num} is no CSV ({error})') from None
        except UnicodeDecodeError as error:
            raise UserError(f'{path} is not UTF-8 text ({error}): save it as UTF-8') from None


def _check_columns(path: Path, names: Sequence[str]) -> None:
    for name in ('clip', 'caption'):
        if name not in names:
            raise UserError(f'{path} line 1 must name the column {name!r}: clip,caption')
    for name in _COLUMNS:
        if names.count(name) > 1:  # of which csv would keep the last
            raise UserError(
                f'{path} line 1 names two columns {name!r}: keep one, and write several captions '
                'of a clip in several rows'
            )


def _separator(lines: TextIO) -> str:
    """Find what separates the names in the first line, and go back to it."""
    # Not csv.Sniffer: it takes any character that is frequent in captions for a separator.
    first = lines.readline()
    lines.seek(0)
    return ';' if ';' in first and ',' not in first else ','


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for where, line in numbered_lines(path):
        row = parse_json(where, line)
        if not isinstance(row, dict) or ('caption' in row) == ('captions' in row):
            raise UserError(f'{where}: expected an object with clip and either caption or captions')
        captions = row.get('captions', [row.get('caption')])
        clip_id, split = row.get('clip'), row.get('split') or ''
        if not isinstance(captions, list) or not _all_text([clip_id, split, *captions]):
            raise UserError(f'{where}: clip, split and every caption must be text')
        assert isinstance(clip_id, str)
        yield where, clip_id, captions, _split(where, split)


_READERS = {'.csv': _csv_rows, '.jsonl': _jsonl_rows}


def _all_text(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _split(where: str, name: str) -> str:
    """Read the name of a split, in any of its spellings; '' where nothing is written."""
    name = name.strip().lower()
    if name and name not in _SPLIT_OF_NAME:
        raise UserError(f'{where}: the split is {name!r}, expected {", ".join(SPLITS)}')
    return _SPLIT_OF_NAME.get(name, '')


def _divide(
    path: Path, captions: dict[str, list[str]], split_of: dict[str, str]
) -> dict[str, dict[str, list[str]]]:
    # Some with a split and some without is a mistake: hashing the rest would mix two divisions.
    splits = {split: {} for split in SPLITS}
    for clip_id, texts in captions.items():
        split = split_of[clip_id]
        if not split:
            raise UserError(f'{path} says no split of clip {clip_id}, but that of others: add it')
        if split == 'train' and not texts:
            raise UserError(
                f'{path}: train clip {clip_id} has no caption with a word: add one or remove it'
            )
        splits[split][clip_id] = texts
    return splits
