"""References as they were written, from the annotation files of data sets.

Understood are what `stg_jax.datasets` reads (MSVD, MSR-VTT, one's own CSV or JSONL), COCO
annotations, {clip: [captions]}, lines of clip<TAB>caption, and data folders of launch/prepare.py.
"""

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stg_jax.data import manifest
from stg_jax.data.captions import read_captions
from stg_jax.datasets import DATASETS, Annotations, find_data_set, msvd, read_annotations
from stg_jax.datasets.clip_ids import IdMapping, match_keys
from stg_jax.datasets.text_files import numbered_lines, parse_json
from stg_jax.errors import UserError
from stg_jax.evaluate.metrics import made_with


def clip_table(result: Mapping, predictions: Mapping[str, str]) -> str:
    """Return one row for each clip; what the scores were made with stands in every row.

    Args:
      result: what `stg_jax.evaluate.metrics.score` returns.
      predictions: clip id to its caption.
    """
    text = io.StringIO()
    # All text in quotes: alone, csv would leave a carriage return bare, which ends a row.
    rows = csv.writer(text, lineterminator='\n', quoting=csv.QUOTE_NONNUMERIC)
    names = list(next(iter(result['per_clip'].values())))
    rows.writerow(['clip', 'caption', *names, 'made_with'])
    how = made_with(result)
    for clip, scores in result['per_clip'].items():
        rows.writerow([clip, predictions[clip], *scores.values(), how])
    return text.getvalue()


_CLIP_KEYS = ('clip', 'image_id', 'video_id', 'video')

Rows = Iterable[tuple[str, Any, Any]]  # where it is, clip, caption


def read_predictions(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read {clip id: caption}; ids that are numbers become text.

    Raises:
      UserError: the file is missing, broken or empty, an entry is not one caption of one clip, or
        a clip comes twice.
    """
    path = Path(path)
    readers = {'.json': _json_rows, '.jsonl': _jsonl_rows, '.tsv': _tsv_rows, '.txt': _tsv_rows}
    if path.suffix.lower() not in readers:
        raise UserError(f'{path} must end in {", ".join(readers)}: see launch/score.py --help')
    if not path.is_file():
        raise UserError(f'the predictions {path} are missing or no file')
    predictions = {}
    for where, clip, caption in readers[path.suffix.lower()](path):
        clip = clip_name(where, clip)
        if clip in predictions:
            raise UserError(f'{where}: clip {clip!r} has a caption already: keep one of them')
        predictions[clip] = caption_text(where, clip, caption)
    if not predictions:
        raise UserError(f'{path} holds no caption')
    return predictions


def clip_name(where: str, clip: Any) -> str:
    """Return the id of a clip as text, or refuse it."""
    name = str(clip) if isinstance(clip, str | int) and not isinstance(clip, bool) else ''
    if not name.strip() or not _is_whole(name):
        raise UserError(f'{where}: {clip!r} is no name of a clip')
    return name


def caption_text(where: str, clip: str, caption: Any) -> str:
    """Return the one caption of a clip, or refuse it."""
    if isinstance(caption, list) and len(caption) == 1:
        (caption,) = caption
    if isinstance(caption, dict):
        caption = caption.get('caption')
    if isinstance(caption, list) and any(isinstance(each, dict) for each in caption):
        raise UserError(
            f'{where}: {clip!r} holds a list of {len(caption)} entries, not one caption: make that '
            'list the whole file'
        )
    if not isinstance(caption, str):
        raise UserError(f'{where}: clip {clip!r} needs one caption that is text')
    if not _is_whole(caption):
        raise UserError(f'{where}: the caption of clip {clip!r} holds half of a character')
    return caption


def _json_rows(path: Path) -> Rows:
    document = parse_json(path, path.read_bytes())
    if isinstance(document, dict):
        return ((str(path), clip, caption) for clip, caption in document.items())
    if not isinstance(document, list):
        raise UserError(f'{path} is neither a list of captions nor {{clip: caption}}')
    return (_entry(f'{path} entry {i}', entry) for i, entry in enumerate(document))


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Any, Any]]:
    for where, line in numbered_lines(path):
        yield _entry(where, parse_json(where, line))


def _tsv_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    for where, line in numbered_lines(path):
        clip, tab, caption = line.partition('\t')
        if not tab:
            raise UserError(f'{where}: expected clip<TAB>caption')
        yield where, clip, caption


def _entry(where: str, entry: Any) -> tuple[str, Any, Any]:
    keys = [key for key in _CLIP_KEYS if key in entry] if isinstance(entry, dict) else []
    if not keys or 'caption' not in entry:
        raise UserError(f'{where}: expected an object with image_id and caption')
    return where, entry[keys[0]], entry['caption']


def _is_whole(text: str) -> bool:
    """Return whether text holds no lone half of a surrogate pair, which no file could hold."""
    return not any('\ud800' <= character <= '\udfff' for character in text)


TRAIN = 'train'


@dataclasses.dataclass(frozen=True)
class References:
    """The references of some clips.

    Attributes:
      captions: clip id to its captions.
      train_captions: of the training split, None where the files have none.
      annotations: the files, where clips have numbers by which others call them.
      notes: what a reader should know of the files.
    """

    captions: Mapping[str, Sequence[str]]
    train_captions: Sequence[str] | None = None
    annotations: Annotations | None = None
    notes: Sequence[str] = ()


def read_references(path: str | os.PathLike[str], split: str | None = None) -> References:
    """Read the references of a split, or of all clips of the files.

    Raises:
      UserError: the files are missing or broken, or have no such split.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f'the references {path} do not exist')
    if (path / manifest.NAME).is_file():
        return _of_data_folder(path, split)
    if captions := _plain_captions(path):
        if split is not None:
            raise UserError(f'{path} has no splits: leave --split out')
        return References(captions)
    data_set = find_data_set(path)
    if data_set is None:
        raise UserError(f'{path} holds no references of {", ".join(DATASETS)}: see --help')
    annotations = read_annotations(data_set, path, clean=str.strip)
    return _of_annotations(path, annotations, split)


