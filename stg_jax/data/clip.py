"""What a clip is: its captions and the features of its sampled frames."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Clip:
    """One captioned clip with the features of T sampled frames and up to N objects per frame.

    Attributes:
      id: unique name of the clip within its data set (untrusted text).
      captions: normalised captions (see `stg_jax.data.text.normalise`), possibly none.
      appearance: (T, C2) float, 2D features of the frames.
      motion: (T, C3) float, 3D features of the seconds around each frame.
      object: (T, N, Co) float, features of the objects; zero where absent.
      box: (T, N, 4) float32, x1 y1 x2 y2 divided by frame width and height, in [0, 1].
      score: (T, N) float32, detector confidence in [0, 1]; zero where absent.
      label: (T, N) int32, detector class; -1 where absent or without classes.
      object_mask: (T, N) bool, True where an object exists.
      true_box: (T, M, 4) float32, boxes known to a renderer (subject and patient of the caption
        first), for tests of grounding only, never model input; M = 0 where nothing is known.
      fps: frames per second of the video, 0 where unknown.
      height: frame height of the video in pixels, 0 where unknown.
      width: frame width of the video in pixels, 0 where unknown.
      grid: (T, G, Cg) float, features of the cells of each frame, row by row; None without them.
      source: the longer video that the clip was cut from (untrusted text), '' where unknown: clips
        of one source in two splits are a leak.
    """

    id: str
    captions: tuple[str, ...]
    appearance: np.ndarray
    motion: np.ndarray
    object: np.ndarray
    box: np.ndarray
    score: np.ndarray
    label: np.ndarray
    object_mask: np.ndarray
    true_box: np.ndarray
    fps: float = 0.0
    height: int = 0
    width: int = 0
    grid: np.ndarray | None = None
    source: str = ''


def no_objects(num_frames: int, num_objects: int, width: int) -> dict[str, np.ndarray]:
    """Return the object arrays of a clip without any object: T, N and Co, see `Clip`."""
    shape = (num_frames, num_objects)
    return {
        'object': np.zeros((*shape, width), np.float32),
        'box': np.zeros((*shape, 4), np.float32),
        'score': np.zeros(shape, np.float32),
        'label': np.full(shape, -1, np.int32),
        'object_mask': np.zeros(shape, bool),
    }
