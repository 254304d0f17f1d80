"""What a report shows of one clip."""

import dataclasses
from collections.abc import Sequence

from stg_jax.explain import Explanation


@dataclasses.dataclass(frozen=True)
class Shown:
    """One clip, or one window of a video, as a page or a figure shows it.

    Attributes:
      name: file name or id (untrusted text).
      frames: T pictures as JPEG files, see `pictures.to_jpeg`, one for each time step of the
        explanation; pictures of a whole film would fill the memory.
      captions: n best with their scores, best first (untrusted text).
      explanation: of the best caption.
      seconds: T times of the frames in the video; empty where unknown.
      label_names: names of the detector's classes by number; empty where unknown.
    """

    name: str
    frames: Sequence[bytes]
    captions: Sequence[tuple[str, float]]
    explanation: Explanation
    seconds: Sequence[float] = ()
    label_names: Sequence[str] = ()

    def __post_init__(self):
        """Refuse frames that are not those of the explanation."""
        num_frames = len(self.explanation.box_TN4)
        if len(self.frames) != num_frames or len(self.seconds) not in (0, num_frames):
            raise ValueError(f'{self.name}: {num_frames} frames are explained, and others shown')
