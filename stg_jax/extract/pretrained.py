"""The extractor for real videos: a detector, a frame encoder and a clip encoder."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from stg_jax.data.clip import no_objects
from stg_jax.errors import UserError
from stg_jax.extract import models
from stg_jax.extract.base import (
    ClipEncoder,
    Detections,
    Detector,
    Extractor,
    FrameEncoder,
    ModelOptions,
    Stages,
)
from stg_jax.extract.lite import encoder as lite
from stg_jax.extract.roi_align import grid_nodes, pool_to_cells, roi_align
from stg_jax.extract.video.frames import Video

# Pixels of the longer side at which frames are kept: no model here reads more.
MAX_SIDE = 640


@dataclasses.dataclass(frozen=True)
class Models:
    """The models that describe a video, and how.

    Attributes:
      frames: T.
      objects: N; a square number for a grid.
      nodes: 'boxes' of the detector, or 'grid': cells of the frame encoder's map.
      detector: name of a model, see `models.LIBRARIES`; not used for a grid.
      frame_encoder: name of a model.
      clip_encoder: name of a model, or 'difference' of neighbouring frames.
      object_features: 'roi': the frame encoder's map averaged over each box, or 'crop': its
        embedding of the picture inside the box.
      min_score: see `ModelOptions`.
      batch_size: see `ModelOptions`.
      dtype: see `ModelOptions`.
      grid_side: the frame encoder's map is stored in at most that many rows and columns of cells; 0
        leaves it out. Data folders from before grids do not name it.
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
    grid_side: int = 0

    def parts(self) -> dict[str, str]:
        """Name the models that are used, by their part."""
        detector = {'detector': self.detector} if self.nodes == 'boxes' else {}
        encoders = {'frame_encoder': self.frame_encoder, 'clip_encoder': self.clip_encoder}
        return detector | encoders

    def settings(self) -> dict[str, Any]:
        """Compose the settings of a `FeatureExtractor`, checked as far as possible without loading.

        Raises:
          UserError: a model file is missing, or the objects do not form a grid.
        """
        if self.nodes == 'grid' and math.isqrt(self.objects) ** 2 != self.objects:
            raise UserError(
                f'a grid needs a square number of objects, not {self.objects}: try 9 or 25'
            )
        digests = {name: models.digest(part, name) for part, name in self.parts().items()}
        return {
            'name': FeatureExtractor.name,
            'version': FeatureExtractor.version,
            **dataclasses.asdict(self),
            # A file of the same name with other weights would silently give other features.
            'digests': {name: digest for name, digest in sorted(digests.items()) if digest},
        }


def default_models(given: Mapping[str, Any], *, of_own_videos: bool) -> dict[str, Any]:
    """Fill in the models and the kind of nodes that nobody chose.

    For people's own videos the small encoder is preferred where pip has installed it: together with
    nodes that are cells of its map, it needs no detector and no download.

    Args:
      given: attributes of `Models`; 'detector', 'frame_encoder' and 'nodes' may be None.
      of_own_videos: whether no published data set asks for the usual large models.
    """
    detector, frame_encoder, nodes = (given[key] for key in ('detector', 'frame_encoder', 'nodes'))
    if frame_encoder is None:
        is_small = of_own_videos and lite.is_installed('lite0')
        frame_encoder = 'lite0' if is_small else 'keras:resnet_101_imagenet'
    if nodes is None:
        nodes = 'grid' if frame_encoder in lite.PRESETS and detector is None else 'boxes'
    detector = detector or 'keras:dfine_small_coco'
    return {**given, 'detector': detector, 'frame_encoder': frame_encoder, 'nodes': nodes}


def models_notes(settings: Mapping[str, Any], *, encoder: bool, dtype: bool) -> Iterator[str]:
    """Yield a sentence for a frame encoder that is a new default, and for a dtype without effect.

    Args:
      settings: of any extractor.
      encoder: whether the frame encoder was named.
      dtype: whether the dtype was.
    """
    if settings.get('frame_encoder') == 'lite0' and not encoder:
        yield (
            'frame encoder lite0, and cells as objects unless a detector is named: the default '
            'where the extra lite is installed'
        )
    # ONNX files compute in the type they were exported with.
    parts = [settings.get(part, '') for part in ('frame_encoder', 'clip_encoder')]
    if settings.get('nodes') == 'boxes':
        parts.append(settings['detector'])
    if dtype and not any(part.startswith(('keras:', 'lite')) for part in parts):
        yield f'--dtype={settings["dtype"]} changes nothing, as no part is keras:PRESET or lite0'


