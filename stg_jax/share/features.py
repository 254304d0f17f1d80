"""Write the features of a data folder or of videos as plain files, for any other program.

OUT/appearance.hdf5, motion.hdf5, grid.hdf5   an array for each clip
OUT/objects.hdf5                              a group for each clip: feats, boxes, scores, labels
or OUT/appearance/CLIP.npy, ...               the same as one file for each clip
   OUT/objects/CLIP/00000.npz                 the objects of one frame: x, bbox, score, label
OUT/about.json                                the extractor, and the clips of each split
OUT/failures.json                             the videos that could not be read

Boxes are x1 y1 x2 y2 as parts of the frame. `launch/prepare.py own --appearance OUT/appearance.hdf5
...` reads both forms.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from stg_jax import files
from stg_jax.cli.progress import progress, say
from stg_jax.data.clip import Clip
from stg_jax.data.manifest import OPTIONAL_KINDS, Manifest
from stg_jax.errors import UserError
from stg_jax.prepare.from_videos import VideoMaker, keyed_videos
from stg_jax.prepare.plan import DataPlan
from stg_jax.prepare.resume_store import ClipStore
from stg_jax.prepare.workers import Failure, Request
from stg_jax.prepare.write import FAILURES, Runner, make_clips, work_folder

_FRAME_KINDS = ('appearance', 'motion', *OPTIONAL_KINDS)
_LONGEST = 200  # bytes of a name; file systems allow 255 with the ending
_NOTHING: Mapping[str, Any] = {}


class Writer(Protocol):
    """Writes clips in one form."""

    def frames(self, kind: str, clip_id: str, value: np.ndarray) -> None:
        """Write the (T, C) or (T, G, C) features of a clip."""
        ...

    def objects(self, clip: Clip) -> None:
        """Write the objects of a clip."""
        ...

    def close(self) -> None:
        """Finish all files."""
        ...


class Hdf5Writer:
    """One file for each kind of feature."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._files: dict[str, h5py.File] = {}

    def frames(self, kind: str, clip_id: str, value: np.ndarray) -> None:
        """See `Writer`."""
        self._file(kind)[clip_id] = value

    def objects(self, clip: Clip) -> None:
        """See `Writer`."""
        group = self._file('objects').create_group(clip.id)
        group['feats'], group['boxes'], group['scores'] = clip.object, clip.box, clip.score
        # Readers take a label of -1 for an absent object, but a detector without classes gives -1
        # to every object: its labels are left out.
        if np.array_equal(clip.label >= 0, clip.object_mask):
            group['labels'] = clip.label

    def close(self) -> None:
        """See `Writer`."""
        for file in self._files.values():
            file.close()

    def _file(self, kind: str) -> h5py.File:
        if kind not in self._files:
            self._files[kind] = h5py.File(self._folder / f'{kind}.hdf5', 'w')
        return self._files[kind]


class NpyWriter:
    """One file for each clip and kind of feature; objects have one for each frame."""

    def __init__(self, folder: Path):
        self._folder = folder

    def frames(self, kind: str, clip_id: str, value: np.ndarray) -> None:
        """See `Writer`."""
        folder = self._folder / kind
        folder.mkdir(exist_ok=True)
        np.save(folder / f'{clip_id}.npy', value)

    def objects(self, clip: Clip) -> None:
        """See `Writer`."""
        folder = self._folder / 'objects' / clip.id
        folder.mkdir(parents=True)
        for t, real in enumerate(clip.object_mask):
            np.savez(
                folder / f'{t:05}.npz',
                x=clip.object[t],
                bbox=clip.box[t],
                num_bbox=real.sum(),
                score=clip.score[t],
                label=clip.label[t],
            )

    def close(self) -> None:
        """See `Writer`."""


FORMS: dict[str, type[Hdf5Writer] | type[NpyWriter]] = {'hdf5': Hdf5Writer, 'npy': NpyWriter}


