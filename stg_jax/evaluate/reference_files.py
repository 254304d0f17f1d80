"""References as they were written, from the annotation files of data sets.

Read are the data sets of `stg_jax.datasets`, data folders of launch/prepare.py, and every layout of
predictions (`evaluate.caption_files`), with several captions of a clip: in a list, or in several
rows.
"""

import csv
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stg_jax.data import manifest
from stg_jax.data.captions import read_captions
from stg_jax.datasets import msvd
from stg_jax.datasets.base import Annotations
from stg_jax.datasets.clip_ids import IdMapping, match_keys
from stg_jax.datasets.registry import DATASETS, find_data_set, read_annotations
from stg_jax.datasets.text_files import numbered_lines, parse_json
from stg_jax.errors import UserError
from stg_jax.evaluate.caption_files import (
    CLIP_KEYS,
    Row,
    caption_row,
    caption_rows,
    caption_text,
    clip_name,
    json_rows,
)

TRAIN = 'train'
_COUNTED = re.compile(r'(?:vid|video)?([0-9]{1,9})')


@dataclasses.dataclass(frozen=True)
class References:
    """The references of some clips.

    Attributes:
      captions: clip id to its captions.
      train_captions: captions of the training split, None where the files have none.
      annotations: the annotations, where clips have numbers that other files may use as names.
      notes: what a reader should know about the files.
    """

    captions: Mapping[str, Sequence[str]]
    train_captions: Sequence[str] | None = None
    annotations: Annotations | None = None
    notes: Sequence[str] = ()


def read_references(path: str | os.PathLike[str], split: str | None = None) -> References:
    """Read the references of a split, or of all clips of the files.

    Raises:
      UserError: the files are missing or broken, or the split is unknown.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f'the references {path} do not exist')
    if (path / manifest.NAME).is_file():
        return _of_data_folder(path, split)
    # Other readers first: those of data sets claim every JSON and CSV file.
    rows = _rows_without_splits(path)
    if rows is None:
        return _of_data_set(path, split)
    if split is not None:
        raise UserError(f'{path} has no splits: leave --split out')
    return References(_grouped(rows))


def rename_clips(
    predictions: Mapping[str, str], references: References
) -> tuple[Mapping[str, str], Sequence[str]]:
    """Rename the clips of predictions as the references call them.

    Other people's files count clips, as 'vid1301' or 7010. Several ways to count are tried, and the
    one that gives exactly the clips of the references wins. Ids that mean no clip stay as they are.

    Returns:
      The renamed predictions, and a sentence on how they were read if names have changed.

    Raises:
      UserError: two ids mean the same clip.
    """
    if references.annotations is None or predictions.keys() <= references.captions.keys():
        return predictions, []
    # A reading that does not give exactly the clips is kept only if none does: `align` then names
    # the clips that are missing.
    first: tuple[Mapping[str, str], str] | None = None
    for renamed, how in _readings(predictions, references):
        if renamed.keys() == references.captions.keys():
            return renamed, [f'the clips of the predictions are read as {how}']
        first = first or (renamed, how)
    if first is None:
        raise UserError(
            f'no prediction is of a clip of the references: those are of clips like '
            f'{next(iter(predictions))!r}, these of clips like {next(iter(references.captions))!r}'
        )
    return first[0], [f'the clips of the predictions are read as {first[1]}']


def _readings(
    predictions: Mapping[str, str], references: References
) -> Iterator[tuple[Mapping[str, str], str]]:
    """Yield renamed predictions, and how they were read: the most likely reading first."""
    annotations = references.annotations
    assert annotations is not None
    for scheme in (None, 'index1'):
        try:
            mapping = match_keys(list(predictions), annotations, scheme)
        except UserError:
            continue  # no prediction means a clip under this scheme
        yield _renamed(predictions, mapping), _SCHEMES.get(mapping.scheme, mapping.scheme)
    # Some systems number the clips of every split from the start again.
    in_order = sorted(references.captions, key=lambda clip: annotations.number.get(clip, -1))
    for start in (1, 0):
        name_of = dict(enumerate(in_order, start))
        numbers = [_number(key) for key in predictions]
        if sorted(numbers) == list(name_of):
            renamed = {
                name_of[number]: caption
                for number, caption in zip(numbers, predictions.values(), strict=True)
            }
            yield renamed, f'numbers of the clips within the split, counted from {start}'


_SCHEMES = {'index0': 'index0, counted from 0', 'index1': 'index1, counted from 1'}


def _number(key: str) -> int:
    """Read the number in a name such as 'vid7', 'video7' or '7'; -1 in any other name."""
    match = _COUNTED.fullmatch(key)
    return int(match[1]) if match else -1


def _renamed(predictions: Mapping[str, str], mapping: IdMapping) -> dict[str, str]:
    twice = [note for note in mapping.warnings if 'both mean' in note]
    if twice:
        raise UserError(f'the predictions name a clip twice: {twice[0]}')
    name_of = {key: clip for clip, key in mapping.key_of.items()}
    return {name_of.get(key, key): caption for key, caption in predictions.items()}


def _of_data_folder(path: Path, split: str | None) -> References:
    if split is None:
        raise UserError(f'{path} is a data folder: name its --split')
    splits = manifest.Manifest.load(path).splits
    train = read_captions(path, TRAIN) if TRAIN in splits else {}
    return References(
        read_captions(path, split),
        [text for texts in train.values() for text in texts] or None,
        notes=[
            'the references of a data folder are normalised: they may differ from the published'
        ],
    )


def _of_data_set(path: Path, split: str | None) -> References:
    data_set = find_data_set(path)
    if data_set is None:
        raise UserError(f'{path} holds no references of {", ".join(DATASETS)}: see --help')
    # Not normalised: the metrics tokenize references themselves, as the published scores did.
    annotations = read_annotations(data_set, path, clean=str.strip)
    filled = [name for name, clips in annotations.splits.items() if clips]
    if split is not None and split not in filled:
        raise UserError(f'{path} has no split {split!r}: it has {", ".join(filled)}')
    chosen = [split] if split else filled
    captions = {clip: texts for name in chosen for clip, texts in annotations.splits[name].items()}
    # Notes on other splits would only distract.
    elsewhere = tuple(f'{name}:' for name in annotations.splits if name not in chosen)
    train = [text for texts in annotations.splits[TRAIN].values() for text in texts]
    return References(
        captions,
        (train or None) if split not in (None, TRAIN) else None,
        annotations if annotations.number else None,
        [note for note in annotations.notes if not note.startswith(elsewhere)],
    )


def _grouped(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Group captions by clip; a row has one caption or a list, and a clip may have several rows."""
    captions: dict[str, list[str]] = {}
    for where, clip, value in rows:
        clip = clip_name(where, clip)
        texts = value if isinstance(value, list) else [value]
        captions.setdefault(clip, []).extend(caption_text(where, clip, text) for text in texts)
    return captions


