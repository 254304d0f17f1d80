"""Which captioned clips can be made, and which are left out."""

import dataclasses
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stg_jax.datasets import Annotations
from stg_jax.prepare.workers import Maker, Request


@dataclasses.dataclass(frozen=True)
class Job:
    """What shall be written, from what, by whom.

    Attributes:
      data_set: its name, also of the config that reads it.
      splits: the clips of each split, in the order in which they are written.
      maker: makes them.
      extractor: the manifest's description of where features come from.
      sources: the manifest's list of files.
      missing: for each kind the ids of clips without such features.
      notes: what a person should know before it starts, one sentence each.
      resumable: whether finished clips are kept until all are written; worth its disk space where
        making takes much longer than reading.
    """

    data_set: str
    splits: Mapping[str, Sequence[Request]]
    maker: Maker
    extractor: Mapping[str, Any]
    sources: Mapping[str, Any]
    missing: Mapping[str, Sequence[str]]
    notes: Sequence[str]
    resumable: bool

    def plan(self, out: Path, *, num_frames: int, num_objects: int) -> str:
        """Return the plan as lines of text.

        Args:
          out: folder that will be written.
          num_frames: T of every clip.
          num_objects: N of every clip.
        """
        lines = [
            f'data set: {self.data_set}',
            f'would write {out}: clips of {num_frames} frames, at most {num_objects} objects each',
            *(f'note: {note}' for note in self.notes),
        ]
        if self.extractor['name'] == 'files':
            lines.append(
                f'steps of the files become {num_frames} frames; of motion by motion_steps'
            )
        for split, requests in self.splits.items():
            captions = sum(len(request.captions) for request in requests)
            lines.append(f'{split}: {len(requests)} clips with {captions} captions')
            for request in requests[:2]:
                lines.append(f'  {request.clip_id}  {request.path}'.rstrip())
        for name, value in self.extractor.items():
            lines.append(f'{name}: {value}')
        for kind, clip_ids in self.missing.items():
            if clip_ids:
                lines.append(f'{len(clip_ids)} clips have no {kind} features: they stay, without')
        return '\n'.join(lines)


def requests(annotations: Annotations, path_of: Mapping[str, str]) -> dict[str, list[Request]]:
    """Return a request for every captioned clip with a path, by split; no empty splits.

    Args:
      annotations: of the data set.
      path_of: video file of a clip, '' where it comes from feature files.
    """
    splits = {
        split: [
            Request(clip_id, tuple(texts), annotations.source.get(clip_id, ''), path_of[clip_id])
            for clip_id, texts in captions.items()
            if clip_id in path_of
        ]
        for split, captions in annotations.splits.items()
    }
    return {split: wanted for split, wanted in splits.items() if wanted}


def left_out(annotations: Annotations, present: Container[str], what: str) -> Iterator[str]:
    """Yield a sentence for each split with captioned clips that are not `present`."""
    for split, captions in annotations.splits.items():
        lacking = [clip_id for clip_id in captions if clip_id not in present]
        if lacking:
            yield (
                f'{split}: {len(lacking)} of {len(captions)} captioned clips have no {what} and '
                f'are left out, e.g. {lacking[0]}'
            )
