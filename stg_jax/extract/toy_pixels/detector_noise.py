"""Make the detector of the toy world worse on purpose, to see what a captioner can bear."""

import dataclasses
import zlib

import numpy as np

from stg_jax.extract.toy_pixels.regions import Region


@dataclasses.dataclass(frozen=True)
class DetectorNoise:
    """How much worse.

    Attributes:
      dropout: share of the regions that are missed.
      jitter: standard deviation of a region's displacement, as a share of its size.
    """

    dropout: float = 0.0
    jitter: float = 0.0

    def spoil(self, regions: list[list[Region]], frames: np.ndarray) -> list[list[Region]]:
        """Return the regions of each frame without those missed, the others displaced.

        Args:
          regions: of T frames.
          frames: (T, h, w, 3) uint8; the noise depends on these pixels and on nothing else, so that
            a video always gets the same features.
        """
        if not self.dropout and not self.jitter:
            return regions
        rng = np.random.default_rng(zlib.crc32(frames.tobytes()))
        height, width = frames.shape[1:3]
        return [
            [
                self._displaced(region, rng, height, width)
                for region in of_frame
                if rng.random() >= self.dropout
            ]
            for of_frame in regions
        ]

    def _displaced(
        self, region: Region, rng: np.random.Generator, height: int, width: int
    ) -> Region:
        """Move a region within the picture; it is described by the pixels that it covers then."""
        h, w = region.mask.shape
        x, y = region.corner
        dx, dy = rng.normal(0, self.jitter, 2) * (w, h)
        x = int(np.clip(round(x + dx), 0, width - w))
        y = int(np.clip(round(y + dy), 0, height - h))
        box = np.array([x / width, y / height, (x + w) / width, (y + h) / height], np.float32)
        return dataclasses.replace(region, box=box, corner=(x, y))
