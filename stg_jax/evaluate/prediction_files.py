"""Captions of any system, one for each clip, from the files that people exchange.

.json         COCO results, [{"image_id": ..., "caption": ...}, ...], or {clip: caption}
.jsonl        one such object a line; the clip may be called clip, image_id, video_id or video
.tsv, .txt    clip<TAB>caption
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stg_jax.data.annotations.text_lines import numbered_lines
from stg_jax.errors import UserError

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


def parse_json(where: str | os.PathLike[str], text: str | bytes) -> Any:
    """Parse JSON in which no object has a key twice.

    Raises:
      UserError: it is not such JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _as_dict(where, pairs))
    except (ValueError, RecursionError) as error:
        raise UserError(f'{where} is not valid JSON ({error})') from None


def _as_dict(where: str | os.PathLike[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise UserError(f'{where} has {twice!r} twice in one object: keep one of them')
    return found


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
