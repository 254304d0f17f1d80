"""One preparation, planned in full before the first clip is read."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stg_jax.prepare.work import Maker, Request


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