def rename_clips(
    predictions: Mapping[str, str], references: References
) -> tuple[Mapping[str, str], Sequence[str]]:
    """Return captions by the references' names of their clips, and a sentence if those differ.

    Files of others count clips, as 'vid1301' or 7010. Ids that mean no clip stay as they are.

    Raises:
      UserError: two ids mean the same clip.
    """
    if references.annotations is None or predictions.keys() <= references.captions.keys():
        return predictions, []
    try:
        mapping = match_keys(list(predictions), references.annotations)
    except UserError:
        raise UserError(
            f'no prediction is of a clip of the references: those are of clips like '
            f'{next(iter(predictions))!r}, these of clips like {next(iter(references.captions))!r}'
        ) from None
    renamed = _renamed(predictions, mapping)
    if mapping.scheme == 'index0' and renamed.keys() != references.captions.keys():
        # Numbers of other clips may count from 1: whatever gives the clips of the references.
        from_1 = match_keys(list(predictions), references.annotations, 'index1')
        if _renamed(predictions, from_1).keys() == references.captions.keys():
            mapping, renamed = from_1, _renamed(predictions, from_1)
    twice = [note for note in mapping.warnings if 'both mean' in note]
    if twice:
        raise UserError(f'the predictions name a clip twice: {twice[0]}')
    counted = {'index0': ', counted from 0', 'index1': ', counted from 1'}.get(mapping.scheme, '')
    return renamed, [f'the clips of the predictions are read as {mapping.scheme}{counted}']


def _renamed(predictions: Mapping[str, str], mapping: IdMapping) -> dict[str, str]:
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


def _of_annotations(path: Path, annotations: Annotations, split: str | None) -> References:
    filled = [name for name, clips in annotations.splits.items() if clips]
    if split is not None and split not in filled:
        raise UserError(f'{path} has no split {split!r}: it has {", ".join(filled)}')
    chosen = [split] if split else filled
    captions = {clip: texts for name in chosen for clip, texts in annotations.splits[name].items()}
    elsewhere = tuple(f'{name}:' for name in annotations.splits if name not in chosen)
    train = [text for texts in annotations.splits[TRAIN].values() for text in texts]
    return References(
        captions,
        (train or None) if split not in (None, TRAIN) else None,
        annotations if annotations.number else None,
        [note for note in annotations.notes if not note.startswith(elsewhere)],
    )


def _plain_captions(path: Path) -> dict[str, list[str]]:
    """Return the captions of a file that knows no splits, {} of another layout."""
    suffix = path.suffix.lower()
    if suffix == '.json':
        return _plain_json(path)
    if suffix in ('.tsv', '.txt') and not _is_msvd_list(path):
        return _tab_separated(path)
    return {}


def _is_msvd_list(path: Path) -> bool:
    """Whether the clips of an MSVD list are numbered by the mapping beside it."""
    return path.with_name(msvd.MAPPING).exists() and path.match('*_lc_nopunc.txt')


def _tab_separated(path: Path) -> dict[str, list[str]]:
    """Return the captions of clip<TAB>caption lines, {} where the first line has no tab."""
    captions = {}
    for where, line in numbered_lines(path):
        clip, tab, caption = line.partition('\t')
        if not tab:
            if not captions:
                return {}
            raise UserError(f'{where}: expected clip<TAB>caption, as in the lines before')
        captions.setdefault(clip_name(where, clip), []).append(caption)
    return captions


def _plain_json(path: Path) -> dict[str, list[str]]:
    """Return the captions of COCO annotations or {clip: [captions]}, {} of another layout."""
    document = parse_json(path, path.read_bytes())
    if not isinstance(document, dict):
        raise UserError(
            f'{path} is a JSON list: references are an object, {{clip: [captions]}} or COCO '
            'annotations'
        )
    if isinstance(rows := document.get('annotations'), list):
        return _coco_captions(path, document, rows)
    if document and all(isinstance(texts, list) for texts in document.values()):
        if 'sentences' in document:  # MSR-VTT
            return {}
        return {
            clip_name(path, clip): [caption_text(path, clip, text) for text in texts]
            for clip, texts in document.items()
        }
    return {}


def _coco_captions(path: Path, document: Mapping[str, Any], rows: list) -> dict[str, list[str]]:
    captions = {}
    for image in document.get('images', []):
        if isinstance(image, dict) and 'id' in image:
            captions[clip_name(path, image['id'])] = []
    for number, row in enumerate(rows):
        where = f'{path} annotation {number}'
        if not isinstance(row, dict) or not {'image_id', 'caption'} <= row.keys():
            raise UserError(f'{where}: expected an object with image_id and caption')
        clip = clip_name(where, row['image_id'])
        captions.setdefault(clip, []).append(caption_text(where, clip, row['caption']))
    return captions
