"""Which frames each position of a branch's sequence describes."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """Positions of a sequence in time; static, the same for all clips of a batch.

    Attributes:
      num_frames: T.
      time: (S,) the place of each position in time; modulo T it is the first frame described.
      span: (S,) how many frames in a row each position describes.
    """

    num_frames: int
    time: tuple[int, ...]
    span: tuple[int, ...]

    @classmethod
    def of_frames(cls, num_frames: int, num_vectors: int = 1) -> 'Layout':
        """Describe `num_vectors` sequences of frame vectors, one after another."""
        length = num_frames * num_vectors
        return cls(num_frames, tuple(range(length)), (1,) * length)

    @classmethod
    def of_parts(cls, num_frames: int, num_parts: int, span: int = 1) -> 'Layout':
        """Describe groups of `span` frames by `num_parts` positions each, group by group."""
        time = np.repeat(np.arange(0, num_frames, span), num_parts)
        return cls(num_frames, tuple(time.tolist()), (span,) * len(time))

    def followed_by(self, other: 'Layout', *, same_time: bool) -> 'Layout':
        """Describe this sequence and another one behind it, at the same times or at later ones."""
        # Whole multiples of T later: the two parts differ in time and agree in their frames.
        shift = 0 if same_time else (max(self.time) // self.num_frames + 1) * self.num_frames
        time = self.time + tuple(time + shift for time in other.time)
        return Layout(self.num_frames, time, self.span + other.span)

    @property
    def is_frame(self) -> np.ndarray:
        """Return True where a position describes a frame, (S, T)."""
        first_S1 = np.array(self.time)[:, None] % self.num_frames
        frame_T = np.arange(self.num_frames)
        return (first_S1 <= frame_T) & (frame_T < first_S1 + np.array(self.span)[:, None])
