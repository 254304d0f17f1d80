"""The extractor of the toy world: regions and small pixel descriptors, without any weights."""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.extract.descriptors import (
    WIDTHS,
    describe_frame,
    describe_motion,
    describe_region,
    ground_colour,
    moving_pixels,
    optical_flow,
)
from stg_jax.extract.regions import find_regions
from stg_jax.extract.video import read_frames

SIDE = 112  # pixels a side to which every frame is scaled
VERSION = 1  # raised when the numbers of a descriptor change


class PixelExtractor:
    """Turn any video file into a `Clip` of pixel descriptors.

    Attributes:
      widths: C2, C3 and Co by kind.
      settings: JSON object from which `extractor.build_extractor` makes this extractor again.
    """

    widths = WIDTHS

    def __init__(self, num_frames: int, num_objects: int):
        self._num_frames = num_frames
        self._num_objects = num_objects
        self.settings = {
            'name': 'pixels',
            'version': VERSION,
            'frames': num_frames,
            'objects': num_objects,
        }

    def extract(
        self,
        path: str | os.PathLike[str],
        *,
        clip_id: str | None = None,
        captions: Sequence[str] = (),
    ) -> Clip:
        """Return the features of a video; `clip_id` is the file's stem unless given.

        The sampled frames are `data.sampling.sample_index(frames of the file, T)`.

        Raises:
          UserError: the file cannot be decoded.
        """
        video = read_frames(path, self._num_frames, window=3, size=(SIDE, SIDE))
        before, now, after = (_to_lab(video.windows[:, k]) for k in range(3))
        flow = list(map(optical_flow, before, after))
        moving = map(moving_pixels, before, after)
        ground = list(map(ground_colour, now))
        return Clip(
            id=Path(path).stem if clip_id is None else clip_id,
            captions=tuple(captions),
            appearance=np.stack(list(map(describe_frame, now, ground))),
            motion=np.stack(list(map(describe_motion, flow, moving))),
            **self._objects(now, ground, flow),
            true_box=np.zeros((self._num_frames, 0, 4), np.float32),
            fps=video.fps,
            height=video.height,
            width=video.width,
        )

    def _objects(
        self, lab: np.ndarray, ground: list[np.ndarray], flow: list[np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the padded object arrays of a clip, best region first in every frame."""
        shape = self._num_frames, self._num_objects
        arrays = {
            'object': np.zeros((*shape, WIDTHS['object']), np.float32),
            'box': np.zeros((*shape, 4), np.float32),
            'score': np.zeros(shape, np.float32),
            'label': np.full(shape, -1, np.int32),
            'object_mask': np.zeros(shape, bool),
        }
        for t, regions in enumerate(find_regions(lab, self._num_objects)):
            for n, region in enumerate(regions):
                arrays['object'][t, n] = describe_region(region, lab[t], ground[t], flow[t])
                arrays['box'][t, n] = region.box
                arrays['score'][t, n] = region.score
                arrays['object_mask'][t, n] = True
        return arrays


def _to_lab(frames: np.ndarray) -> np.ndarray:
    """Convert (T, h, w, 3) uint8 RGB to OpenCV's 8-bit Lab, all frames as one tall picture."""
    tall = np.ascontiguousarray(frames).reshape(-1, *frames.shape[2:])
    return cv2.cvtColor(tall, cv2.COLOR_RGB2LAB).reshape(frames.shape)