def features_of_data(data_dir: str | os.PathLike[str], out: Path, form: str) -> int:
    """Write the features of all clips of a data folder to the folder `out`.

    Args:
      data_dir: a folder of `prepare.py`.
      out: the folder, which must not exist; it appears whole or not at all.
      form: a key of `FORMS`.

    Returns:
      The number of clips.

    Raises:
      UserError: the data folder is damaged, `out` exists, or the id of a clip cannot name a file.
    """
    manifest = Manifest.load(data_dir)
    from stg_jax.data.records import read_clips  # imports TensorFlow: after the quick checks

    clips: dict[str, list[str]] = {}
    with files.write_folder(out) as folder, _writing(folder, form) as writer:
        for split, counts in manifest.splits.items():
            clips[split] = []
            for clip in progress(read_clips(data_dir, split), counts['clips'], split):
                _write(writer, clip, manifest.missing)
                clips[split].append(clip.id)
        about = {'data_set': manifest.data_set, 'extractor': manifest.extractor, 'clips': clips}
        files.write_json(folder / 'about.json', about)
    return sum(map(len, clips.values()))


def features_of_videos(
    videos: str | os.PathLike[str],
    out: Path,
    form: str,
    settings: Mapping[str, Any],
    runner: Runner,
) -> int:
    """Extract the features of all videos of a folder and write them to the folder `out`.

    A video that cannot be read is left out, reported, and listed in OUT/failures.json. The same
    call resumes an extraction that was stopped.

    Args:
      videos: folder of videos; the clips are named by them.
      out: see `features_of_data`.
      form: see `features_of_data`.
      settings: the settings of the extractor.
      runner: how the work is distributed.

    Returns:
      The number of clips.

    Raises:
      UserError: there are no videos, none can be read, or `out` exists.
    """
    requests = [Request(name, (), '', path) for name, path in keyed_videos(videos).items()]
    for request in requests:
        _check_name(request.clip_id)
    maker = VideoMaker(settings)
    plan = DataPlan('videos', {'all': requests}, maker, settings, {}, {}, [], resumable=True)
    store = ClipStore(work_folder(out, runner.work_dir), maker.settings)
    clips: list[str] = []
    failures: list[Failure] = []
    with files.write_folder(out) as folder, _writing(folder, form) as writer:
        results = make_clips(plan, requests, store, runner)
        for result in progress(results, len(requests), 'done'):
            if isinstance(result, Clip):
                _write(writer, result)
                clips.append(result.id)
            else:
                say(f'left out {json.dumps(result.clip, ensure_ascii=False)}: {result.reason}')
                failures.append(result)
        if not clips:
            raise UserError(f'no video of {videos} can be read, the last: {failures[-1].reason}')
        files.write_json(folder / FAILURES, [dataclasses.asdict(each) for each in failures])
        about = {'data_set': '', 'extractor': settings, 'clips': {'all': clips}}
        files.write_json(folder / 'about.json', about)
    store.remove()
    return len(clips)


@contextlib.contextmanager
def _writing(folder: Path, form: str) -> Any:
    with contextlib.closing(FORMS[form](folder)) as writer:
        yield writer


def _write(writer: Writer, clip: Clip, missing: Mapping[str, Any] = _NOTHING) -> None:
    """Write a clip, except the kinds of features that it lacks: their zeros are placeholders."""
    _check_name(clip.id)
    for kind in _FRAME_KINDS:
        value = getattr(clip, kind)
        if value is not None and clip.id not in missing.get(kind, ()):
            writer.frames(kind, clip.id, value)
    if clip.id not in missing.get('object', ()):
        writer.objects(clip)


def _check_name(clip_id: str) -> None:
    """Refuse an id that would name a file in another folder, or a hidden one."""
    if {'/', '\\', '\0'} & set(clip_id) or clip_id.startswith('.'):
        raise UserError(
            f'clip {clip_id!r} cannot name a file: give every clip a name of its own without '
            'slashes, and no dot at its start'
        )
    if len(os.fsencode(clip_id)) > _LONGEST:
        raise UserError(f'clip {clip_id[:40]!r}... has too long a name: use at most 200 bytes')
