"""The data card: counts over the clips of each split, as JSON and as a page of text."""

import collections
import dataclasses
import os
import statistics
from collections.abc import Container, Iterator, Mapping, Sequence

from stg_jax import files
from stg_jax.data.clip import Clip
from stg_jax.data.manifest import Manifest

NAME = 'data_card.json'
# One sentence per damaged clip would fill the screen.
_MOST_LINES = 12  # of a list on the page; the JSON file has all


@dataclasses.dataclass(frozen=True)
class SplitCard:
    """Statistics of one split, as far as it could be read.

    Attributes:
      clips: number of clips.
      captions: number of captions.
      captions_per_clip: minimum, median and maximum.
      clips_without_captions: number of them.
      sources: number of source videos that clips were cut from, 0 if unknown.
      words: number of words in all captions.
      different_words: number of different words.
      words_per_caption: minimum, median and maximum.
      captions_cut: captions that are longer than the model reads.
      known_words: fraction of the words that are in the vocabulary of train.
      known_different_words: fraction of the different words that are in it.
      unknown_words: the most frequent words outside the vocabulary, with their counts.
      objects_per_frame: number of frames with 0, 1, 2, ... objects.
      labels: the most frequent object classes, with their counts.
      different_labels: number of object classes.
    """

    clips: int
    captions: int
    captions_per_clip: tuple[float, float, float]
    clips_without_captions: int
    sources: int
    words: int
    different_words: int
    words_per_caption: tuple[float, float, float]
    captions_cut: int
    known_words: float
    known_different_words: float
    unknown_words: Mapping[str, int]
    objects_per_frame: Sequence[int]
    labels: Mapping[int, int]
    different_labels: int


