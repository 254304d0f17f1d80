"""Caption raw videos, whole or segment by segment."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.decode.candidates import Candidate
from stg_jax.extract.base import Extractor, Stages, to_clip
from stg_jax.extract.video.frames import Video

# Pixels of the longer side of the pictures that are kept for reports.
SIDE = 480

ChooseFn = Callable[[Sequence[Clip]], list[list[Candidate]]]


@dataclasses.dataclass(frozen=True)
class Captioned:
    """The captions of a video or of a segment of it.

    Attributes:
      path: of the video.
      start: of the segment, in seconds of the player's clock.
      end: of the segment.
      second_T: when each of the T described frames is shown.
      frames: these frames, small, (h, w, 3) uint8 RGB each.
      clip: their features and boxes.
      label_names: of the clip's labels, see `Extractor.class_names`.
      candidates: captions, best first.
      stages: seconds of 'decode', 'detect', 'embed' and 'caption'.
    """

    path: Path
    start: float
    end: float
    second_T: np.ndarray
    frames: Sequence[np.ndarray]
    clip: Clip
    label_names: Sequence[str]
    candidates: Sequence[Candidate]
    stages: Stages

    @property
    def caption(self) -> str:
        """The best caption."""
        return self.candidates[0].caption

    def as_json(self) -> dict[str, Any]:
        """Convert to JSON for other programs; times are in seconds."""
        listed = [
            {'caption': candidate.caption, 'score': round(candidate.score, 4)}
            for candidate in self.candidates
        ]
        return {
            'video': os.fspath(self.path),
            'start': round(self.start, 3),
            'end': round(self.end, 3),
            **listed[0],
            'captions': listed,
            'seconds': {stage: round(value, 3) for stage, value in self.stages.seconds.items()},
        }


def caption_video(
    extractor: Extractor,
    choose_fn: ChooseFn,
    path: str | os.PathLike[str],
    seconds: float | None = None,
) -> Iterator[Captioned]:
    """Yield the captions of each segment of `seconds`, or of the whole video without.

    Memory holds one segment at a time.

    Args:
      extractor: the one that made the captioner's training features.
      choose_fn: finds captions of clips, such as a beam search with its settings.
      path: video file.
      seconds: length of a segment.

    Raises:
      UserError: the file cannot be decoded.
    """
    videos = _read(extractor, path, seconds)
    while True:
        stages = Stages()
        # Decoding happens inside of `next`: segments are read only when they are asked for.
        with stages.measure('decode'):
            video = next(videos, None)
        if video is None:
            return
        yield caption_frames(extractor, choose_fn, Path(path), video, stages)


def caption_frames(
    extractor: Extractor, choose_fn: ChooseFn, path: Path, video: Video, stages: Stages
) -> Captioned:
    """Caption sampled frames of the video at `path`."""
    (arrays,) = extractor.describe([video], stages)
    clip = to_clip(path.stem, (), video, arrays)
    with stages.measure('caption'):
        (candidates,) = choose_fn([clip])
    return Captioned(
        path=path,
        start=video.start,
        end=video.end,
        second_T=video.second_T,
        frames=small_frames(video),
        clip=clip,
        label_names=extractor.class_names,
        candidates=candidates,
        stages=stages,
    )


def _read(
    extractor: Extractor, path: str | os.PathLike[str], seconds: float | None
) -> Iterator[Video]:
    if seconds is None:
        yield extractor.read(path)
    else:
        yield from extractor.read_segments(path, seconds)


def small_frames(video: Video) -> list[np.ndarray]:
    """Scale the frames down, in the shape of the source: extractors may keep them distorted."""
    # Not to the size of the source: a segmented film has thousands of these frames.
    scale = min(1, SIDE / max(video.height, video.width))
    size = max(1, round(video.width * scale)), max(1, round(video.height * scale))
    frames = map(np.ascontiguousarray, video.frames)
    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
