"""Which frame each position of a branch's sequence describes."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """Positions of a sequence in time; static, the same for all clips of a batch.

    Attributes:
      num_frames: T.
      time: (S,) the place of each position in time; modulo T it is the frame described.
    """

    num_frames: int
    time: tuple[int, ...]

    @classmethod
    def of_frames(cls, num_frames: int, num_vectors: int) -> 'Layout':
        """Describe `num_vectors` sequences of frame vectors, one after another."""
        return cls(num_frames, tuple(range(num_frames * num_vectors)))

    @classmethod
    def of_parts(cls, num_frames: int, num_parts: int) -> 'Layout':
        """Describe frames of `num_parts` positions each, frame by frame."""
        return cls(num_frames, tuple(np.repeat(np.arange(num_frames), num_parts).tolist()))

    @property
    def frame(self) -> np.ndarray:
        """Return the frame that each position describes, (S,)."""
        return np.array(self.time) % self.num_frames


def joined(first: Layout, second: Layout) -> Layout:
    """Describe two sequences of a clip, one after the other."""
    num_frames = first.num_frames
    # Whole multiples of T apart: the two parts differ in time and agree in their frames.
    shift = (max(first.time) // num_frames + 1) * num_frames
    return Layout(num_frames, first.time + tuple(time + shift for time in second.time))
