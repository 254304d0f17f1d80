"""MSVD annotations: captions by clip name, and the official split.

A clip is named `<youtube id>_<start>_<end>`; `vidK` is the clip of rank K = 1..1970 among all names
in ASCII order. Train is vid1-1200, validation vid1201-1300, test vid1301-1970.
"""

import collections
import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from stg_jax.data.text import normalise
from stg_jax.errors import UserError

NUM_CLIPS = 1970
SPLITS = {'train': range(1, 1201), 'val': range(1201, 1301), 'test': range(1301, 1971)}
MAPPING = 'youtube_mapping.txt'
_SENTENCES = 'sents_*_lc_nopunc.txt'
_CORPUS_COLUMNS = ('VideoID', 'Start', 'End', 'Language', 'Description')


def read_splits(folder: str | os.PathLike[str]) -> dict[str, dict[str, list[str]]]:
    """Read every annotation file of `folder`: {split: {clip name: normalised captions}}.

    Understood are `sents_{train,val,test}_lc_nopunc.txt` (`vidN<TAB>caption`) with
    `youtube_mapping.txt` (`<clip> vidN`), and the rows of the MSVD corpus (`*.csv`), of which the
    English ones count. A clip in both keeps the captions of the first. Without a mapping, the ranks
    come from the names of a corpus that holds all clips. Clips are in the order of their numbers.

    Raises:
      UserError: there is nothing to read, a line is broken, or a clip has no known number.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'the annotations folder {folder} does not exist')
    corpus = read_corpus(sorted(folder.glob('*.csv')))
    number = _numbers(folder, corpus)
    name = {number: clip for clip, number in number.items()}
    captions = {}
    for path in sorted(folder.glob(_SENTENCES)):
        for vid, sentences in read_sentences(path).items():
            if vid not in name:
                raise UserError(f'{path} names vid{vid}, which {MAPPING} does not list')
            captions[name[vid]] = sentences
    captions = corpus | captions
    if not captions:
        raise UserError(f'{folder} holds no captions: expected {_SENTENCES} or the corpus as *.csv')
    return _divide(captions, number)


def read_mapping(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read `<clip> vidK` lines: {clip name: K}.

    Raises:
      UserError: a line is broken, or a complete mapping is not in ASCII order.
    """
    number = {}
    for where, line in _lines(path):
        clip, _, vid = line.partition(' ')
        number[clip] = _vid(vid.strip(), where)
    ranks = {clip: rank for rank, clip in enumerate(sorted(number), 1)}
    if len(number) == NUM_CLIPS and number != ranks:
        wrong = next(clip for clip in number if number[clip] != ranks[clip])
        raise UserError(
            f'{path} maps {wrong} to vid{number[wrong]}, but its rank is {ranks[wrong]}: '
            'use the original mapping, or the splits would differ from everybody else'
        )
    return number


def read_sentences(path: str | os.PathLike[str]) -> dict[int, list[str]]:
    """Read `vidK<TAB>caption` lines: {K: captions}.

    Raises:
      UserError: a line is broken.
    """
    captions = collections.defaultdict(list)
    for where, line in _lines(path):
        vid, tab, caption = line.partition('\t')
        if not tab:
            raise UserError(f'{where}: expected vidN<TAB>caption')
        captions[_vid(vid, where)].append(normalise(caption))
    return dict(captions)


def read_corpus(paths: list[Path]) -> dict[str, list[str]]:
    """Read the English rows of corpus files: {clip name: normalised captions}.

    Raises:
      UserError: a file lacks a column or is no CSV.
    """
    captions = collections.defaultdict(list)
    for path in paths:
        with path.open(encoding='utf-8-sig', errors='replace', newline='') as lines:
            rows = csv.DictReader(lines)
            lacking = [name for name in _CORPUS_COLUMNS if name not in (rows.fieldnames or ())]
            if lacking:
                raise UserError(f'{path} is not the MSVD corpus: it lacks the column {lacking[0]}')
            for row in rows:
                if row['Language'] == 'English' and row['Description']:
                    clip = f'{row["VideoID"]}_{row["Start"]}_{row["End"]}'
                    captions[clip].append(normalise(row['Description']))
    return dict(captions)


def _numbers(folder: Path, corpus: Mapping[str, list[str]]) -> dict[str, int]:
    if (folder / MAPPING).exists():
        return read_mapping(folder / MAPPING)
    if len(corpus) == NUM_CLIPS:
        return {clip: rank for rank, clip in enumerate(sorted(corpus), 1)}
    raise UserError(
        f'{folder / MAPPING} is missing, and there is no corpus of all {NUM_CLIPS} clips to '
        'number them by: add the file'
    )


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


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Yield ('file line N', text) of every line with text in it."""
    try:
        text = Path(path).read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is not UTF-8 text ({error})') from None
    for count, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield f'{path} line {count}', line


def _vid(text: str, where: str) -> int:
    digits = text.removeprefix('vid')
    if digits == text or not digits.isdecimal() or not 1 <= int(digits) <= NUM_CLIPS:
        raise UserError(f'{where}: expected vid1 to vid{NUM_CLIPS}, found {text!r}')
    return int(digits)
