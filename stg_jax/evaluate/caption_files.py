"""Captions in files, in every layout that captioning systems write.

`read_predictions` reads one caption for each clip. `caption_rows` is the layer below it, which
`evaluate.reference_files` shares: it yields what a file says about each clip, unchecked.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from stg_jax.datasets.text_files import numbered_lines, parse_json
from stg_jax.errors import UserError

CLIP_KEYS = ('clip', 'image_id', 'video_id', 'video', 'videoID')

Row = tuple[str, Any, Any]  # where it is, clip, caption or captions


def read_predictions(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read {clip id: caption}; ids that are numbers become text.

    Raises:
      UserError: the file is missing, broken or empty, an entry is not one caption of one clip, or
        a clip occurs twice.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise UserError(f'{path} must end in {", ".join(_READERS)}: see launch/score.py --help')
    if not path.is_file():
        raise UserError(f'the predictions {path} are missing or no file')
    predictions: dict[str, str] = {}
    for where, clip, caption in caption_rows(path):
        clip = clip_name(where, clip)
        if clip in predictions:
            raise UserError(f'{where}: clip {clip!r} has a caption already: keep one of them')
        predictions[clip] = caption_text(where, clip, caption)
    if not predictions:
        raise UserError(f'{path} holds no caption')
    return predictions


def caption_rows(path: Path) -> Iterable[Row]:
    """Yield (where it is, clip, caption) for each row of a file; the suffix selects the layout.

    Raises:
      UserError: the file is not of the layout that its suffix says.
    """
    return _READERS[path.suffix.lower()](path)


def clip_name(where: str, clip: Any) -> str:
    """Check the id of a clip, and convert it to text."""
    name = str(clip) if isinstance(clip, str | int) and not isinstance(clip, bool) else ''
    if not name.strip() or not _is_whole(name):
        raise UserError(f'{where}: {clip!r} is no name of a clip')
    return name


def caption_text(where: str, clip: str, caption: Any) -> str:
    """Check that a value is the one caption of a clip, perhaps inside a list or an object."""
    # {clip: [{"image_id": ..., "caption": ...}]} is common, as some evaluation code wants it.
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


def json_rows(where: str, document: Any) -> Iterator[Row]:
    """Yield the rows of a JSON list of objects, or of {clip: caption}.

    Either may be inside {"predictions": ...}, which PyTorch captioning code writes beside scores.
    """
    if isinstance(document, dict) and isinstance(document.get('predictions'), list | dict):
        document = document['predictions']
    if isinstance(document, dict):
        return ((where, clip, caption) for clip, caption in document.items())
    if not isinstance(document, list):
        raise UserError(f'{where} is neither a list of captions nor {{clip: caption}}')
    return (caption_row(f'{where} entry {i}', entry) for i, entry in enumerate(document))


def _json_file_rows(path: Path) -> Iterator[Row]:
    return json_rows(str(path), parse_json(path, path.read_bytes()))


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for where, line in numbered_lines(path):
        yield caption_row(where, parse_json(where, line))


def caption_row(where: str, entry: Any) -> Row:
    """Read the clip and its caption or captions from a JSON object."""
    keys = [key for key in CLIP_KEYS if key in entry] if isinstance(entry, dict) else []
    captions = [key for key in ('caption', 'captions') if keys and key in entry]
    if len(captions) != 1:
        raise UserError(f'{where}: expected an object with image_id and caption')
    return where, entry[keys[0]], entry[captions[0]]


def _tsv_rows(path: Path) -> Iterator[Row]:
    for where, line in numbered_lines(path):
        cells = line.split('\t')
        if len(cells) < 2:
            raise UserError(f'{where}: expected clip<TAB>caption')
        if len(cells) > 2:
            # The third could be a score: as a part of the caption it would change every metric.
            raise UserError(
                f'{where}: expected clip<TAB>caption, found {len(cells)} columns: keep these two'
            )
        yield where, cells[0], _cell(cells[1])


def _cell(text: str) -> Any:
    """Parse a cell that holds JSON, such as [{"caption": ..., "conf": ...}]; keep other text.

    SwinBERT writes such cells. Scored as text, the keys would count as words.
    """
    if not text.lstrip().startswith(('[', '{')):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text  # a caption such as '[music] a man sings'


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding='utf-8-sig', newline='') as lines:
        try:
            rows = csv.reader(lines, delimiter=_separator(lines), strict=True)
            names = [name.strip().lower() for name in next(rows, [])]
            clip_column, caption_column = _columns(path, names)
            for row in rows:
                where = f'{path} line {rows.line_num}'
                if row and len(row) != len(names):
                    raise UserError(
                        f'{where} has {len(row)} fields and line 1 has {len(names)}: put captions '
                        'that hold the separator into double quotes'
                    )
                if row:
                    yield where, row[clip_column], row[caption_column]
        except csv.Error as error:
            raise UserError(f'{path} is not valid CSV ({error})') from None
        except UnicodeDecodeError as error:
            raise UserError(f'{path} is not UTF-8 text ({error}): save it as UTF-8') from None


def _separator(lines: TextIO) -> str:
    """Find the separator of the first line, a comma or a spreadsheet's semicolon, and rewind."""
    first = lines.readline()
    lines.seek(0)
    return ';' if ';' in first and ',' not in first else ','


def _columns(path: Path, names: Sequence[str]) -> tuple[int, int]:
    """Find the columns of clips and captions by the names in the first line."""
    clips = [i for i, name in enumerate(names) if name in [key.lower() for key in CLIP_KEYS]]
    captions = [i for i, name in enumerate(names) if name == 'caption']
    for what, found in (('clips', clips), ('captions', captions)):
        if len(found) != 1:
            raise UserError(
                f'{path} line 1 names {len(found)} columns of {what}: it must name one of '
                f'{", ".join(CLIP_KEYS)}, and caption'
            )
    return clips[0], captions[0]


_READERS = {
    '.json': _json_file_rows,
    '.jsonl': _jsonl_rows,
    '.tsv': _tsv_rows,
    '.txt': _tsv_rows,
    '.csv': _csv_rows,
}


def _is_whole(text: str) -> bool:
    """Whether text holds no lone half of a surrogate pair, which cannot be written to a file."""
    return not any('\ud800' <= character <= '\udfff' for character in text)
