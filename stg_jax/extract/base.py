"""The interfaces of extraction: an extractor, and the models that one may be built from."""

import abc
import contextlib
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.errors import UserError
from stg_jax.extract.video.frames import Video, read_frames, read_segments


class Stages:
    """Adds up the seconds of named stages.

    Attributes:
      seconds: by stage, in the order in which they first started.
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the duration of a block to a stage, unless the block fails."""
        # Not time.time, which goes back when the clock of the machine is set.
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


@dataclasses.dataclass(frozen=True)
class Detections:
    """The objects of one frame, best first.

    Attributes:
      box: (n, 4) float32, x1 y1 x2 y2 divided by frame width and height, in [0, 1], x1 < x2.
      score: (n,) float32, confidence in [0, 1], descending.
      label: (n,) int32, the detector's class.
    """

    box: np.ndarray
    score: np.ndarray
    label: np.ndarray


# Protocols and not base classes: a detector of another project fits without knowing this one.
class Detector(Protocol):
    """Finds objects in frames."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names by class number, '' for a class without one; empty if unknown."""
        ...

    def detect(self, frames: Sequence[np.ndarray], max_objects: int) -> list[Detections]:
        """Find at most `max_objects` objects in each of F frames.

        Args:
          frames: F frames (h, w, 3) uint8 RGB; sizes may differ from one to the next.
          max_objects: N.
        """
        ...


