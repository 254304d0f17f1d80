"""Which videos a command line means."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.datasets.clip_ids import VIDEO_SUFFIXES
from stg_jax.decode.candidates import Candidate
from stg_jax.errors import UserError
from stg_jax.extract.base import Extractor, to_clip
from stg_jax.extract.timing import Stages
from stg_jax.extract.video.segments import Window

SIDE = 480  # pixels of the longer side of the pictures that are kept to be shown

ChooseFn = Callable[[Sequence[Clip]], list[list[Candidate]]]


@dataclasses.dataclass(frozen=True)
class Captioned:
    """The captions of a video or of a window of it.

    Attributes:
      path: of the video.
      start: seconds after its first frame.
      end: likewise.
      second_T: when each of the T described frames is shown, likewise.
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
        """Return the best caption."""
        return self.candidates[0].caption

    def as_json(self) -> dict[str, Any]:
        """Return what a program may want to know, times in seconds."""
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
    """Yield the captions of each window of `seconds`, or of the whole video without.

    Memory holds one window at a time.

    Args:
      extractor: which made the features that the captioner was trained on.
      choose_fn: finds captions of clips, such as a search with its settings.
      path: video file.
      seconds: length of a window.

    Raises:
      UserError: the file cannot be decoded.
    """
    windows = _whole(extractor, path) if seconds is None else extractor.read_windows(path, seconds)
    while True:
        stages = Stages()
        with stages.measure('decode'):
            window = next(windows, None)
        if window is None:
            return
        (arrays,) = extractor.describe([window.video], stages)
        clip = to_clip(Path(path).stem, (), window.video, arrays)
        with stages.measure('caption'):
            (candidates,) = choose_fn([clip])
        yield Captioned(
            Path(path),
            window.start,
            window.end,
            window.second_T,
            _small(window),
            clip,
            extractor.class_names,
            candidates,
            stages,
        )


def _whole(extractor: Extractor, path: str | os.PathLike[str]) -> Iterator[Window]:
    """Yield a video as one window, its frames those that the training features are of."""
    video = extractor.read(path)
    # Without a rate, what is shown and written needs some time: frames then count as seconds.
    rate = video.fps or 1.0
    yield Window(0.0, video.num_frames / rate, video.index / rate, video)


def _small(window: Window) -> list[np.ndarray]:
    """Return the frames in their true shape, which extractors need not keep."""
    video = window.video
    scale = min(1, SIDE / max(video.height, video.width))
    size = max(1, round(video.width * scale)), max(1, round(video.height * scale))
    frames = map(np.ascontiguousarray, video.frames)
    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]


def list_videos(names: Iterable[str]) -> list[Path]:
    """Return the files of a command line; a folder stands for the videos below it, by name.

    Raises:
      UserError: a folder holds no video.
    """
    paths: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        paths |= dict.fromkeys(_below(path) if path.is_dir() else [path])
    return list(paths)


def _below(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob('*')) if path.suffix.lower() in VIDEO_SUFFIXES]
    found = [path for path in found if path.is_file() and not path.name.startswith('.')]
    if not found:
        raise UserError(f'{folder} holds no video file ({" ".join(sorted(VIDEO_SUFFIXES))})')
    return found
