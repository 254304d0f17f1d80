"""The extractor of the toy world: regions and pixel descriptors, without weights.

Noise can be added to its boxes, to measure how captions suffer from a worse detector.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import cv2
import numpy as np

from stg_jax.data.clip import no_objects
from stg_jax.extract.base import Extractor, Stages
from stg_jax.extract.toy_pixels.cells import describe_cells
from stg_jax.extract.toy_pixels.descriptors import (
    WIDTHS,
    describe_frame,
    describe_motion,
    describe_region,
    motion_of,
    moving_pixels,
    optical_flow,
)
from stg_jax.extract.toy_pixels.regions import Region, distance, find_regions, ground_colour
from stg_jax.extract.video.frames import Video

# Pixels per side to which every frame is scaled.
SIDE = 112


@dataclasses.dataclass(frozen=True)
class DetectorNoise:
    """Kind and amount of errors.

    Attributes:
      dropout: share of the regions that are missed.
      jitter: standard deviation of a region's displacement, as a share of its size.
    """

    dropout: float = 0.0
    jitter: float = 0.0

    def spoil(self, regions: list[list[Region]], frames: np.ndarray) -> list[list[Region]]:
        """Drop some regions of each frame and displace the others.

        Args:
          regions: of T frames.
          frames: (T, h, w, 3) uint8; the only seed of the noise, so that a video always gets
            the same features.
        """
        if not self.dropout and not self.jitter:
            return regions
        rng = np.random.default_rng(zlib.crc32(frames.tobytes()))
        height, width = frames.shape[1:3]
        return [
            [
                self._displaced(region, rng, height, width)
                for region in frame_regions
                if rng.random() >= self.dropout
            ]
            for frame_regions in regions
        ]

    def _displaced(
        self, region: Region, rng: np.random.Generator, height: int, width: int
    ) -> Region:
        """Move a region within the picture; descriptors then read the pixels at its new place."""
        h, w = region.mask.shape
        x, y = region.corner
        dx, dy = rng.normal(0, self.jitter, 2) * (w, h)
        x = int(np.clip(round(x + dx), 0, width - w))
        y = int(np.clip(round(y + dy), 0, height - h))
        box = np.array([x / width, y / height, (x + w) / width, (y + h) / height], np.float32)
        return dataclasses.replace(region, box=box, corner=(x, y))


NO_NOISE = DetectorNoise()


class PixelExtractor(Extractor):
    """Turn any video file into a `Clip` of pixel descriptors.

    Attributes:
      widths: C2, C3 and Co by kind.
    """

    name = 'pixels'
    version = 2
    widths = WIDTHS

    def __init__(
        self,
        num_frames: int,
        num_objects: int,
        *,
        with_grid: bool = False,
        noise: DetectorNoise = NO_NOISE,
    ):
        self._num_frames = num_frames
        self._with_grid = with_grid
        self._noise = noise
        self._num_objects = num_objects
        self.settings = {
            'name': self.name,
            'version': self.version,
            'frames': num_frames,
            'objects': num_objects,
        }
        # Left out unless used, so that the settings of older data folders stay equal.
        if with_grid:
            self.settings['grid'] = True
        if noise != NO_NOISE:
            self.settings['noise'] = dataclasses.asdict(noise)

    @classmethod
    def choose(cls, frames: int, objects: int, **options: Any) -> dict[str, Any]:
        """See `Extractor`."""
        return cls(frames, objects, with_grid=True).settings

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """See `Extractor`."""
        return cls(
            settings['frames'],
            settings['objects'],
            with_grid=settings.get('grid', False),
            noise=DetectorNoise(**settings.get('noise', {})),
        )

    @property
    def sampling(self) -> dict[str, Any]:
        """See `Extractor`."""
        return {'num_frames': self._num_frames, 'context': 3, 'size': (SIDE, SIDE)}

    def describe(
        self, videos: Sequence[Video], stages: Stages | None = None
    ) -> list[dict[str, np.ndarray]]:
        """See `Extractor`."""
        with (stages or Stages()).measure('embed'):
            return list(map(self._describe, videos))

    def _describe(self, video: Video) -> dict[str, np.ndarray]:
        before, now, after = (_to_lab(video.contexts[:, k]) for k in range(3))
        flow = list(map(optical_flow, before, after))
        motion = list(map(motion_of, flow, map(moving_pixels, before, after)))
        ground = np.stack(list(map(ground_colour, now)))
        contrast = distance(now, ground[:, None, None])
        arrays = {
            'appearance': np.stack(list(map(describe_frame, now, ground, contrast))),
            'motion': np.stack(list(map(describe_motion, motion))),
            **self._objects(now, ground, contrast, flow),
        }
        if self._with_grid:
            arrays['grid'] = describe_cells(now, ground, contrast, motion)
        return arrays

    def _objects(
        self, lab: np.ndarray, ground: np.ndarray, contrast: np.ndarray, flow: list[np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Describe the regions of each frame, best first, padded to N."""
        arrays = no_objects(self._num_frames, self._num_objects, WIDTHS['object'])
        found = find_regions(lab, self._num_objects, contrast)
        for t, regions in enumerate(self._noise.spoil(found, lab)):
            for n, region in enumerate(regions):
                arrays['object'][t, n] = describe_region(region, lab[t], ground[t], flow[t])
                arrays['box'][t, n] = region.box
                arrays['score'][t, n] = region.score
                arrays['object_mask'][t, n] = True
        return arrays


def _to_lab(frames: np.ndarray) -> np.ndarray:
    """Convert (T, h, w, 3) uint8 RGB to OpenCV's 8-bit Lab."""
    # One tall picture: a single call for all frames.
    tall = np.ascontiguousarray(frames).reshape(-1, *frames.shape[2:])
    return cv2.cvtColor(tall, cv2.COLOR_RGB2LAB).reshape(frames.shape)
