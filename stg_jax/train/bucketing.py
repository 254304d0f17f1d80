"""Say on the host which positions of a batch hold words, so that a step works on these alone."""

import numpy as np

from stg_jax.data.vocab import PAD

RATIO = 1.1  # of neighbouring sizes: at most a tenth of the slots is left empty
SMALLEST = 4  # a share of 1 / SMALLEST of all positions; a program for fewer words is not worth it
MULTIPLE = 8  # what matrix units like rows to come in

Batch = dict[str, np.ndarray]


def compact(batch: Batch, *, num_parts: int, fullest: int = 0) -> Batch:
    """Add the positions at which a word is to be predicted, for `Packing`.

    A part is what one device works on at once: its share of the batch, or of a micro-batch. All
    parts keep as many positions as the fullest needs, rounded up to one of `sizes`, and one
    program is compiled for each size that occurs.

    Args:
      batch: this host's rows, with tokens (B, K, L + 1).
      num_parts: this host's devices times micro-batches; a part is B / num_parts consecutive clips.
      fullest: words of the fullest part of all hosts, which must run one program; see `fullest`.

    Returns:
      The batch with 'slot' (num_parts * M,) int32: ascending indices into the B * K * L
      positions of a part, then B * K * L where a slot is empty.
    """
    real_XP = (batch['tokens'][..., 1:] != PAD).reshape(num_parts, -1)
    num_real_X, P = real_XP.sum(-1), real_XP.shape[-1]
    M = fitting(max(fullest, num_real_X.max()), P)
    position_XM = np.full((num_parts, M), P, np.int32)
    position_XM[np.arange(M) < num_real_X[:, None]] = np.nonzero(real_XP)[1]
    return batch | {'slot': position_XM.reshape(-1)}


def fullest(targets_SB: np.ndarray, num_parts: int) -> np.ndarray:
    """Return the words of the fullest part of each step: (S,), of what `train_targets` returns."""
    return targets_SB.reshape(len(targets_SB), num_parts, -1).sum(-1).max(-1)


def fitting(num_words: int, num_positions: int) -> int:
    """Return the smallest number of slots that holds a part's words."""
    return min(size for size in sizes(num_positions) if size >= num_words)


def sizes(num_positions: int) -> list[int]:
    """Return the numbers of slots that a part of `num_positions` can have, at most 15."""
    steps = range(int(np.log(SMALLEST) / np.log(RATIO)) + 1)
    shares = {num_positions / RATIO**step for step in steps}
    return sorted({min(-(-round(x) // MULTIPLE) * MULTIPLE, num_positions) for x in shares})
