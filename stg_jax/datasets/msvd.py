"""MSVD annotations: captions by clip name, and the official split.

A clip is named `<youtube id>_<start>_<end>`; `vidK` is the clip of rank K = 1..1970 among all names
in ASCII order. Train is vid1-1200, validation vid1201-1300, test vid1301-1970.
"""

import collections
import csv
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stg_jax.data.text import normalise
from stg_jax.datasets.base import Annotations, differences, without_wordless
from stg_jax.datasets.text_files import LATIN1, numbered_lines
from stg_jax.errors import UserError

NUM_CLIPS = 1970
SPLITS = {'train': range(1, 1201), 'val': range(1201, 1301), 'test': range(1301, 1971)}
MAPPING = 'youtube_mapping.txt'
_PUBLISHED = {'train': (1200, 48774), 'val': (100, 4290), 'test': (670, 27763)}
_SENTENCES = 'sents_*_lc_nopunc.txt'
_DESCRIPTIONS = 'AllVideoDescriptions.txt'
_CORPUS_COLUMNS = ('VideoID', 'Start', 'End', 'Language', 'Description')
_CLIP = re.compile(r'\S+_\d+_\d+')

Clean = Callable[[str], str]


def read(path: str | os.PathLike[str], clean: Clean = normalise) -> Annotations:
    """Read every annotation file of a folder, or one file with the mapping beside it.

    Understood are `sents_{train,val,test}_lc_nopunc.txt` (`vidK<TAB>caption`) with
    `youtube_mapping.txt` (`<clip> vidK`), `AllVideoDescriptions.txt` (`<clip> <caption>`), and the
    MSVD corpus (`*.csv`), of which the English rows count. A clip in several keeps the captions of
    the first kind. Without a mapping, the ranks come from files that name all clips. Clips are in
    the order of their numbers, and the source of a clip is its YouTube id.

    Raises:
      UserError: there is nothing to read, a line is broken, or a clip has no known number.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f'the MSVD annotations {path} do not exist: name their folder')
    sentences, descriptions, corpora = _sort(path)
    named = read_corpus(corpora, clean) | read_descriptions(descriptions, clean)
    number = _numbers(path, named)
    numbered = _named(read_sentences(sentences, clean), number)
    captions, notes = without_wordless(named | numbered)
    if not captions:
        raise UserError(
            f'{path} holds no captions: expected {_SENTENCES}, {_DESCRIPTIONS} or *.csv'
        )
    splits = _divide(captions, number)
    return Annotations(
        data_set='msvd',
        splits=splits,
        number={clip: vid - 1 for clip, vid in number.items()},
        source={clip: clip.rsplit('_', 2)[0] for clip in number},
        notes=[*differences(splits, _PUBLISHED), *notes],
    )


def read_mapping(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read `<clip> vidK` lines: {clip name: K}.

    Raises:
      UserError: a line is broken, two clips share a number, or a complete mapping is not in ASCII
        order.
    """
    number = {}
    for where, line in numbered_lines(path):
        clip, _, vid = line.partition(' ')
        number[clip] = _vid(vid.strip(), where)
    for vid, count in collections.Counter(number.values()).most_common(1):
        if count > 1:
            raise UserError(f'{path} gives vid{vid} to {count} clips: use the original mapping')
    ranks = {clip: rank for rank, clip in enumerate(sorted(number), 1)}
    if len(number) == NUM_CLIPS and number != ranks:
        wrong = next(clip for clip in number if number[clip] != ranks[clip])
        raise UserError(
            f'{path} maps {wrong} to vid{number[wrong]}, but its rank is {ranks[wrong]}: '
            'use the original mapping, or the splits would differ from everybody else'
        )
    return number


def read_sentences(paths: Sequence[Path], clean: Clean = normalise) -> dict[int, list[str]]:
    """Read `vidK<TAB>caption` lines: {K: cleaned captions}.

    Raises:
      UserError: a line is broken.
    """
    captions = collections.defaultdict(list)
    for path in paths:
        for where, line in numbered_lines(path):
            vid, tab, caption = line.partition('\t')
            if not tab:
                raise UserError(f'{where}: expected vidN<TAB>caption')
            captions[_vid(vid, where)].append(clean(caption))
    return captions