def _rows_without_splits(path: Path) -> Iterable[Row] | None:
    """Read a file in a layout without splits; None for files of a data set."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return None
    if suffix == '.json':
        return _json_rows(path)
    if suffix in ('.tsv', '.txt') and _is_tab_separated(path):
        return caption_rows(path)
    if suffix in ('.csv', '.jsonl') and _names_clips_otherwise(path):
        return caption_rows(path)
    return None


def _is_tab_separated(path: Path) -> bool:
    """Whether lines are clip<TAB>caption, and the clips are not numbers of a mapping beside it."""
    if path.with_name(msvd.MAPPING).exists() and path.match('*_lc_nopunc.txt'):
        return False
    return '\t' in next((line for _, line in numbered_lines(path, errors='replace')), '')


def _names_clips_otherwise(path: Path) -> bool:
    """Whether the first row calls the clip by a key of predictions, and not 'clip' as in `own`."""
    _, line = next(numbered_lines(path, errors='replace'), ('', ''))
    if path.suffix.lower() == '.csv':
        names = [name.strip().lower() for name in next(csv.reader([line.replace(';', ',')]), [])]
        if 'caption' not in names:
            return False
    else:
        row = parse_json(path, line) if line else None
        names = [str(key).lower() for key in row] if isinstance(row, dict) else []
    return 'clip' not in names and any(key.lower() in names for key in CLIP_KEYS)


def _json_rows(path: Path) -> Iterable[Row] | None:
    document = parse_json(path, path.read_bytes())
    if isinstance(document, list):
        is_vatex = any(isinstance(row, dict) and 'enCap' in row for row in document)
        return None if is_vatex else json_rows(str(path), document)
    if not isinstance(document, dict):
        raise UserError(
            f'{path} is no JSON object: references are {{clip: [captions]}}, a list of objects or '
            'COCO annotations'
        )
    if isinstance(rows := document.get('annotations'), list):
        return _coco_rows(path, document, rows)
    if isinstance(rows := document.get('sentences'), list):
        # MSR-VTT numbers the sentences. Without numbers and videos it is a list like any other.
        is_numbered = any(isinstance(row, dict) and 'sen_id' in row for row in rows)
        return None if is_numbered else json_rows(f'{path} sentences', rows)
    is_wrapped = isinstance(document.get('predictions'), list | dict)
    # An object of objects is {clip: {sentence id: caption}}, another layout of MSR-VTT.
    is_plain = document and all(isinstance(texts, list | str) for texts in document.values())
    return json_rows(str(path), document) if is_wrapped or is_plain else None


def _coco_rows(path: Path, document: Mapping[str, Any], rows: list) -> Iterator[Row]:
    for image in document.get('images', []):
        if isinstance(image, dict) and 'id' in image:
            # Without captions yet: an image that gets none is then reported by name.
            yield str(path), image['id'], []
    for number, row in enumerate(rows):
        yield caption_row(f'{path} annotation {number}', row)
