"""Which frame each position of a branch's sequence describes."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """Positions of a sequence in time; static, the same for all clips of a batch.

    Attributes:
      num_frames: T.
      time: (S,) for each position its place in time; modulo T it is the frame described.
      num_parts: positions of each frame that describe the same parts in every frame, in the same
        order, such as the cells of a grid; 0 where there are no such parts.
    """

    num_frames: int
    time: tuple[int, ...]
    num_parts: int = 0

    @classmethod
    def of_frames(cls, num_frames: int, num_vectors: int) -> 'Layout':
        """Return that of `num_vectors` sequences of frame vectors, one after another."""
        return cls(num_frames, tuple(range(num_frames * num_vectors)))

    @classmethod
    def of_parts(cls, num_frames: int, num_parts: int, is_aligned: bool = False) -> 'Layout':
        """Return that of frames with `num_parts` positions each, frame by frame."""
        time = tuple(np.repeat(np.arange(num_frames), num_parts).tolist())
        return cls(num_frames, time, num_parts if is_aligned else 0)

    @property
    def frame(self) -> np.ndarray:
        """Return the frame that each position describes, (S,)."""
        return np.array(self.time) % self.num_frames


def joined(first: Layout, second: Layout) -> Layout:
    """Return the layout of two sequences of a clip, one after the other."""
    num_frames = first.num_frames
    # Whole multiples of T apart: the two parts differ in time and agree in their frames.
    shift = (max(first.time) // num_frames + 1) * num_frames
    return Layout(num_frames, first.time + tuple(time + shift for time in second.time))
