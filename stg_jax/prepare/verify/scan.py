"""Scan all records of a data folder once, and collect problems and remarks."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stg_jax.cli.progress import progress
from stg_jax.data.captions import read_captions
from stg_jax.data.clip import Clip, check_clip
from stg_jax.data.frame_sampling import sample_index
from stg_jax.data.manifest import Manifest
from stg_jax.data.records import read_clips
from stg_jax.datasets.base import Annotations
from stg_jax.datasets.clip_ids import match_keys
from stg_jax.errors import UserError
from stg_jax.prepare.from_videos import name_videos
from stg_jax.prepare.verify.card import Tally


@dataclasses.dataclass
class Findings:
    """Sentences about the data, in the order in which they were first found.

    Attributes:
      clips: for each sentence the clips that it is about, as (number, first id), or None if it is
        not about single clips.
    """

    clips: dict[str, tuple[int, str] | None] = dataclasses.field(default_factory=dict)

    def add(self, sentence: str, clip_id: str | None = None) -> None:
        """Add a sentence, about one clip or about the folder as a whole."""
        if clip_id is None:
            self.clips[sentence] = None
        else:
            number, first = self.clips.get(sentence) or (0, clip_id)
            self.clips[sentence] = number + 1, first

    @property
    def sentences(self) -> list[str]:
        """One sentence for each finding, with the number of clips in front."""
        return [
            f'{_count(*clips)}: {sentence}' if clips else sentence
            for sentence, clips in self.clips.items()
        ]


def _count(number: int, first: str) -> str:
    return f'clip {first}' if number == 1 else f'{number:,} clips, the first {first}'


class ClipCheck:
    """Compares clips with the manifest of their folder. Its sentences do not name the clip."""

    def __init__(self, manifest: Manifest):
        self._shape = manifest.frames, manifest.objects
        self._widths = manifest.widths
        self._missing = {kind: frozenset(manifest.missing.get(kind, ())) for kind in manifest.kinds}

    def problems(self, clip: Clip) -> Iterator[str]:
        """Yield the problems of a clip, which make it unfit for training."""
        try:
            check_clip(clip)
        except UserError as error:
            yield str(error).removeprefix(f'clip {clip.id}: ')
            return  # the other checks assume sound arrays
        if clip.object_mask.shape != self._shape:
            found = clip.object_mask.shape
            yield f'the manifest says {self._shape} frames and objects, but there are {found}'
        if (clip.grid is None) != ('grid' not in self._widths):
            yield 'the manifest and the clip differ in whether there is a grid'
            return
        for kind in self._missing:
            width, found = self._widths[kind], getattr(clip, kind).shape[-1]
            if width != found:
                yield f'the manifest says {width} channels of {kind} features, but it is {found}'
            listed = clip.id in self._missing[kind]
            if listed and getattr(clip, kind).any():
                yield f'the manifest lists the {kind} features as missing, but there are some'
            # Motion may be zero, in a still image; the other features of a real frame are not.
            if kind != 'motion' and self._unlisted_zeros(clip, kind):
                yield f'all {kind} features are zero, but the manifest does not list them'

    def remarks(self, clip: Clip) -> Iterator[str]:
        """Yield remarks about a sound clip that is unusual."""
        if self._unlisted_zeros(clip, 'motion'):
            yield 'all motion features are zero, but the manifest does not list them'
        box = clip.box[clip.object_mask]
        if (box[:, :2] == box[:, 2:]).any():
            yield 'an object has a box without area'
        if not clip.captions:
            yield 'there is no caption'

    def _unlisted_zeros(self, clip: Clip, kind: str) -> bool:
        expected = kind != 'object' or clip.object_mask.any()
        unlisted = clip.id not in self._missing[kind]
        return bool(expected and unlisted and not getattr(clip, kind).any())


class SheetRow(NamedTuple):
    """A clip that is shown on the contact sheet."""

    split: str
    clip: Clip
    video: str


_SHEET_ROWS = 6


class Scan:
    """State of a scan. Of the clips it keeps only those of the contact sheet.

    Attributes:
      tallies: counts of each split whose scan has begun.
      problems: errors in the data.
      remarks: unusual, but valid data.
      sheet: clips for the contact sheet.
    """

    def __init__(self, folder: Path, manifest: Manifest, videos: Sequence[str]):
        self.tallies: dict[str, Tally] = {}
        self.problems, self.remarks = Findings(), Findings()
        self.sheet: list[SheetRow] = []
        self._folder, self._manifest, self._videos = folder, manifest, videos
        self._check = ClipCheck(manifest)
        self._split_of: dict[str, str] = {}

    def read(self, split: str) -> None:
        """Scan a split, up to the first record that cannot be read."""
        tally = self.tallies[split] = Tally()
        captions = self._captions(split)
        video_of = self._choose(split, captions)
        # Decodes every record and checks its checksum, in the order of the shards.
        clips = read_clips(self._folder, split)
        try:
            for clip in progress(clips, self._manifest.splits[split]['clips'], f'{split}: read'):
                tally.add(clip)
                # Training reads captions from the JSON lines and features from the shards; edits of
                # one would otherwise go unnoticed.
                if captions and captions.get(clip.id) != list(clip.captions):
                    other = f'captions-{split}.jsonl has other captions than the shards'
                    self.problems.add(other, clip.id)
                self._look_at(split, clip, video_of.get(clip.id, ''))
        except UserError as error:
            self.problems.add(str(error))
            return
        # Only after a complete scan: a split that ended early has fewer clips anyway.
        self._compare_counts(split)

    def compare_splits(self) -> None:
        """Report source videos that have clips in two splits, a leak between them."""
        for (one, first), (other, second) in itertools.combinations(self.tallies.items(), 2):
            # MSVD and MSR-VTT cut several clips from one YouTube video.
            common = first.sources & second.sources
            if common:
                self.remarks.add(
                    f'{len(common):,} source videos have clips in {one} and in {other}, such as '
                    f'{min(common)}: scores on one profit from training on the other'
                )

    def _captions(self, split: str) -> dict[str, list[str]]:
        """Read the captions file; a damaged one is a problem, and gives no captions."""
        try:
            return read_captions(self._folder, split)
        except UserError as error:
            self.problems.add(str(error))
            return {}

    def _look_at(self, split: str, clip: Clip, video: str) -> None:
        """Check one clip, and keep it for the contact sheet if it was chosen and is sound."""
        # A clip in two splits is a leak, and a clip twice in one split counts double.
        if clip.id in self._split_of:
            both = ' and '.join(dict.fromkeys((self._split_of[clip.id], split)))
            self.problems.add(f'the id occurs twice, in {both}', clip.id)
        self._split_of[clip.id] = split
        problems = list(self._check.problems(clip))
        for problem in problems:
            self.problems.add(problem, clip.id)
        if problems:
            return
        for remark in self._check.remarks(clip):
            self.remarks.add(remark, clip.id)
        if video:
            self.sheet.append(SheetRow(split, clip, video))

    def _compare_counts(self, split: str) -> None:
        stated, found = self._manifest.splits[split], self.tallies[split].counts
        if stated != found:
            self.problems.add(
                f'{split}: the manifest says {_listed(stated)}, found {_listed(found)}'
            )

    def _choose(self, split: str, captions: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Choose clips for the contact sheet, spread over the split; return their videos."""
        named = Annotations(self._manifest.data_set, {split: captions}, {}, {}, [])
        try:
            paths = name_videos(self._videos, named)
            # By name only: a guess by number could show another clip's video, which looks like
            # wrong boxes.
            key_of = match_keys(list(paths), named, 'name').key_of
        except UserError:
            return {}
        # Not clips that match several files: the manifest does not record which one was used.
        clip_ids = [
            clip_id for clip_id in captions if len(paths.get(key_of.get(clip_id, ''), ())) == 1
        ]
        number = max(1, _SHEET_ROWS // len(self._manifest.splits))
        chosen = {clip_ids[i] for i in sample_index(len(clip_ids), number)}
        return {clip_id: paths[key_of[clip_id]][0] for clip_id in chosen}


def _listed(counts: Mapping[str, int]) -> str:
    return f'{counts["clips"]:,} clips with {counts["captions"]:,} captions'