class FeatureExtractor(Extractor):
    """Describes frames, motion and objects with pretrained models."""

    name = 'models'
    version = (
        2  # since 2: mirrored and non-square frames upright, sizes and filters of ONNX configs
    )
    uses_models = True
    options = (
        *('detector', 'frame_encoder', 'clip_encoder', 'nodes'),
        *('object_features', 'min_score', 'batch_size', 'dtype', 'grid_side'),
    )

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
        self._grid_side = settings.get('grid_side', 0)
        # Both need a spatial feature map; crops only need an embedding.
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
    def choose(cls, frames: int, objects: int, **options: Any) -> dict[str, Any]:
        """See `Extractor`; the options are the other attributes of `Models`."""
        return Models(frames=frames, objects=objects, **options).settings()

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> None:
        """See `Extractor`."""
        fields = {field.name for field in dataclasses.fields(Models)} & settings.keys()
        for part, name in Models(**{field: settings[field] for field in fields}).parts().items():
            models.check(part, name)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """See `Extractor`."""
        # Manifests keep digests by name. A name shared by several parts has the same files in each.
        part_of = {settings[part]: part for part in ('detector', 'clip_encoder', 'frame_encoder')}
        for name, digest in settings['digests'].items():
            if models.digest(part_of.get(name, 'frame_encoder'), name) != digest:
                raise UserError(
                    f'{name} is not the model that made the training features: put the original '
                    'file back, or extract the data set again and retrain'
                )
        options = ModelOptions(settings['batch_size'], settings['dtype'], settings['min_score'])
        detector = None
        if settings['nodes'] == 'boxes':
            detector = models.build_detector(settings['detector'], options)
        encoder = models.build_frame_encoder(settings['frame_encoder'], options)
        clip_encoder = models.build_clip_encoder(settings['clip_encoder'], options, encoder)
        return cls(settings, detector, encoder, clip_encoder)

    @property
    def sampling(self) -> dict[str, Any]:
        """See `Extractor`."""
        context = self._clip_encoder.context
        return {'num_frames': self._num_frames, 'context': context, 'max_side': MAX_SIDE}

    def describe(
        self, videos: Sequence[Video], stages: Stages | None = None
    ) -> list[dict[str, np.ndarray]]:
        """See `Extractor`."""
        stages = stages or Stages()
        # Frames of all videos together fill the batches of the models; each video has few.
        frames = [frame for video in videos for frame in video.frames]
        contexts = [context for video in videos for context in video.contexts]
        with stages.measure('detect'):
            found = self._detector.detect(frames, self._num_objects) if self._detector else None
        with stages.measure('embed'):
            appearance, maps = self._frame_encoder.encode(frames)
            arrays = {
                'appearance': appearance,
                'motion': self._clip_encoder.encode(contexts),
                **self._objects(found, frames, maps),
            }
            # An encoder that gives only embeddings has no cells to store.
            if self._grid_side and maps is not None:
                arrays['grid'] = pool_to_cells(maps, self._grid_side)
        parts = {kind: np.split(rows, len(videos)) for kind, rows in arrays.items()}
        return [{kind: parts[kind][k] for kind in parts} for k in range(len(videos))]

    def _objects(
        self,
        found: Sequence[Detections] | None,
        frames: Sequence[np.ndarray],
        maps: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        if found is not None:
            return self._boxes(found, frames, maps)
        assert maps is not None  # checked when the extractor was built
        return self._cells(maps)

    def _cells(self, maps: np.ndarray) -> dict[str, np.ndarray]:
        """Take the cells of each map as objects."""
        objects = no_objects(len(maps), self._num_objects, self._frame_encoder.map_width)
        objects['object'], objects['box'] = map(np.asarray, grid_nodes(maps, self._num_objects))
        objects['score'][:], objects['object_mask'][:] = 1, True
        return objects

    def _boxes(
        self, found: Sequence[Detections], frames: Sequence[np.ndarray], maps: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Embed the detected objects of each frame, best first."""
        encoder = self._frame_encoder
        width = encoder.map_width if self._by_map else encoder.width
        objects = no_objects(len(frames), self._num_objects, width)
        for t, detections in enumerate(found):
            # Labels and scores of padding keep the values of `no_objects`.
            count = len(detections.box)
            for kind in ('box', 'score', 'label'):
                objects[kind][t, :count] = getattr(detections, kind)
            objects['object_mask'][t, :count] = True
        mask = objects['object_mask']
        if self._by_map:
            assert maps is not None  # checked when the extractor was built
            # All N boxes of a frame at once, padding included: one shape, compiled once.
            pooled = in_batches(roi_align, [maps, objects['box']], self._batch_size)
            objects['object'] = pooled * mask[..., None]
        elif mask.any():
            # Only real objects: an encoder is the most expensive part, and padding has no pixels.
            crops = [_crop(frames[t], objects['box'][t, n]) for t, n in np.argwhere(mask)]
            objects['object'][mask] = encoder.encode(crops)[0]
        return objects


def _crop(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut out the pixels that a box touches, at least one."""
    # Outwards to whole pixels, and at least one: encoders cannot resize an empty picture.
    size = np.array(frame.shape[1::-1])
    x1, y1 = np.minimum(np.floor(box[:2] * size), size - 1).astype(int)
    x2, y2 = np.maximum(np.ceil(box[2:] * size).astype(int), (x1 + 1, y1 + 1))
    return frame[y1:y2, x1:x2]


def in_batches(
    fn: Callable[..., Any], columns: Sequence[np.ndarray], batch_size: int
) -> np.ndarray:
    """Compute `fn(*columns)` for columns of R rows each, `batch_size` rows at a time.

    The last batch repeats its last row, so that `fn` is compiled once and the result for a row
    does not depend on the number of rows.
    """
    num_rows = len(columns[0])
    parts = []
    for start in range(0, num_rows, batch_size):
        index = np.minimum(np.arange(start, start + batch_size), num_rows - 1)
        part = np.asarray(fn(*(column[index] for column in columns)))
        parts.append(part[: num_rows - start])
    return np.concatenate(parts)
