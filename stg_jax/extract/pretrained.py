"""The extractor for real videos: a detector, a frame encoder and a clip encoder."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from stg_jax.data.clip import no_objects
from stg_jax.errors import UserError
from stg_jax.extract import models
from stg_jax.extract.base import ClipEncoder, Detections, Detector, Extractor, FrameEncoder
from stg_jax.extract.roi_align import grid_nodes, roi_align
from stg_jax.extract.timing import Stages
from stg_jax.extract.video.frames import Video


def in_batches(
    fn: Callable[..., np.ndarray], columns: Sequence[np.ndarray], batch_size: int
) -> np.ndarray:
    """Return `fn(*columns)` for columns of R rows each, called on `batch_size` rows at a time.

    The last batch repeats its last row, so that `fn` is compiled once and what it returns for a
    row does not depend on how many there are.
    """
    num_rows = len(columns[0])
    parts = []
    for start in range(0, num_rows, batch_size):
        index = np.minimum(np.arange(start, start + batch_size), num_rows - 1)
        part = np.asarray(fn(*(column[index] for column in columns)))
        parts.append(part[: num_rows - start])
    return np.concatenate(parts)


MAX_SIDE = 640  # pixels of the longest side at which frames are kept: no model here sees more

Objects = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Models:
    """Which models describe a video, and how.

    Attributes:
      frames: T.
      objects: N, a square number for a grid.
      nodes: 'boxes' of the detector, or 'grid': cells of the frame encoder's map.
      detector: 'keras:PRESET' or 'onnx:FILE'; not used for a grid.
      frame_encoder: 'keras:PRESET' or 'onnx:FILE'.
      clip_encoder: 'keras:PRESET' or 'difference'.
      object_features: 'roi': the frame encoder's map averaged over each box, or 'crop': its
        embedding of the picture inside the box.
      min_score: detections below it are dropped.
      batch_size: pictures that a model sees at once; another one may change the last digits.
      dtype: 'float32' or 'bfloat16', of the computation.
    """

    frames: int
    objects: int
    nodes: str
    detector: str
    frame_encoder: str
    clip_encoder: str
    object_features: str
    min_score: float
    batch_size: int
    dtype: str

    def settings(self) -> dict[str, Any]:
        """Return the settings of a `FeatureExtractor`, checked as far as that needs no model.

        Raises:
          UserError: a model file is missing, or the objects do not form a grid.
        """
        parts = {self.frame_encoder, self.clip_encoder}
        if self.nodes == 'boxes':
            parts.add(self.detector)
        elif math.isqrt(self.objects) ** 2 != self.objects:
            raise UserError(
                f'a grid needs a square number of objects, not {self.objects}: try 9 or 25'
            )
        digests = {part: models.digest(part) for part in sorted(parts)}
        return {
            'name': FeatureExtractor.name,
            'version': FeatureExtractor.version,
            **dataclasses.asdict(self),
            'digests': {part: digest for part, digest in digests.items() if digest},
        }


class FeatureExtractor(Extractor):
    """Describe frames, motion and objects by pretrained models."""

    name = 'models'
    version = 1

    def __init__(
        self,
        settings: Mapping[str, Any],
        detector: Detector | None,
        frame_encoder: FrameEncoder,
        clip_encoder: ClipEncoder,
    ):
        self.settings = dict(settings)
        self._num_frames, self._num_objects = settings['frames'], settings['objects']
        self._batch_size = settings['batch_size']
        self._by_map = settings['nodes'] == 'grid' or settings['object_features'] == 'roi'
        self._detector = detector
        if detector:
            self.class_names = detector.class_names
        self._frame_encoder = frame_encoder
        self._clip_encoder = clip_encoder
        if self._by_map and not frame_encoder.map_width:
            raise UserError(
                f'{settings["frame_encoder"]} has no feature map to average over boxes: pass '
                '--object_features=crop with --nodes=boxes'
            )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """See `Extractor`."""
        for part, digest in settings['digests'].items():
            if models.digest(part) != digest:
                raise UserError(
                    f'{part} is not the model that made the training features: put the original '
                    'file back, or extract the data set again and retrain'
                )
        size = {'batch_size': settings['batch_size'], 'dtype': settings['dtype']}
        detector = None
        if settings['nodes'] == 'boxes':
            detector = models.build_detector(
                settings['detector'], min_score=settings['min_score'], **size
            )
        encoder = models.build_frame_encoder(settings['frame_encoder'], **size)
        clip_encoder = models.build_clip_encoder(settings['clip_encoder'], encoder, **size)
        return cls(settings, detector, encoder, clip_encoder)

    @property
    def sampling(self) -> dict[str, Any]:
        """See `Extractor`."""
        window = self._clip_encoder.window
        return {'num_frames': self._num_frames, 'window': window, 'max_side': MAX_SIDE}

    def describe(
        self, videos: Sequence[Video], stages: Stages | None = None
    ) -> list[dict[str, np.ndarray]]:
        """See `Extractor`."""
        stages = stages or Stages()
        frames = [frame for video in videos for frame in video.frames]
        windows = [window for video in videos for window in video.windows]
        with stages.measure('detect'):
            found = self._detector.detect(frames, self._num_objects) if self._detector else None
        with stages.measure('embed'):
            appearance, maps = self._frame_encoder.encode(frames)
            arrays = {
                'appearance': appearance,
                'motion': self._clip_encoder.encode(windows),
                **(self._grid(maps) if found is None else self._boxes(found, frames, maps)),
            }
        parts = {kind: np.split(rows, len(videos)) for kind, rows in arrays.items()}
        return [{kind: parts[kind][k] for kind in parts} for k in range(len(videos))]

    def _grid(self, maps: np.ndarray) -> Objects:
        """Return the cells of each map as objects."""
        objects = no_objects(len(maps), self._num_objects, self._frame_encoder.map_width)
        objects['object'], objects['box'] = map(np.asarray, grid_nodes(maps, self._num_objects))
        objects['score'][:], objects['object_mask'][:] = 1, True
        return objects

    def _boxes(
        self, found: Sequence[Detections], frames: Sequence[np.ndarray], maps: np.ndarray | None
    ) -> Objects:
        """Return the detected objects of each frame, best first."""
        encoder = self._frame_encoder
        width = encoder.map_width if self._by_map else encoder.width
        objects = no_objects(len(frames), self._num_objects, width)
        for t, detections in enumerate(found):
            count = len(detections.box)
            for kind in ('box', 'score', 'label'):
                objects[kind][t, :count] = getattr(detections, kind)
            objects['object_mask'][t, :count] = True
        mask = objects['object_mask']
        if self._by_map:
            pooled = in_batches(roi_align, [maps, objects['box']], self._batch_size)
            objects['object'] = pooled * mask[..., None]
        elif mask.any():
            crops = [_crop(frames[t], objects['box'][t, n]) for t, n in np.argwhere(mask)]
            objects['object'][mask] = encoder.encode(crops)[0]
        return objects


def _crop(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the pixels of a frame that a box touches, at least one."""
    size = np.array(frame.shape[1::-1])
    x1, y1 = np.minimum(np.floor(box[:2] * size), size - 1).astype(int)
    x2, y2 = np.maximum(np.ceil(box[2:] * size).astype(int), (x1 + 1, y1 + 1))
    return frame[y1:y2, x1:x2]