def read_descriptions(paths: Sequence[Path], clean: Clean = normalise) -> dict[str, list[str]]:
    """Read `<clip> <caption>` lines under a heading of `#` lines: {clip: cleaned captions}.

    Raises:
      UserError: a line is broken.
    """
    captions = collections.defaultdict(list)
    for path in paths:
        for where, line in numbered_lines(path, errors=LATIN1):
            if line.startswith('#'):
                continue
            clip, *caption = line.split(None, 1)
            if not _CLIP.fullmatch(clip):
                raise UserError(f'{where}: expected <youtube id>_<start>_<end> and a caption')
            captions[clip].append(clean(''.join(caption)))
    return captions


def read_corpus(paths: Sequence[Path], clean: Clean = normalise) -> dict[str, list[str]]:
    """Read the English rows of corpus files: {clip: cleaned captions}.

    Raises:
      UserError: a file lacks a column or is no CSV.
    """
    captions = collections.defaultdict(list)
    for path in paths:
        with path.open(encoding='utf-8-sig', errors=LATIN1, newline='') as lines:
            rows = csv.DictReader(lines)
            try:
                _check_columns(path, rows.fieldnames)
                for row in rows:
                    if row['Language'] == 'English' and row['Description']:
                        clip = f'{row["VideoID"]}_{row["Start"]}_{row["End"]}'
                        captions[clip].append(clean(row['Description']))
            except csv.Error as error:
                raise UserError(f'{path} line {rows.reader.line_num} is no CSV ({error})') from None
    return captions


def _check_columns(path: Path, columns: Sequence[str] | None) -> None:
    lacking = [name for name in _CORPUS_COLUMNS if name not in (columns or ())]
    if lacking:
        raise UserError(f'{path} is not the MSVD corpus: it lacks the column {lacking[0]}')


def _sort(path: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Return the files of sentences, of descriptions and of the corpus.

    Raises:
      UserError: a file is called like none of them: what follows its names may be no captions.
    """
    kinds = (_SENTENCES, _DESCRIPTIONS, '*.csv')
    if path.is_dir():
        return tuple(sorted(path.glob(kind)) for kind in kinds)
    if not any(map(path.match, kinds)):
        raise UserError(
            f'{path} is not called like MSVD captions, {", ".join(kinds)}: name one of those files '
            'or their folder'
        )
    return tuple([path] if path.match(kind) else [] for kind in kinds)


def _numbers(path: Path, named: Mapping[str, list[str]]) -> dict[str, int]:
    mapping = (path if path.is_dir() else path.parent) / MAPPING
    if mapping.exists():
        return read_mapping(mapping)
    if len(named) == NUM_CLIPS:
        return {clip: rank for rank, clip in enumerate(sorted(named), 1)}
    raise UserError(
        f'{mapping} is missing, and no other file names all {NUM_CLIPS} clips to number them by: '
        'add the file'
    )


def _named(captions: Mapping[int, list[str]], number: Mapping[str, int]) -> dict[str, list[str]]:
    """Return captions by clip instead of by number."""
    clip_of = {vid: clip for clip, vid in number.items()}
    for vid in captions:
        if vid not in clip_of:
            raise UserError(f'there are sentences of vid{vid}, which {MAPPING} does not list')
    return {clip_of[vid]: texts for vid, texts in captions.items()}


def _divide(
    captions: Mapping[str, list[str]], number: Mapping[str, int]
) -> dict[str, dict[str, list[str]]]:
    splits = {split: {} for split in SPLITS}
    for clip in captions:
        if clip not in number:
            raise UserError(f'clip {clip} has captions, but {MAPPING} does not list it')
    for clip in sorted(captions, key=number.__getitem__):
        split = next(split for split, numbers in SPLITS.items() if number[clip] in numbers)
        splits[split][clip] = captions[clip]
    return splits


def _vid(text: str, where: str) -> int:
    digits = text.removeprefix('vid')
    if digits == text or not digits.isdecimal() or not 1 <= int(digits) <= NUM_CLIPS:
        raise UserError(f'{where}: expected vid1 to vid{NUM_CLIPS}, found {text!r}')
    return int(digits)
