"""A job that extracts features from a folder of videos."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stg_jax.data.annotations import Annotations
from stg_jax.data.clip import Clip
from stg_jax.data.ids import VIDEO_SUFFIXES, match_keys
from stg_jax.errors import UserError
from stg_jax.extract.choose import build_extractor
from stg_jax.extract.extractor import Extractor, to_clip
from stg_jax.extract.video import Video
from stg_jax.prepare.captioned import left_out, requests
from stg_jax.prepare.job import Job
from stg_jax.prepare.work import Chunk, Request, Result, attempt


class VideoMaker:
    """Makes clips from video files; see `work.Maker`."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = dict(settings)
        self._extractor: Extractor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Compiled models stay in the process that built them.
        return self.__dict__ | {'_extractor': None}

    def build(self) -> Extractor:
        """Return the extractor, loading its models at the first call.

        Raises:
          UserError: a model is missing or broken.
        """
        self._extractor = self._extractor or build_extractor(self.settings)
        return self._extractor

    def load(self, chunk: Chunk) -> list[Video | UserError]:
        """Decode the videos of a chunk; one that fails is its error."""
        extractor = self.build()
        return [_read(extractor, request.path) for request in chunk]

    def make(self, chunk: Chunk, loaded: list[Video | UserError]) -> list[Result]:
        """Describe the videos together."""
        videos = [video for video in loaded if isinstance(video, Video)]
        described = iter(self.build().describe(videos) if videos else ())
        return [
            attempt(_clip, request, video, described)
            for request, video in zip(chunk, loaded, strict=True)
        ]


def plan_videos(
    annotations: Annotations, videos: str | os.PathLike[str], *, settings: Mapping, ids: str | None
) -> Job:
    """Plan the extraction of every captioned clip that has a video.

    Args:
      annotations: of the data set.
      videos: folder of video files, in sub-folders too, named by clip.
      settings: of the extractor.
      ids: how file names name clips, see `data.ids`; None: found out.

    Raises:
      UserError: the folder holds no video, or none of a captioned clip.
    """
    paths = find_videos(videos)
    mapping = match_keys(list(paths), annotations, ids)
    path_of = {clip_id: paths[key] for clip_id, key in mapping.key_of.items()}
    notes = [
        *annotations.notes,
        *mapping.warnings,
        f'{videos}: {len(paths)} videos, named by {mapping.scheme}',
        *left_out(annotations, path_of, 'video'),
    ]
    return Job(
        data_set=annotations.data_set,
        splits=requests(annotations, path_of),
        maker=VideoMaker(settings),
        extractor=settings,
        sources={'videos': os.fspath(Path(videos).resolve())},
        missing={},
        notes=notes,
        resumable=True,
    )


def find_videos(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Return the video files below a folder by their stems, in order of name.

    Raises:
      UserError: there is no such folder, no video in it, or two of one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'the videos folder {folder} does not exist')
    paths: dict[str, str] = {}
    for path in sorted(folder.rglob('*')):
        if path.suffix.lower() not in VIDEO_SUFFIXES or not path.is_file():
            continue
        if path.stem in paths:
            raise UserError(f'{path} and {paths[path.stem]} name the same clip: remove one of them')
        paths[path.stem] = os.fspath(path)
    if not paths:
        raise UserError(f'{folder} holds no video file ({" ".join(sorted(VIDEO_SUFFIXES))})')
    return paths


def _read(extractor: Extractor, path: str) -> Video | UserError:
    try:
        return extractor.read(path)
    except UserError as error:
        return error


def _clip(
    request: Request, video: Video | UserError, described: Iterator[Mapping[str, Any]]
) -> Clip:
    """Return the clip of the next described video, or raise why there is no video."""
    if isinstance(video, UserError):
        raise video
    clip = to_clip(request.clip_id, request.captions, video, next(described))
    return dataclasses.replace(clip, source=request.source)
