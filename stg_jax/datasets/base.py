"""What every reader of annotations returns, and the checks that several of them share."""

import dataclasses
import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

from stg_jax.errors import UserError

Clean = Callable[[str], str]  # applied to every caption
Splits = Mapping[str, Mapping[str, Sequence[str]]]


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The captioned clips of a data set in its official split.

    Attributes:
      data_set: a name of `stg_jax.datasets.registry.DATASETS`.
      splits: {split: {clip id: normalised captions}}, splits and clips in their official order.
      number: zero-based number of every known clip, also of those without captions, by which
        other people's files count them; empty where clips have names only.
      source: the video that a clip was cut from, by clip id; empty where unknown.
      notes: one sentence for every difference from what was published, and for what is left out.
    """

    data_set: str
    splits: Splits
    number: Mapping[str, int]
    source: Mapping[str, str]
    notes: Sequence[str]

    @property
    def clip_ids(self) -> list[str]:
        """The ids of all captioned clips, split after split."""
        return [clip_id for captions in self.splits.values() for clip_id in captions]


def without_wordless(
    captions: Mapping[str, Sequence[str]],
) -> tuple[dict[str, list[str]], list[str]]:
    """Drop empty captions; return the others by clip, and a note if any were dropped.

    A clip stays even if none of its captions holds a word.
    """
    kept = {clip_id: [text for text in texts if text] for clip_id, texts in captions.items()}
    number = sum(map(len, captions.values())) - sum(map(len, kept.values()))
    return kept, [f'{number:,} captions without any word are left out'] if number else []


def differences(splits: Splits, published: Mapping[str, tuple[int, int]]) -> list[str]:
    """Note each split whose (clips, captions) differ from the published numbers."""
    notes = []
    for split, (num_clips, num_captions) in published.items():
        found = len(splits[split]), sum(map(len, splits[split].values()))
        if found != (num_clips, num_captions):
            notes.append(
                f'{split}: {found[0]:,} clips with {found[1]:,} captions, but '
                f'{num_clips:,} with {num_captions:,} are published'
            )
    return notes


_NOT_IN_IDS = ('Cc', 'Cs', 'Zl', 'Zp')  # controls, halves of characters, line separators


def check_clip_id(where: str, clip_id: str) -> None:
    """Refuse names of clips that could not be written to a file of their own.

    Raises:
      UserError: the name is blank, or holds a control character or half of a character.
    """
    if not clip_id.strip():
        raise UserError(f'{where}: the clip has no name')
    if any(unicodedata.category(character) in _NOT_IN_IDS for character in clip_id):
        raise UserError(f'{where}: the clip name {clip_id!r} holds a control character: rename it')


SPLITS = ('train', 'val', 'test')
_HELD_OUT = 10  # one of ten clips is for validation, another one for the test


def split_by_hash(clip_ids: Iterable[str]) -> dict[str, str]:
    """Divide clips 80/10/10 by the SHA-256 of their ids: {clip id: split}.

    The largest tenth is the test, the next validation. Three clips give one of each split, fewer
    are all train.
    """
    # Python's own hash() differs from run to run, and a seeded shuffle would move all clips when
    # one is added.
    ranked = sorted(clip_ids, key=lambda clip_id: hashlib.sha256(clip_id.encode()).digest())
    held_out = max(1, len(ranked) // _HELD_OUT) if len(ranked) >= len(SPLITS) else 0
    names = ['test'] * held_out + ['val'] * held_out
    names += ['train'] * (len(ranked) - len(names))
    return dict(zip(reversed(ranked), names, strict=True))


SPLIT_BY_HASH = 'there are no splits, so the SHA-256 of the clip ids splits 80/10/10'
