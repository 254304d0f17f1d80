"""Degrade the detector of the toy world on purpose, to test how robust a captioner is."""

import dataclasses
import zlib

import numpy as np

from stg_jax.extract.toy_pixels.regions import Region


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
