"""Packing on the host: where the real tokens of a batch are, in one of a few sizes.

`ops.packing.Packing` lets a step compute real tokens only, about four in ten positions of a batch
of MSVD. XLA compiles a program for each number of packed tokens, so that number is rounded up to
one of a few bucket sizes.
"""

from collections.abc import Sequence

import numpy as np

from stg_jax.data.batches import Batch
from stg_jax.data.vocab import PAD

# Every size costs a compilation of the whole step. With the quantiles below, a batch of MSVD leaves
# about 4 % of its packed tokens empty; sizes in equal steps would need 15 of them for that.
QUANTILES = (0.5, 0.9)
MARGIN = 1.05  # of the largest size, over the fullest batch of the first epoch
MULTIPLE = 8  # rows of a matrix come in tiles of eight on accelerators


def add_packing(batch: Batch, *, num_parts: int, size: int | None = None) -> Batch:
    """Add the positions of the real tokens of a batch, see `ops.packing.Packing`.

    Args:
      batch: this host's rows, with tokens (B, K, L + 1).
      num_parts: this host's devices times its micro-batches. A part is what a device computes at
        once: B / num_parts consecutive clips.
      size: M, packed tokens of a part; by default what the fullest part needs.

    Returns:
      The batch with 'packed_position' (num_parts * M,) int32: for each part its positions, out of
      P = B / num_parts * K * L, where a token is to be predicted, in ascending order, then P for
      packed tokens that are left empty.
    """
    real_XP = (batch['tokens'][..., 1:] != PAD).reshape(num_parts, -1)
    num_real_X, P = real_XP.sum(-1), real_XP.shape[-1]
    # All parts have one size, since they run one program.
    M = _round_up(num_real_X.max(), P) if size is None else size
    position_XM = np.full((num_parts, M), P, np.int32)
    position_XM[np.arange(M) < num_real_X[:, None]] = np.nonzero(real_XP)[1]
    return batch | {'packed_position': position_XM.reshape(-1)}


def fullest_parts(num_tokens_SB: np.ndarray, num_parts: int) -> np.ndarray:
    """Count the tokens of the fullest part (S,) of each step, given those of each clip (S, B)."""
    return num_tokens_SB.reshape(len(num_tokens_SB), num_parts, -1).sum(-1).max(-1)


def choose_sizes(fullest_S: np.ndarray, num_positions: int) -> list[int]:
    """Choose the bucket sizes of a run, at most four, in ascending order.

    Args:
      fullest_S: tokens of the fullest part of each step of an epoch.
      num_positions: P, positions of a part; the largest size, which fits any batch.
    """
    # All positions are the last resort, for batches of later epochs that exceed the margin.
    typical = [*np.quantile(fullest_S, QUANTILES), MARGIN * fullest_S.max()]
    return sorted({_round_up(number, num_positions) for number in [*typical, num_positions]})


def fitting_size(num_tokens: int, sizes: Sequence[int]) -> int:
    """Return the smallest bucket size that holds a number of tokens."""
    return min(size for size in sizes if size >= num_tokens)


def _round_up(number: float, num_positions: int) -> int:
    return min(-(-int(np.ceil(number)) // MULTIPLE) * MULTIPLE, num_positions)
