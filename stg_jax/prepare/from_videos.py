"""Plan a preparation that extracts features from a folder of videos."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from stg_jax.data.clip import Clip
from stg_jax.datasets.base import Annotations
from stg_jax.datasets.clip_ids import match_keys
from stg_jax.errors import UserError
from stg_jax.extract.base import Extractor, to_clip
from stg_jax.extract.registry import build_extractor
from stg_jax.extract.video.files import VIDEO_SUFFIXES, find_videos, left_out_sentence
from stg_jax.extract.video.frames import Video
from stg_jax.prepare.plan import DataPlan, left_out, requests
from stg_jax.prepare.workers import Chunk, Request, Result, attempt


class VideoMaker:
    """Makes clips from video files; see `workers.Maker`."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = dict(settings)
        self._extractor: Extractor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Compiled models cannot be pickled; each process builds its own.
        return self.__dict__ | {'_extractor': None}

    def build(self) -> Extractor:
        """Build the extractor on the first call, which loads its models.

        Raises:
          UserError: a model is missing or broken.
        """
        # Loading a detector takes seconds and compiling it up to a minute: once per process.
        self._extractor = self._extractor or build_extractor(self.settings)
        return self._extractor

    def load(self, chunk: Chunk) -> list[Video | UserError]:
        """Decode the videos of a chunk; a video that fails becomes its error."""
        extractor = self.build()
        return [_read(extractor, request.path) for request in chunk]

    def make(self, chunk: Chunk, loaded: list[Video | UserError]) -> list[Result]:
        """Extract features from all videos of the chunk, in common batches."""
        videos = [video for video in loaded if isinstance(video, Video)]
        # One call for all videos, so that the frames of short clips share batches.
        described = iter(self.build().describe(videos) if videos else ())
        return [
            attempt(_clip, request, video, described)
            for request, video in zip(chunk, loaded, strict=True)
        ]


def plan_videos(
    annotations: Annotations, videos: str | os.PathLike[str], *, settings: Mapping, ids: str | None
) -> DataPlan:
    """Plan the extraction of every captioned clip that has a video.

    Args:
      annotations: of the data set.
      videos: folder of video files named by clip; subfolders are searched too.
      settings: of the extractor.
      ids: how file names name clips, see `datasets.clip_ids`; None: inferred.

    Raises:
      UserError: the folder holds no video, no video of a captioned clip, or two of one clip.
    """
    found = keyed_videos(videos)
    paths = name_videos(found.values(), annotations)
    mapping = match_keys(list(paths), annotations, ids)
    # After matching: two files of one name matter only if a captioned clip needs them.
    _refuse_ambiguous({clip_id: paths[key] for clip_id, key in mapping.key_of.items()}, annotations)
    path_of = {clip_id: paths[key][0] for clip_id, key in mapping.key_of.items()}
    notes = [
        *annotations.notes,
        *mapping.warnings,
        f'{videos}: {len(found)} videos, named by {mapping.scheme}',
        *filter(None, [left_out_sentence(videos)]),
        *left_out(annotations, path_of, 'video'),
    ]
    return DataPlan(
        data_set=annotations.data_set,
        splits=requests(annotations, path_of),
        maker=VideoMaker(settings),
        extractor=settings,
        sources={'videos': os.fspath(Path(videos).resolve())},
        missing={},
        notes=notes,
        resumable=True,
    )


def keyed_videos(folder: str | os.PathLike[str]) -> dict[str, str]:
    """List the videos below a folder by stem, or by path within it if several share a stem.

    Raises:
      UserError: the folder does not exist, or has no video.
    """
    paths = find_videos(folder)
    count = collections.Counter(path.stem for path in paths)
    return {
        path.stem if count[path.stem] == 1 else path.relative_to(folder).as_posix(): os.fspath(path)
        for path in paths
    }


def name_videos(paths: Iterable[str], annotations: Annotations) -> dict[str, list[str]]:
    """Group video files by the name that they share with a clip.

    A clip may be named with folders, as in cats/001; all other files are named by their stems.
    """
    known = {_stem(clip_id) for clip_id in (*annotations.clip_ids, *annotations.number)}
    named = collections.defaultdict(list)
    for path in paths:
        parts = Path(path).with_suffix('').parts
        tails = ('/'.join(parts[k:]) for k in range(len(parts)))
        # The longest matching tail wins: a clip called cats/001 must not take dogs/001.
        named[next((tail for tail in tails if tail in known), parts[-1])].append(path)
    return dict(named)


def _stem(clip_id: str) -> str:
    suffix = PurePosixPath(clip_id).suffix
    return clip_id.removesuffix(suffix) if suffix.lower() in VIDEO_SUFFIXES else clip_id


def _refuse_ambiguous(paths_of: Mapping[str, list[str]], annotations: Annotations) -> None:
    """Refuse a captioned clip that several files match; clips without captions are not used."""
    for clip_id in annotations.clip_ids:
        paths = paths_of.get(clip_id, [])
        if len(paths) > 1:
            raise UserError(
                f'{paths[0]} and {paths[1]} may both be clip {clip_id}: remove one of them, or '
                'write the folder into the name of the clip, as in FOLDER/NAME'
            )


def _read(extractor: Extractor, path: str) -> Video | UserError:
    try:
        return extractor.read(path)
    except UserError as error:
        return error


def _clip(
    request: Request, video: Video | UserError, described: Iterator[Mapping[str, Any]]
) -> Clip:
    """Make the clip of the next described video, or raise the error that the video gave."""
    if isinstance(video, UserError):
        raise video
    clip = to_clip(request.clip_id, request.captions, video, next(described))
    return dataclasses.replace(clip, source=request.source)
