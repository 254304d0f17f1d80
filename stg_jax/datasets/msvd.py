"""MSVD annotations: captions by clip name, and the official split.

A clip is named `<youtube id>_<start>_<end>`; `vidK` is the clip of rank K = 1..1970 among all names
in ASCII order. Train is vid1-1200, validation vid1201-1300, test vid1301-1970.
"""

import collections
import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stg_jax import files
from stg_jax.data.text import normalise
from stg_jax.datasets.base import Annotations, Clean, differences, without_wordless
from stg_jax.datasets.text_files import LATIN1, numbered_lines
from stg_jax.errors import UserError

NUM_CLIPS = 1970
# As in Venugopalan et al. (2015), which later work follows.
SPLITS = {'train': range(1, 1201), 'val': range(1201, 1301), 'test': range(1301, 1971)}
MAPPING = 'youtube_mapping.txt'
_PUBLISHED = {'train': (1200, 48774), 'val': (100, 4290), 'test': (670, 27763)}
_SENTENCES = 'sents_*_lc_nopunc.txt'
_DESCRIPTIONS = 'AllVideoDescriptions.txt'
_CORPUS_COLUMNS = ('VideoID', 'Start', 'End', 'Language', 'Description')
_KINDS = (_SENTENCES, _DESCRIPTIONS, '*.csv')
_CLIP = re.compile(r'\S+_\d+_\d+')
# The corpus writes English; copies that passed through other tools write codes.
_ENGLISH = re.compile(r'(.*\W)?english(\W.*)?|eng?|en[-_]\w+', re.IGNORECASE)


def recognizes(path: Path) -> bool:
    """Whether a file, or a file of a folder, has the name or the columns of MSVD captions."""
    sentences, descriptions, tables = _sort(path)
    return bool(sentences or descriptions) or any(map(_is_corpus, tables))


def _is_corpus(path: Path) -> bool:
    # One's own captions are a CSV file as well: only the first line sets them apart.
    with path.open(encoding='utf-8-sig', errors='replace', newline='') as lines:
        return _CORPUS_COLUMNS[0] in lines.readline(1 << 16)


def read(path: str | os.PathLike[str], clean: Clean = normalise) -> Annotations:
    """Read every annotation file of a folder, or one file with the mapping beside it.

    Understood are `sents_{train,val,test}_lc_nopunc.txt` (`vidK<TAB>caption`) with
    `youtube_mapping.txt` (`<clip> vidK`), `AllVideoDescriptions.txt` (`<clip> <caption>`), and the
    English rows of the MSVD corpus (`*.csv`). A clip in several keeps the captions of the first
    kind. Without a mapping, the ranks come from files that name all clips. Clips are in the order
    of their numbers, and the source of a clip is its YouTube id.

    Raises:
      UserError: there is nothing to read, a line is broken, or a clip has no known number.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f'the MSVD annotations {path} do not exist: name their folder')
    sentences, descriptions, corpora = _sort(path)
    if path.is_file() and not (sentences or descriptions or corpora):
        # A mapping, for example: the words that follow its names are no captions.
        raise UserError(
            f'{path} is not called like MSVD captions, {", ".join(_KINDS)}: name one of those '
            'files or their folder'
        )
    # The sentences win over the others: they are what published results were computed with.
    named = read_corpus(corpora, clean) | read_descriptions(descriptions, clean)
    number = _numbers(path, named)
    numbered = _named(read_sentences(sentences, clean), number)
    captions, notes = without_wordless(named | numbered)
    if not captions:
        raise UserError(f'{path} holds no captions: expected {" or ".join(_KINDS)}')
    splits = _divide(captions, number)
    return Annotations(
        data_set='msvd',
        splits=splits,
        number={clip: vid - 1 for clip, vid in number.items()},
        source={clip: clip.rsplit('_', 2)[0] for clip in number},
        notes=[*differences(splits, _PUBLISHED), *notes],
    )


def read_mapping(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read `<clip> vidK` lines, separated by blanks or a tab: {clip name: K}.

    Raises:
      UserError: a line is broken, a clip comes twice, two clips share a number, or a complete
        mapping is not in ASCII order.
    """
    number = {}
    for where, line in numbered_lines(path):
        clip, *rest = line.split()
        vid = _vid(' '.join(rest), where)
        if number.setdefault(clip, vid) != vid:
            raise UserError(f'{where}: {clip} is vid{number[clip]} already: keep one of the lines')
    for vid, count in collections.Counter(number.values()).most_common(1):
        if count > 1:
            raise UserError(f'{path} gives vid{vid} to {count} clips: use the original mapping')
    # A mapping in another order would shuffle clips between the splits, and nobody would notice:
    # scores stay plausible.
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
            captions[_vid(vid.strip(), where)].append(clean(caption))
    return captions