@dataclasses.dataclass(frozen=True)
class DataCard:
    """Statistics of a data folder, and what verification found.

    Attributes:
      folder: as named by the user.
      manifest: of the folder.
      max_words: maximum number of words of a caption that the model reads.
      min_count: occurrences in train from which on a word is in the vocabulary.
      splits: statistics of each split, by name.
      problems: errors in the data, one sentence each.
      remarks: unusual, but valid data, one sentence each.
      contact_sheet: path of the image of clips with their boxes, '' if there is none.
    """

    folder: str
    manifest: Manifest
    max_words: int
    min_count: int
    splits: Mapping[str, SplitCard]
    problems: Sequence[str]
    remarks: Sequence[str]
    contact_sheet: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the card as JSON."""
        manifest = dataclasses.asdict(self.manifest)
        # The ids are in the manifest; the card counts them.
        manifest['missing'] = {kind: len(ids) for kind, ids in self.manifest.missing.items()}
        files.write_json(path, dataclasses.asdict(self) | {'manifest': manifest})

    def text(self) -> str:
        """Format the card as a page of text; names and captions are escaped."""
        lines = [*self._heading(), *self._splits(), *self._words(), *self._objects()]
        lines += _listed('problems', self.problems) + _listed('remarks', self.remarks)
        if self.contact_sheet:
            lines.append(f'boxes      {self.contact_sheet}')
        return '\n'.join(map(_printable, lines))

    def _heading(self) -> Iterator[str]:
        manifest = self.manifest
        yield (
            f'{self.folder}: {manifest.data_set}, {manifest.frames} frames with at most '
            f'{manifest.objects} objects, features by {manifest.extractor.get("name", "unknown")}'
        )
        for kind, width in manifest.widths.items():
            lacking = len(manifest.missing.get(kind, ()))
            without = f', {lacking:,} clips without' if lacking else ''
            cells = f'{manifest.cells} cells of ' if kind == 'grid' else ''
            deviation = f'deviation {manifest.scale[kind]:.3g}'
            yield f'{kind:<10} {cells}{width} channels, {deviation}{without}'

    def _splits(self) -> Iterator[str]:
        yield f'{"split":<10} clips  captions  per clip (least median most)  without  source videos'
        for name, card in self.splits.items():
            per_clip = ' '.join(f'{number:g}' for number in card.captions_per_clip)
            yield (
                f'{name:<10} {card.clips:>5}  {card.captions:>8}  {per_clip:>28}  '
                f'{card.clips_without_captions:>7}  {card.sources or "unknown":>13}'
            )

    def _words(self) -> Iterator[str]:
        yield f'{"words":<10} in train at least {self.min_count} times: known'
        for name, card in self.splits.items():
            least, median, most = card.words_per_caption
            yield (
                f'  {name:<8} {least:g} to {most:g} a caption, median {median:g}; '
                f'{card.captions_cut:,} captions have more than {self.max_words}'
            )
            yield (
                f'  {"":<8} known: {card.known_words:.1%} of {card.words:,}, and '
                f'{card.known_different_words:.1%} of {card.different_words:,} different ones'
            )
            rare = ', '.join(f'{word} {count}' for word, count in card.unknown_words.items())
            # Words that are too rare in train are expected there; in val and test they limit the
            # scores.
            if rare and name != 'train':
                yield f'  {"":<8} unknown: {rare}'

    def _objects(self) -> Iterator[str]:
        yield f'{"objects":<10} share of frames by number of objects'
        for name, card in self.splits.items():
            total = max(1, sum(card.objects_per_frame))
            shares = '  '.join(
                f'{number}: {count / total:.0%}'
                for number, count in enumerate(card.objects_per_frame)
                if count
            )
            labels = ', '.join(f'{label} ({count:,})' for label, count in card.labels.items())
            yield f'  {name:<8} {shares}'
            if labels:
                yield f'  {"":<8} {card.different_labels} classes, most often {labels}'


def _listed(title: str, sentences: Sequence[str]) -> list[str]:
    lines = [f'  - {sentence}' for sentence in sentences[:_MOST_LINES]]
    if len(sentences) > _MOST_LINES:
        lines.append(f'  - and {len(sentences) - _MOST_LINES} more, see {NAME}')
    return [f'{title:<10} {len(sentences) or "none"}', *lines]


def _printable(line: str) -> str:
    # Ids are untrusted text: an escape sequence in one must not reach the terminal.
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in line)


_MOST = 8  # words and classes that the card names


class Tally:
    """Running counts over the clips of a split; memory does not grow with the features.

    Attributes:
      words: how often each word occurs in the captions.
      sources: the videos that clips were cut from.
    """

    def __init__(self):
        self.words: collections.Counter[str] = collections.Counter()
        self.sources: set[str] = set()
        self._captions: collections.Counter[int] = collections.Counter()  # of a clip
        self._lengths: collections.Counter[int] = collections.Counter()  # of a caption
        self._objects: collections.Counter[int] = collections.Counter()  # of a frame
        self._labels: collections.Counter[int] = collections.Counter()

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of 'clips' and 'captions', as in a manifest."""
        return {'clips': self._captions.total(), 'captions': self._lengths.total()}

    def add(self, clip: Clip) -> None:
        """Count one clip."""
        self._captions[len(clip.captions)] += 1
        if clip.source:
            self.sources.add(clip.source)
        for caption in clip.captions:
            words = caption.split()
            self.words.update(words)
            self._lengths[len(words)] += 1
        self._objects.update(clip.object_mask.sum(axis=1).tolist())
        self._labels.update(clip.label[clip.object_mask & (clip.label >= 0)].tolist())

    def card(self, vocabulary: Container[str], max_words: int) -> SplitCard:
        """Return the summary."""
        unknown = collections.Counter(
            {word: count for word, count in self.words.items() if word not in vocabulary}
        )
        frames = [self._objects[number] for number in range(max(self._objects, default=0) + 1)]
        return SplitCard(
            **self.counts,
            captions_per_clip=_range(self._captions),
            clips_without_captions=self._captions[0],
            sources=len(self.sources),
            words=self.words.total(),
            different_words=len(self.words),
            words_per_caption=_range(self._lengths),
            # Counted from the histogram of lengths, so that no caption is kept in memory.
            captions_cut=sum(n for length, n in self._lengths.items() if length > max_words),
            known_words=1 - unknown.total() / max(1, self.words.total()),
            known_different_words=1 - len(unknown) / max(1, len(self.words)),
            unknown_words=dict(unknown.most_common(_MOST)),
            objects_per_frame=frames,
            labels=dict(self._labels.most_common(_MOST)),
            different_labels=len(self._labels),
        )


def _range(counts: collections.Counter[int]) -> tuple[float, float, float]:
    """Minimum, median and maximum of numbers that occur `counts` times."""
    if not counts:
        return 0, 0, 0
    return min(counts), statistics.median(counts.elements()), max(counts)
