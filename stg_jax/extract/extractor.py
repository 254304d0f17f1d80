"""What every extractor does: decode videos, then describe them together."""

import abc
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.extract.stages import Stages
from stg_jax.extract.video import Video, read_frames
from stg_jax.extract.windows import Window, read_windows


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