def read_descriptions(paths: Sequence[Path], clean: Clean = normalise) -> dict[str, list[str]]:
    """Read `<clip> <caption>` lines under a heading of `#` lines: {clip: cleaned captions}.

    Raises:
      UserError: a line is broken.
    """
    captions = collections.defaultdict(list)
    for path in paths:
        # The original file mixes encodings from line to line.
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
      UserError: a file lacks a column, has no English row, or a row is broken.
    """
    captions = collections.defaultdict(list)
    for path in paths:
        languages = collections.Counter()
        for row in _corpus_rows(path):
            language = row['Language'].strip()
            languages[language] += 1
            if _ENGLISH.fullmatch(language) and row['Description']:
                clip = '_'.join(row[name].strip() for name in ('VideoID', 'Start', 'End'))
                captions[clip].append(clean(row['Description']))
        if languages and not any(map(_ENGLISH.fullmatch, languages)):
            others = ', '.join(repr(name) for name, _ in languages.most_common(3))
            raise UserError(f'{path} has no row whose Language is English, only {others}')
    return captions


def _corpus_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a corpus file; what follows a comma in the last column belongs to it."""
    with path.open(encoding='utf-8-sig', errors=LATIN1, newline='') as lines:
        rows = csv.reader(lines)
        try:
            names = [name.strip() for name in next(rows, [])]
            _check_columns(path, names)
            before = rows.line_num
            for row in filter(None, rows):
                where = f'{path} line {before + 1}'
                before = rows.line_num
                if len(row) > len(names) and names[-1] == 'Description':
                    # Some copies of the corpus lost their quotes, and with them every caption
                    # that holds a comma fell apart.
                    row[len(names) - 1 :] = [','.join(row[len(names) - 1 :])]
                if len(row) != len(names):
                    raise UserError(
                        f'{where} has {len(row)} fields, but the first line {len(names)}: put '
                        'captions with a comma into double quotes'
                    )
                _check_quotes(where, row, len(names))
                yield dict(zip(names, row, strict=True))
        except csv.Error as error:
            raise UserError(f'{path} line {rows.line_num} is no CSV ({error})') from None


def _check_quotes(where: str, row: Sequence[str], num_columns: int) -> None:
    """Refuse a field that a stray double quote made swallow the rows after it."""
    for field in row:
        # Captions of several lines are fine, the corpus has a few; but a line with the commas of a
        # whole row is one.
        for line in field.splitlines()[1:]:
            if line.count(',') >= num_columns - 1:
                raise UserError(
                    f'{where}: a double quote opens a caption that ends in a later row: write it '
                    'twice inside of double quotes, or remove it'
                )


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for name in _CORPUS_COLUMNS:
        if name not in columns:
            raise UserError(f'{path} is not the MSVD corpus: it lacks the column {name}')
        if columns.count(name) > 1:
            raise UserError(f'{path} has two columns called {name}: remove one of them')


def _sort(path: Path) -> tuple[list[Path], ...]:
    """Sort a file, or those of a folder, into sentences, descriptions and corpus."""
    if path.is_dir():
        return tuple(sorted(files.visible(path.glob(kind))) for kind in _KINDS)
    return tuple([path] if path.match(kind) else [] for kind in _KINDS)


def _numbers(path: Path, named: Mapping[str, list[str]]) -> dict[str, int]:
    mapping = (path if path.is_dir() else path.parent) / MAPPING
    if mapping.exists():
        return read_mapping(mapping)
    # Numbers are ranks among all names, so that fewer clips cannot be numbered.
    if len(named) == NUM_CLIPS:
        return {clip: rank for rank, clip in enumerate(sorted(named), 1)}
    raise UserError(
        f'{mapping} is missing, and no other file names all {NUM_CLIPS} clips to number them by: '
        'add the file'
    )


def _named(captions: Mapping[int, list[str]], number: Mapping[str, int]) -> dict[str, list[str]]:
    """Name the clips of captions that are known by number."""
    clip_of = {vid: clip for clip, vid in number.items()}
    for vid in captions:
        if vid not in clip_of:
            raise UserError(f'there are sentences of vid{vid}, which {MAPPING} does not list')
    return {clip_of[vid]: texts for vid, texts in captions.items()}


def _divide(
    captions: Mapping[str, list[str]], number: Mapping[str, int]
) -> dict[str, dict[str, list[str]]]:
    # Leaving unknown clips out would be silent: their names differ, or the mapping is another one.
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
