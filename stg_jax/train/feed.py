"""What an epoch feeds to the devices: batches, made compact, as many at once as a program takes."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from stg_jax.data.batches import Clips, train_batches, train_targets
from stg_jax.parallel import processes
from stg_jax.train.bucketing import compact, fitting, fullest

CLIP_AXIS = 1  # of batches that are stacked

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Feed:
    """This host's share of the batches of every epoch.

    Attributes:
      clips: to train on.
      clips_per_batch: of all hosts together.
      num_parts: of this host's rows of a batch, see `compact`.
      at_once: steps of one execution, at most.
      seed: of the order of clips and captions.
    """

    clips: Clips
    clips_per_batch: int
    num_parts: int
    at_once: int
    seed: int

    def left(self, epoch: int, first_step: int) -> 'LeftOfEpoch':
        """Return what is to be fed in an epoch from a step on, after a look at all captions."""
        share = {
            'clips_per_batch': self.clips_per_batch,
            'seed': self.seed,
            'epoch': epoch,
            'start_step': first_step,
            'host': processes.host(),
            'num_hosts': processes.num_hosts(),
        }
        # For the whole epoch at once, so that no step waits for the other hosts' numbers.
        most_S = fullest(train_targets(self.clips, **share), self.num_parts)
        if processes.num_hosts() > 1:
            most_S = processes.of_all_hosts(most_S).max(0)
        executions = grouped(first_step, first_step + len(most_S), self.at_once)
        most = [most_S[e.start - first_step : e.stop - first_step].max() for e in executions]
        return LeftOfEpoch(executions, most, train_batches(self.clips, **share), self.num_parts)


@dataclasses.dataclass(frozen=True)
class LeftOfEpoch:
    """The executions that are left of an epoch; iterating yields their batches, once.

    Attributes:
      executions: for each the steps, as counted in the epoch.
      most: for each the words of the fullest part of any step and host.
      batches: this host's rows of each step.
      num_parts: see `Feed`.
    """

    executions: list[range]
    most: list[int]
    batches: Iterator[Batch]
    num_parts: int

    def __iter__(self) -> Iterator[list[Batch]]:
        """Yield the batches of each execution, which all have equally many slots."""
        for steps, most in zip(self.executions, self.most, strict=True):
            yield [
                compact(batch, num_parts=self.num_parts, fullest=most)
                for batch in itertools.islice(self.batches, len(steps))
            ]

    def sizes(self, num_positions: int) -> set[tuple[int, int]]:
        """Return (steps, slots of a part) of all executions, of parts with so many positions."""
        return {
            (len(steps), fitting(most, num_positions))
            for steps, most in zip(self.executions, self.most, strict=True)
        }


def grouped(first: int, end: int, at_once: int) -> list[range]:
    """Divide steps `first` to `end` into executions of `at_once` steps and of single ones.

    Whole executions begin at multiples of `at_once`, so that a run that goes on after any of them
    has the others unchanged. What fills none is left to single steps, which need one program more,
    not one for each number of steps.
    """
    executions, step = [], first
    while step < end:
        whole = step % at_once == 0 and step + at_once <= end
        executions.append(range(step, step + at_once if whole else step + 1))
        step = executions[-1].stop
    return executions


def stacked(batches: list[Batch]) -> Batch:
    """Return batches of equal shapes as one, with a leading axis of steps."""
    if len(batches) == 1:  # not worth a copy
        return {name: value[None] for name, value in batches[0].items()}
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
