"""MSR-VTT annotations: 10,000 clips named video0 to video9999, with 20 captions each.

Train is video0-6512, validation video6513-7009, test video7010-9999.
"""

import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from stg_jax.data.text import normalise
from stg_jax.datasets.base import Annotations, differences, without_wordless
from stg_jax.datasets.text_files import read_documents
from stg_jax.errors import UserError

NUM_CLIPS = 10_000
SPLITS = {'train': range(6513), 'val': range(6513, 7010), 'test': range(7010, NUM_CLIPS)}
_PUBLISHED = {split: (len(numbers), 20 * len(numbers)) for split, numbers in SPLITS.items()}
_NAME_IN_FILE = {'validate': 'val'}
_CLIP = re.compile(r'video(0|[1-9][0-9]{0,8})')


def read(path: str | os.PathLike[str], clean: Callable[[str], str] = normalise) -> Annotations:
    """Read a JSON file, a zip that holds some, or a folder of both.

    Understood are `videodatainfo` (all in one, or train_val and test) and the
    `{clip: {sentence id: caption}}` of hobincar. A sentence that is in two files counts once.
    Splits are the official ones, whatever the files say. Clips are in the order of their numbers,
    and the source of a clip is the YouTube id in its address.

    Raises:
      UserError: there is nothing to read, a file is broken or of another layout, a clip's number
        is above 9999, or two files disagree about a sentence.
    """
    captions, videos = {}, {}
    for where, document in read_documents(path):
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
    captions: dict[str, dict[str, str]],
    where: str,
    document: Mapping[str, Any],
    clean: Callable[[str], str],
) -> None:
    """Add the captions of a document to {clip: {sentence id: cleaned caption}}."""
    for clip, sentence, text in _sentences(where, document):
        _check_clip(where, clip)
        if not isinstance(text, str):
            raise UserError(f'{where}: the caption {sentence} of {clip} is not text')
        text = clean(text)
        if captions.setdefault(clip, {}).setdefault(sentence, text) != text:
            raise UserError(
                f'{where} and another file disagree about sentence {sentence} of {clip}: '
                'keep one of them'
            )


def _sentences(where: str, document: Mapping[str, Any]) -> list[tuple[Any, str, Any]]:
    """Return the (clip, sentence id, caption) of a document, whichever of the two layouts."""
    try:
        if 'sentences' in document:
            rows = document['sentences']
            return [(row['video_id'], str(row['sen_id']), row['caption']) for row in rows]
        return [(clip, *row) for clip, rows in document.items() for row in rows.items()]
    except (AttributeError, KeyError, TypeError):
        raise UserError(
            f'{where} is neither videodatainfo (videos, sentences) nor '
            '{clip: {sentence id: caption}}: remove it or name the right file'
        ) from None


def _videos(where: str, document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a document says about each clip besides its captions."""
    videos = document.get('videos', []) if 'sentences' in document else []
    if not isinstance(videos, list) or not all(isinstance(video, dict) for video in videos):
        raise UserError(f'{where}: "videos" is no list of objects')
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
    """Return the YouTube id in a clip's address, or all of another address."""
    address = str(video.get('url', ''))
    return urllib.parse.parse_qs(urllib.parse.urlsplit(address).query).get('v', [address])[0]


def _other_splits(videos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a note if clips are in another split than the official one."""
    moved = []
    for clip, video in videos.items():
        named = video.get('split')
        official = next(split for split, numbers in SPLITS.items() if _number(clip) in numbers)
        if named is not None and _NAME_IN_FILE.get(named, named) != official:
            moved.append(f'{clip} in {named} instead of {official}')
    if not moved:
        return []
    return [f'{len(moved):,} clips are in another split than the official, such as {moved[0]}']
