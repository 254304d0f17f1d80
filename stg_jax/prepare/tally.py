"""Counts over the clips of one split, whose memory does not grow with their features."""

import collections
import statistics
from collections.abc import Container

from stg_jax.data.clip import Clip
from stg_jax.prepare.data_card import SplitCard

_MOST = 8  # words and classes that the card names


class Tally:
    """What the clips of a split add up to.

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
        """Return the number of 'clips' and 'captions', as a manifest has them."""
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
            captions_cut=sum(n for length, n in self._lengths.items() if length > max_words),
            known_words=1 - unknown.total() / max(1, self.words.total()),
            known_different_words=1 - len(unknown) / max(1, len(self.words)),
            unknown_words=dict(unknown.most_common(_MOST)),
            objects_per_frame=frames,
            labels=dict(self._labels.most_common(_MOST)),
            different_labels=len(self._labels),
        )


def _range(counts: collections.Counter[int]) -> tuple[float, float, float]:
    """Return the least, the median and the most of numbers that occur `counts` times."""
    if not counts:
        return 0, 0, 0
    return min(counts), statistics.median(counts.elements()), max(counts)