class FrameEncoder(Protocol):
    """Embeds single frames.

    Attributes:
      width: channels of an embedding.
      map_width: channels of a feature map, 0 if the encoder has none.
    """

    width: int
    map_width: int

    def encode(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """Compute embeddings (F, width) and maps (F, h, w, map_width), float32, or None for maps.

        A map covers the whole frame, stretched to the encoder's input size: cell (i, j) of (h, w)
        covers rows i/h to (i+1)/h and columns j/w to (j+1)/w of the picture.
        """
        ...


class ClipEncoder(Protocol):
    """Embeds motion.

    Attributes:
      width: channels of an embedding.
      context: number of consecutive frames that it reads.
    """

    width: int
    context: int

    def encode(self, contexts: Sequence[np.ndarray]) -> np.ndarray:
        """Compute (P, width) float32 from P arrays (context, h, w, 3) uint8 RGB of any sizes."""
        ...


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """How models run.

    Attributes:
      batch_size: pictures per call; another size may change the last digits.
      dtype: 'float32' or 'bfloat16', of the computation.
      min_score: detections below it are dropped.
    """

    batch_size: int
    dtype: str
    min_score: float


def run_in_batches(
    program: Callable[[np.ndarray], Any], pictures: Iterable[np.ndarray], batch_size: int
) -> list[np.ndarray]:
    """Run a program on one or more pictures of one shape, `batch_size` at a time.

    The last batch repeats its last picture, so that the program is compiled once and the result for
    a picture does not depend on the number of pictures.

    Args:
      program: from a batch of pictures to arrays with one row for each.
      pictures: arrays of one shape.
      batch_size: pictures per call.
    """
    pictures, parts = iter(pictures), []
    while group := list(itertools.islice(pictures, batch_size)):
        batch = np.stack(group + group[-1:] * (batch_size - len(group)))
        parts.append([np.asarray(array)[: len(group)] for array in program(batch)])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


class ModelLibrary:
    """A source of pretrained models, named NAME:MODEL; subclasses override what they have.

    `models.LIBRARIES` lists them by name.

    Attributes:
      example: for messages, such as 'keras:resnet_50_imagenet'.
      needs_model: False if NAME is complete without a model.
    """

    example: str
    needs_model: ClassVar[bool] = True

    def detector(self, model: str, options: ModelOptions) -> Detector:
        """Load a detector."""
        raise self._lacks('detector', model)

    def frame_encoder(self, model: str, options: ModelOptions) -> FrameEncoder:
        """Load a frame encoder."""
        raise self._lacks('frame_encoder', model)

    def clip_encoder(
        self, model: str, options: ModelOptions, frame_encoder: FrameEncoder
    ) -> ClipEncoder:
        """Load a clip encoder; `frame_encoder` is the one chosen beside it."""
        raise self._lacks('clip_encoder', model)

    def check(self, part: str, model: str) -> None:
        """Refuse a model that does not exist, without loading it.

        Args:
          part: 'detector', 'frame_encoder' or 'clip_encoder'.
          model: name or file.

        Raises:
          UserError: the model does not exist.
        """

    def files(self, model: str) -> list[Path]:
        """List the files whose content decides the features; none if the name says it all.

        Raises:
          UserError: a file is missing.
        """
        return []

    def _lacks(self, part: str, model: str) -> UserError:
        library = self.example.partition(':')[0]
        return UserError(f"'{library}' has no {part} ({model}): use keras:PRESET, or see --help")


class Extractor(abc.ABC):
    """Turns videos into features.

    Attributes:
      name: of the kind of extractor, in manifests and on the command line.
      version: raised when the same settings produce other numbers than before.
      uses_models: whether pretrained models keep all cores busy, so that one process is enough.
      options: names of the flags of `prepare.py` that `choose` accepts.
      settings: JSON object from which `from_settings` makes an equal extractor.
      class_names: of the objects' labels, '' for a class without a name; empty if unknown.
    """

    name: ClassVar[str]
    # Checked when a run captions raw video: features of another version would be read silently.
    version: ClassVar[int]
    uses_models: ClassVar[bool] = False
    options: ClassVar[Sequence[str]] = ()
    settings: dict[str, Any]
    class_names: Sequence[str] = ()

    @classmethod
    @abc.abstractmethod
    def choose(cls, frames: int, objects: int, **options: Any) -> dict[str, Any]:
        """Compose the settings of a new data set; models are not loaded.

        Args:
          frames: T, sampled frames of a video.
          objects: N, most objects of a frame.
          **options: those of the class.

        Raises:
          UserError: a model file is missing, or options contradict each other.
        """

    @classmethod  # noqa: B027 - an extractor without models has nothing to check
    def check(cls, settings: Mapping[str, Any]) -> None:
        """Refuse settings whose models do not exist, without loading any.

        Raises:
          UserError: the model does not exist.
        """

    @classmethod
    @abc.abstractmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build the extractor that has these `settings`.

        Raises:
          KeyError: the settings lack an entry.
          UserError: one of its models is missing.
        """

    @property
    @abc.abstractmethod
    def sampling(self) -> dict[str, Any]:
        """The arguments of `read_frames` with which this extractor samples videos."""

    def read(self, path: str | os.PathLike[str]) -> Video:
        """Decode the frames that the extractor needs; safe to call in another thread.

        Raises:
          UserError: the file cannot be decoded.
        """
        return read_frames(path, **self.sampling)

    def read_segments(self, path: str | os.PathLike[str], seconds: float) -> Iterator[Video]:
        """Decode a long video segment by segment, see `frames.read_segments`.

        Raises:
          UserError: the file cannot be decoded.
        """
        return read_segments(path, seconds, **self.sampling)

    @abc.abstractmethod
    def describe(
        self, videos: Sequence[Video], stages: Stages | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Compute the feature and object arrays of a `Clip` for each video.

        The result for a video does not depend on the others. `stages` records how long detection
        and embedding take, if they are separate.
        """

    def extract(
        self,
        path: str | os.PathLike[str],
        *,
        clip_id: str | None = None,
        captions: Sequence[str] = (),
    ) -> Clip:
        """Extract the features of one video; the clip id defaults to the file's stem.

        Raises:
          UserError: the file cannot be decoded.
        """
        video = self.read(path)
        (arrays,) = self.describe([video])
        return to_clip(Path(path).stem if clip_id is None else clip_id, captions, video, arrays)


def to_clip(
    clip_id: str, captions: Sequence[str], video: Video, arrays: Mapping[str, np.ndarray]
) -> Clip:
    """Combine a video and its arrays to a clip."""
    return Clip(
        id=clip_id,
        captions=tuple(captions),
        **arrays,  # pyright: ignore[reportArgumentType] - keys are names of array fields
        # Only the toy world knows where things really are.
        true_box=np.zeros((len(video.index), 0, 4), np.float32),
        fps=video.fps,
        height=video.height,
        width=video.width,
    )
