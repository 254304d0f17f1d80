"""VATEX annotations: 10 English captions of each of 41,250 ten-second clips of YouTube videos.

A clip is named `<youtube id>_<start>_<end>`. Each split is a file of its own.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

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
from stg_jax.datasets.text_files import holds_documents, read_documents
from stg_jax.errors import UserError

_LIST_OF_CLIPS = re.compile(rb'\s*\[\s*\{[^{}]*"videoID"')


def recognizes(path: Path) -> bool:
    """Whether a JSON file, or one of a folder, begins like a list of VATEX clips."""
    if path.is_dir():
        return any(map(recognizes, files.visible(path.glob('*.json'))))
    if path.suffix.lower() != '.json' or not holds_documents(path):
        return False
    with path.open('rb') as file:
        return bool(_LIST_OF_CLIPS.match(file.read(1 << 16)))


def read(path: str | os.PathLike[str], clean: Clean = normalise) -> Annotations:
    """Read JSON files, plain or zipped, each a list of `videoID` and `enCap`.

    The name of a file says which split it is: it holds `train`, `val` or `test`; where no name
    does, the SHA-256 of the clip ids decides. Chinese captions (`chCap`) are not read: their words
    would have to be separated first. Clips without English captions, such as those of the private
    test, are left out.

    Raises:
      UserError: there is nothing to read, a file is broken or of another layout, or a clip is in
        two splits.
    """
    captions: dict[str, list[str]] = {}
    split_of: dict[str, str] = {}
    for where, document in read_documents(path):
        split = _split(where)
        for clip, texts in _clips(where, document):
            if split_of.setdefault(clip, split) != split:
                both = ' and '.join(name or 'none' for name in (split_of[clip], split))
                raise UserError(f'{where}: clip {clip} is in two splits, {both}: choose one')
            captions.setdefault(clip, []).extend(map(clean, texts))
    kept, notes = without_wordless(captions)
    # A clip without words can neither be learned from nor scored.
    captions = {clip: texts for clip, texts in kept.items() if texts}
    if not captions:
        raise UserError(f'{path} holds no English caption (enCap)')
    if len(captions) < len(kept):
        without = len(kept) - len(captions)
        notes.append(f'{without:,} clips without English captions are left out')
    if not any(split_of.values()):
        split_of = split_by_hash(captions)
        notes.append(SPLIT_BY_HASH)
    splits: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    for clip, texts in captions.items():
        if not split_of[clip]:
            raise UserError(f'{path}: no file name says the split of {clip}, but others do: rename')
        splits[split_of[clip]][clip] = texts
    source = {clip: clip.rsplit('_', 2)[0] for clip in captions}
    return Annotations('vatex', splits, number={}, source=source, notes=notes)


def _split(where: str) -> str:
    """Find the split in the name of a file, '' where it says none."""
    # vatex_training, vatex_validation, vatex_public_test: the entries themselves name no split.
    name = PurePosixPath(where).name.lower()
    found = [split for split in SPLITS if split in name]
    return found[0] if len(found) == 1 else ''


def _clips(where: str, document: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield each clip with its English captions, perhaps none."""
    if not isinstance(document, list):
        raise UserError(f'{where} is no list of clips with videoID and enCap: name the right file')
    for number, entry in enumerate(document, 1):
        if not isinstance(entry, Mapping) or not isinstance(entry.get('videoID'), str):
            raise UserError(f'{where}: entry {number} is no object with a videoID')
        texts = entry.get('enCap') or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UserError(f'{where}: enCap of {entry["videoID"]} is no list of captions')
        clip = entry['videoID'].strip()
        check_clip_id(where, clip)
        yield clip, texts
