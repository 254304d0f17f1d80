"""MSR-VTT annotations: 10,000 clips named video0 to video9999, with 20 captions each.

Train is video0-6512, validation video6513-7009, test video7010-9999.
"""

import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from stg_jax.data.text import normalise
from stg_jax.datasets.base import Annotations, Clean, differences, without_wordless
from stg_jax.datasets.text_files import holds_documents, read_documents
from stg_jax.errors import UserError

NUM_CLIPS = 10_000
# The official split of 2016; the challenge of 2017 has clips with higher numbers.
SPLITS = {'train': range(6513), 'val': range(6513, 7010), 'test': range(7010, NUM_CLIPS)}
_PUBLISHED = {split: (len(numbers), 20 * len(numbers)) for split, numbers in SPLITS.items()}
_NAME_IN_FILE = {'validate': 'val'}
_CLIP = re.compile(r'video(0|[1-9][0-9]{0,8})')


Sentence = tuple[str, str, Any]  # clip, sentence id, caption


def recognizes(path: Path) -> bool:
    """Whether a path is, or is a folder with, JSON files or zips, as no other data set's is."""
    return holds_documents(path)


def read(path: str | os.PathLike[str], clean: Clean = normalise) -> Annotations:
    """Read a JSON file, a zip that holds some, or a folder of both.

    Understood are `videodatainfo` (all in one, or train_val and test), COCO-style `images` and
    `annotations`, and the `{clip: {sentence id: caption}}` of hobincar. A sentence that is in two
    files counts once. Splits are the official ones, whatever the files say. Clips are in the order
    of their numbers, and the source of a clip is the YouTube id in its address.

    Raises:
      UserError: there is nothing to read, a file is broken or of another layout, a clip's number
        is above 9999, or a sentence comes twice with different words.
    """
    captions, videos = {}, {}
    # Keyed by sentence id, not a list: people keep the plain file beside its zip.
    for where, document in read_documents(path):
        if not isinstance(document, dict):
            raise UserError(f'{where} is a JSON {type(document).__name__}, not an object')
        _add_captions(captions, where, document, clean)
        videos |= {video['video_id']: video for video in _videos(where, document)}
    captions, notes = without_wordless(
        {clip: list(captions[clip].values()) for clip in sorted(captions, key=_number)}
    )
    splits = {
        split: {clip: texts for clip, texts in captions.items() if _number(clip) in numbers}
        for split, numbers in SPLITS.items()
    }
    return Annotations(
        data_set='msrvtt',
        splits=splits,
        number={f'video{number}': number for number in range(NUM_CLIPS)},
        source={clip: _source(video) for clip, video in videos.items() if _source(video)},
        notes=[*differences(splits, _PUBLISHED), *notes, *_other_splits(videos)],
    )


def _add_captions(
    captions: dict[str, dict[str, str]], where: str, document: Mapping[str, Any], clean: Clean
) -> None:
    """Add the captions of a document to {clip: {sentence id: cleaned caption}}."""
    here = set()
    for clip, sentence, text in _sentences(where, document):
        _check_clip(where, clip)
        if not isinstance(text, str):
            raise UserError(f'{where}: the caption {sentence} of {clip} is not text')
        text = clean(text)
        if captions.setdefault(clip, {}).setdefault(sentence, text) != text:
            if (clip, sentence) in here:
                raise UserError(
                    f'{where} has two captions of {clip} with the sentence id {sentence}: number '
                    'the sentences of a clip differently'
                )
            raise UserError(
                f'{where} and another file disagree about sentence {sentence} of {clip}: '
                'keep one of them'
            )
        here.add((clip, sentence))


def _sentences(where: str, document: Mapping[str, Any]) -> Iterator[Sentence]:
    """Yield the sentences of a document, whichever of the three layouts it has."""
    if 'sentences' in document:
        return _rows(where, document['sentences'], ('video_id', 'sen_id', 'caption'))
    if 'annotations' in document:
        return _coco_sentences(where, document)
    by_clip = document.values()
    if not document or not all(isinstance(texts, dict) for texts in by_clip):
        raise UserError(
            f'{where} is neither videodatainfo (videos, sentences) nor COCO-style (images, '
            'annotations) nor {clip: {sentence id: caption}}: remove it or name the right file'
        )
    return ((clip, *row) for clip, rows in document.items() for row in rows.items())


def _rows(where: str, rows: Any, keys: tuple[str, str, str]) -> Iterator[Sentence]:
    """Yield the sentences of a list of objects, which have the keys of a `Sentence`."""
    if not isinstance(rows, list):
        raise UserError(f'{where} has no list of captions: name the right file')
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(f'{where}: caption {number} is no object with {", ".join(keys)}')
        for key in keys:
            if row.get(key) is None:
                raise UserError(f'{where}: caption {number} has no {key}: add it')
        clip, sentence, text = (row[key] for key in keys)
        yield clip.strip() if isinstance(clip, str) else clip, str(sentence), text


def _coco_sentences(where: str, document: Mapping[str, Any]) -> Iterator[Sentence]:
    """Yield the sentences of a COCO-style document, whose images may be mere numbers."""
    images = _objects(where, document, 'images')
    name_of = {str(image.get('id')): str(image.get('file_name') or '') for image in images}
    rows = _rows(where, document['annotations'], ('image_id', 'id', 'caption'))
    for image, sentence, text in rows:
        # 7010, 'video7010' and 'videos/video7010.mp4' are one clip.
        name = PurePosixPath(name_of.get(str(image)) or str(image)).stem
        yield f'video{int(name)}' if name.isdecimal() else name, sentence, text


def _objects(where: str, document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Check that an entry of a document is a list of objects; an absent one is empty."""
    objects = document.get(key, [])
    if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
        raise UserError(f'{where}: {key!r} is no list of objects')
    return objects


def _videos(where: str, document: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Check and return what a document says about each clip besides its captions."""
    videos = _objects(where, document, 'videos') if 'sentences' in document else []
    for video in videos:
        _check_clip(where, video.get('video_id'))
    return videos


def _check_clip(where: str, clip: Any) -> None:
    if not isinstance(clip, str) or not _CLIP.fullmatch(clip):
        raise UserError(f'{where}: a clip is called {clip!r}, expected videoN')
    if _number(clip) >= NUM_CLIPS:
        raise UserError(
            f'{where} names {clip}, but MSR-VTT ends at video{NUM_CLIPS - 1}: this is the release '
            'of the 2017 challenge, use that of 2016'
        )


def _number(clip: str) -> int:
    return int(clip.removeprefix('video'))


def _source(video: Mapping[str, Any]) -> str:
    """Extract the YouTube id from a clip's address; another address is kept whole."""
    address = str(video.get('url') or '')
    try:
        query = urllib.parse.urlsplit(address).query
    except ValueError:  # brackets that enclose no IP address
        return address
    return urllib.parse.parse_qs(query).get('v', [address])[0]


def _other_splits(videos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Note that clips are in another split than the official one, if some are."""
    # Files were found that divide the clips anew, under the names of the official splits.
    moved = []
    for clip, video in videos.items():
        named = video.get('split')
        official = next(split for split, numbers in SPLITS.items() if _number(clip) in numbers)
        if named is not None and _NAME_IN_FILE.get(str(named), named) != official:
            moved.append(f'{clip} in {named} instead of {official}')
    if not moved:
        return []
    return [f'{len(moved):,} clips are in another split than the official, such as {moved[0]}']
