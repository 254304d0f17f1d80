"""Choose the frames that represent a video, and resample steps of features to them."""

import numpy as np


def sample_index(num_frames: int, num_samples: int) -> np.ndarray:
    """Choose the frames at the centres of `num_samples` equal parts of a video.

    Args:
      num_frames: frames of the video, at least 1, counted in presentation order.
      num_samples: T; frames repeat where the video is shorter than that.

    Returns:
      (T,) int64, not decreasing, in [0, num_frames).
    """
    # Centres, not the ends that linspace would take: the first and last frames of a cut are often
    # black or belong to the shot before. Videos and feature files must use the same rule, or their
    # steps would not show the same moments.
    centre = (np.arange(num_samples) + 0.5) * num_frames / num_samples
    return centre.astype(np.int64)


def context_index(index: np.ndarray, width: int, num_frames: int) -> np.ndarray:
    """Choose the `width` consecutive frames around each frame of `index`.

    Args:
      index: (T,) frame numbers.
      width: W, number of frames; the one at W // 2 is the frame itself.
      num_frames: frames of the video; the context repeats the first and last frame at the ends.

    Returns:
      (T, width) int64.
    """
    # Clipping repeats a frame at the ends: encoders of clips need windows of one length.
    offset = np.arange(width) - width // 2
    return np.clip(index[:, None] + offset, 0, num_frames - 1)


def pick_steps(steps: np.ndarray, num_frames: int) -> np.ndarray:
    """Resample (S, ...) to (T, ...): the step at the centre of each of T equal parts."""
    return steps[sample_index(len(steps), num_frames)]


def average_steps(steps: np.ndarray, num_frames: int) -> np.ndarray:
    """Resample (S, D) to (T, D): means of T equal segments if S > T, else the step at each centre.

    A step across the border of two segments counts in both, by its part in each.
    """
    num_steps = len(steps)
    if num_steps <= num_frames:
        return pick_steps(steps, num_frames)
    edge = np.arange(num_frames + 1) * (num_steps / num_frames)
    step = np.arange(num_steps)
    # Length of the overlap of segment t with step s, (T, S); negative where they do not touch.
    overlap = np.minimum(edge[1:, None], step + 1) - np.maximum(edge[:-1, None], step)
    overlap = np.maximum(overlap, 0)
    return (overlap / overlap.sum(axis=1, keepdims=True) @ steps).astype(steps.dtype)
