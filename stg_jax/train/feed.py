"""The batches of an epoch as training takes them: packed to a few sizes, grouped by execution."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from stg_jax.data.batches import Batch, Clips, Epoch, train_epoch
from stg_jax.data.vocab import PAD
from stg_jax.evaluate.fast_metrics import PreparedReferences
from stg_jax.parallel import processes
from stg_jax.train.multistep import group_steps

# Every size costs a compilation of the whole step. With the quantiles below, a batch of MSVD leaves
# about 4 % of its packed tokens empty; sizes in equal steps would need 15 of them for that.
QUANTILES = (0.5, 0.9)
MARGIN = 1.05  # of the largest size, over the fullest batch of the first epoch
MULTIPLE = 8  # rows of a matrix come in tiles of eight on accelerators


def weigh_captions(clips: Clips, captions: Mapping[str, Sequence[str]], amount: float) -> Clips:
    """Weigh each caption of a split by its consensus with the other captions of its clip.

    The consensus is the CIDEr of a caption against the others, as in Phan et al., "Consensus-based
    Sequence Training for Video Captioning", 2017. A caption that is the only one of its clip
    counts as average.

    Args:
      clips: the split.
      captions: all of its captions.
      amount: 0 weighs all alike, 1 in proportion to the consensus; the mean weight is 1.
    """
    worded = {clip: texts for clip, texts in captions.items() if any(map(str.split, texts))}
    scores = PreparedReferences(worded).leave_one_out()
    scored = [score for of_clip in scores.values() for score in of_clip if not np.isnan(score)]
    mean = float(np.mean(scored)) if scored else 0.0

    def weights(clip: str) -> np.ndarray:
        if clip not in scores or not mean:
            return np.ones(len(captions[clip]))
        return 1 - amount + amount * np.nan_to_num(scores[clip] / mean, nan=1.0)

    weighted = clips.captions.weighted({clip: weights(clip) for clip in captions})
    return dataclasses.replace(clips, captions=weighted)


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


@dataclasses.dataclass(frozen=True)
class Feed:
    """This host's rows of the batches of every epoch.

    Attributes:
      clips: to train on.
      clips_per_batch: of all hosts together.
      num_parts: of this host's rows of a batch, see `add_packing`.
      steps_per_execution: see `multistep`.
      seed: of the order of clips and captions.
    """

    clips: Clips
    clips_per_batch: int
    num_parts: int
    steps_per_execution: int
    seed: int

    def epoch(self, epoch: int, first_step: int) -> 'EpochFeed':
        """Plan the remaining batches of an epoch, starting at `first_step`."""
        planned = self._plan(epoch, first_step)
        # For the whole epoch at once, so that no step waits for the other hosts' numbers.
        fullest_S = self._fullest_parts(planned)
        end = first_step + len(fullest_S)
        executions = group_steps(first_step, end, self.steps_per_execution)
        most = [fullest_S[e.start - first_step : e.stop - first_step].max() for e in executions]
        return EpochFeed(
            executions,
            [fitting_size(number, self._sizes) for number in most],
            planned.batches(),
            self.num_parts,
        )

    @functools.cached_property
    def _sizes(self) -> list[int]:
        # Always by the first epoch, so that a resumed run packs as an undisturbed one does: sums
        # over another number of empty tokens could differ in the last bit.
        config = self.clips.config
        num_captions = self.clips_per_batch // processes.num_hosts() * config.captions_per_clip
        num_positions = num_captions * (config.max_words + 1) // self.num_parts
        return choose_sizes(self._fullest_parts(self._plan(0, 0)), num_positions)

    def _fullest_parts(self, epoch: Epoch) -> np.ndarray:
        """Count the tokens of the fullest part of any host in each step, without reading clips."""
        fullest_S = fullest_parts(epoch.num_targets(), self.num_parts)
        if processes.num_hosts() > 1:  # their devices run one program, of one size
            fullest_S = processes.of_all_hosts(fullest_S).max(0)
        return fullest_S

    def _plan(self, epoch: int, first_step: int) -> Epoch:
        return train_epoch(
            self.clips,
            clips_per_batch=self.clips_per_batch,
            seed=self.seed,
            epoch=epoch,
            start_step=first_step,
            host=processes.host(),
            num_hosts=processes.num_hosts(),
        )


@dataclasses.dataclass(frozen=True)
class EpochFeed:
    """What is left of an epoch; iterating yields the batches of each execution, once.

    Attributes:
      executions: for each its steps, counted in the epoch.
      sizes: for each the packed tokens of a part, equal for all its steps.
      batches: this host's rows of each step.
      num_parts: see `Feed`.
    """

    executions: list[range]
    sizes: list[int]
    batches: Iterator[Batch]
    num_parts: int

    def __iter__(self) -> Iterator[list[Batch]]:
        """Yield the packed batches of each execution."""
        for steps, size in zip(self.executions, self.sizes, strict=True):
            yield [
                add_packing(batch, num_parts=self.num_parts, size=size)
                for batch in itertools.islice(self.batches, len(steps))
            ]

    def shapes(self) -> list[tuple[int, int]]:
        """Return every pair of steps and packed tokens that an execution has: a program each."""
        return sorted({(len(e), size) for e, size in zip(self.executions, self.sizes, strict=True)})


def name_suspects(batch: Batch) -> str:
    """Name the clips of a batch whose features are NaN or infinite; all of them if none are.

    Called on all hosts, each with its rows of the batch: the bad clip may be on another host.
    """
    bad = [
        f'clip {clip_id} has NaN or Inf in {kind}'
        for kind in ('appearance', 'motion', 'object', 'grid', 'box')
        if kind in batch  # absent if the features are only on the devices
        for clip_id, value in zip(batch['id'], batch[kind], strict=True)
        if not np.isfinite(value).all()
    ]
    # Ids of padding clips are empty.
    found = processes.gather([bad, list(filter(None, batch['id']))])
    if any(names for names, _ in found):
        return ', '.join(name for names, _ in found for name in names)
    known = ', all with finite features,' if 'appearance' in batch else ''
    return f'its clips{known} are {", ".join(i for _, ids in found for i in ids)}'
