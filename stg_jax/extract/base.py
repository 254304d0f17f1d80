"""What every extractor does: decode videos, then describe them together."""

import abc
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.extract.timing import Stages
from stg_jax.extract.video.frames import Video, read_frames
from stg_jax.extract.video.segments import Window, read_windows


@dataclasses.dataclass(frozen=True)
class Detections:
    """The objects of one frame, best first.

    Attributes:
      box: (n, 4) float32, x1 y1 x2 y2 divided by frame width and height, in [0, 1], x1 < x2.
      score: (n,) float32, confidence in [0, 1], not increasing.
      label: (n,) int32, the detector's class.
    """

    box: np.ndarray
    score: np.ndarray
    label: np.ndarray


class Detector(Protocol):
    """Finds objects in frames.

    Attributes:
      class_names: of the classes by number, '' for one without; empty where unknown.
    """

    class_names: Sequence[str]

    def detect(self, frames: Sequence[np.ndarray], max_objects: int) -> list[Detections]:
        """Return the at most `max_objects` best objects of each of F frames.

        Args:
          frames: F frames (h, w, 3) uint8 RGB; sizes may differ from one to the next.
          max_objects: N.
        """


class FrameEncoder(Protocol):
    """Describes pictures.

    Attributes:
      width: channels of an embedding.
      map_width: channels of a feature map, 0 where the encoder has none.
    """

    width: int
    map_width: int

    def encode(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (F, width) float32 embeddings and (F, h, w, map_width) float32 maps, or None.

        A map covers the whole frame, stretched to the encoder's input size: cell (i, j) of (h, w)
        looks at rows i/h to (i+1)/h and columns j/w to (j+1)/w of the picture.
        """


class ClipEncoder(Protocol):
    """Describes motion.

    Attributes:
      width: channels of an embedding.
      window: number of consecutive frames that it looks at.
    """

    width: int
    window: int

    def encode(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """Return (P, width) float32 for P windows (window, h, w, 3) uint8 RGB of any sizes."""


class Extractor(abc.ABC):
    """Turns videos into features.

    Attributes:
      name: of the kind of extractor.
      version: raised when the same settings give other numbers than before.
      settings: JSON object from which `from_settings` makes an equal extractor.
      class_names: of the objects' labels by number, '' for one without; empty where unknown.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    settings: dict[str, Any]
    class_names: Sequence[str] = ()

    @classmethod
    @abc.abstractmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the extractor that has these `settings`.

        Raises:
          KeyError: the settings lack an entry.
          UserError: one of its models is missing.
        """

    @property
    @abc.abstractmethod
    def sampling(self) -> dict[str, Any]:
        """The arguments of `read_frames` by which this extractor looks at videos."""

    def read(self, path: str | os.PathLike[str]) -> Video:
        """Decode what the extractor looks at; safe to call in another thread.

        Raises:
          UserError: the file cannot be decoded.
        """
        return read_frames(path, **self.sampling)

    def read_windows(self, path: str | os.PathLike[str], seconds: float) -> Iterator[Window]:
        """Decode windows of a long video one after another, see `windows.read_windows`.

        Raises:
          UserError: the file cannot be decoded.
        """
        return read_windows(path, seconds, **self.sampling)

    @abc.abstractmethod
    def describe(
        self, videos: Sequence[Video], stages: Stages | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Return the feature and object arrays of a `Clip` for each video.

        What comes out for a video does not depend on the others. `stages` is told how long
        detection and embedding take, where they are apart.
        """

    def extract(
        self,
        path: str | os.PathLike[str],
        *,
        clip_id: str | None = None,
        captions: Sequence[str] = (),
    ) -> Clip:
        """Return the features of one video; `clip_id` is the file's stem unless given.

        Raises:
          UserError: the file cannot be decoded.
        """
        video = self.read(path)
        (arrays,) = self.describe([video])
        return to_clip(Path(path).stem if clip_id is None else clip_id, captions, video, arrays)


def to_clip(
    clip_id: str, captions: Sequence[str], video: Video, arrays: Mapping[str, np.ndarray]
) -> Clip:
    """Return the clip of a video and its arrays."""
    return Clip(
        id=clip_id,
        captions=tuple(captions),
        **arrays,
        true_box=np.zeros((len(video.index), 0, 4), np.float32),
        fps=video.fps,
        height=video.height,
        width=video.width,
    )
