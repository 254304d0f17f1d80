"""What the annotation files of a data set say about its clips."""

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
