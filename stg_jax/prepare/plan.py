"""What a preparation will write: which captioned clips, from which features."""

import dataclasses
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stg_jax.cli import program
from stg_jax.config import DataConfig
from stg_jax.data.manifest import Manifest, as_flags, overrides
from stg_jax.datasets.base import Annotations
from stg_jax.errors import UserError
from stg_jax.prepare.workers import Maker, Request


@dataclasses.dataclass(frozen=True)
class DataPlan:
    """What will be written, and how the clips are made.

    Attributes:
      data_set: name of the data set.
      splits: the clips of each split, in the order in which they are written.
      maker: makes the clips.
      extractor: where the features come from, for the manifest.
      sources: input files, for the manifest.
      missing: for each kind of feature the ids of the clips that lack it.
      notes: warnings to print before the work starts, one sentence each.
      resumable: whether finished clips are kept on disk until all are written. That costs disk
        space, and pays off if making a clip takes much longer than reading it back.
    """

    data_set: str
    splits: Mapping[str, Sequence[Request]]
    maker: Maker
    extractor: Mapping[str, Any]
    sources: Mapping[str, Any]
    missing: Mapping[str, Sequence[str]]
    notes: Sequence[str]
    resumable: bool

    def describe(self, out: Path, *, num_frames: int, num_objects: int) -> str:
        """Format the plan as lines of text.

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
            # Two examples show whether the names were matched as intended.
            for request in requests[:2]:
                lines.append(f'  {request.clip_id}  {request.path}'.rstrip())
        for name, value in self.extractor.items():
            lines.append(f'{name}: {value}')
        for kind, clip_ids in self.missing.items():
            if clip_ids:
                lines.append(f'{len(clip_ids)} clips have no {kind} features: they stay, without')
        return '\n'.join(lines)


def requests(annotations: Annotations, path_of: Mapping[str, str]) -> dict[str, list[Request]]:
    """List a request for every captioned clip in `path_of`, by split; empty splits are left out.

    Args:
      annotations: of the data set.
      path_of: video file of each clip, '' if its features come from feature files.

    Raises:
      UserError: a validation clip has no caption.
    """
    splits = {
        split: [
            Request(clip_id, tuple(texts), annotations.source.get(clip_id, ''), path_of[clip_id])
            for clip_id, texts in captions.items()
            # Captions without features are normal: videos were removed from YouTube since MSVD was
            # published.
            if clip_id in path_of
        ]
        for split, captions in annotations.splits.items()
    }
    _refuse_wordless(splits.get('val', ()))
    return {split: wanted for split, wanted in splits.items() if wanted}


def _refuse_wordless(validation: Sequence[Request]) -> None:
    """Refuse a validation clip without captions: training would only find it after an epoch."""
    for request in validation:
        if not request.captions:
            raise UserError(
                f'validation clip {request.clip_id} has no caption with a word, but training '
                'compares captions with it: add one, or remove the clip'
            )


def left_out(annotations: Annotations, present: Container[str], what: str) -> Iterator[str]:
    """Yield a warning for each split that has captioned clips which are not `present`."""
    for split, captions in annotations.splits.items():
        lacking = [clip_id for clip_id in captions if clip_id not in present]
        if lacking:
            yield (
                f'{split}: {len(lacking)} of {len(captions)} captioned clips have no {what} and '
                f'are left out, e.g. {lacking[0]}'
            )


def describe_written(out: Path, manifest: Manifest, data: DataConfig, config: str) -> str:
    """Format what was written, and the command that trains on it, as lines of text.

    Args:
      out: the folder.
      manifest: of the folder.
      data: of the config.
      config: name of the config that trains on the data set.
    """
    splits = ', '.join(
        f'{name} {counts["clips"]} clips with {counts["captions"]} captions'
        for name, counts in manifest.splits.items()
    )
    widths = ', '.join(f'{kind} {width}' for kind, width in manifest.widths.items())
    sizes = ', '.join(f'{kind} {size / 1000:.0f}' for kind, size in manifest.clip_bytes.items())
    changes = overrides(manifest, data)
    # Of boxes the first few are the best ones, of the cells of a grid they are not.
    if manifest.extractor.get('nodes') == 'grid' and data.objects < manifest.objects:
        changes['objects'] = manifest.objects
    flags = f'--config.data.dir={out} {as_flags(changes)}'.rstrip()
    command = (
        f'python launch/train.py --config configs/{config}.py {flags} '
        f'--workdir runs/{manifest.data_set}'
    )
    lines = [
        f'Wrote {out}: {splits}',
        f'{manifest.frames} frames, at most {manifest.objects} objects each; widths: {widths}',
        f'kB of features a clip: {sizes}',
        f'Next: {program.spelled(command)}',
    ]
    if manifest.cells:
        lines.append('To read the grid, add --config.model.scene_tokens=grid')
    return '\n'.join(lines)
