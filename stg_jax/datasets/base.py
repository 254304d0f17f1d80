"""Which captions count, and whether they are as many as were published."""

import dataclasses
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The captioned clips of a data set, split as everybody splits them.

    Attributes:
      data_set: 'msvd', 'msrvtt' or 'own'.
      splits: {split: {clip id: normalised captions}}, splits and clips in their official order.
      number: zero-based number of every known clip, also of those without captions, by which
        other people's files count them; empty where clips have names only.
      source: the video that a clip was cut from, by clip id; empty where unknown.
      notes: one sentence for every difference from what is published, and for all left out.
    """

    data_set: str
    splits: Mapping[str, Mapping[str, Sequence[str]]]
    number: Mapping[str, int]
    source: Mapping[str, str]
    notes: Sequence[str]

    @property
    def clip_ids(self) -> list[str]:
        """Return the ids of all captioned clips, split after split."""
        return [clip_id for captions in self.splits.values() for clip_id in captions]


Splits = Mapping[str, Mapping[str, Sequence[str]]]


def without_wordless(
    captions: Mapping[str, Sequence[str]],
) -> tuple[dict[str, list[str]], list[str]]:
    """Return normalised captions by clip without empty ones, and a note if there were any.

    A clip stays even if none of its captions holds a word.
    """
    kept = {clip_id: [text for text in texts if text] for clip_id, texts in captions.items()}
    number = sum(map(len, captions.values())) - sum(map(len, kept.values()))
    return kept, [f'{number:,} captions without any word are left out'] if number else []


def differences(splits: Splits, published: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return a note for each split whose (clips, captions) are not the published ones."""
    notes = []
    for split, (num_clips, num_captions) in published.items():
        found = len(splits[split]), sum(map(len, splits[split].values()))
        if found != (num_clips, num_captions):
            notes.append(
                f'{split}: {found[0]:,} clips with {found[1]:,} captions, but '
                f'{num_clips:,} with {num_captions:,} are published'
            )
    return notes
