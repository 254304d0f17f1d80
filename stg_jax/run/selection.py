"""Choose which saved parameters of a run to use; only the validation split decides."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from stg_jax.errors import UserError
from stg_jax.run.checkpoint import restore_params, saved_scores
from stg_jax.run.validation_score import ValidationScore
from stg_jax.run.weights import NAME, read_weights

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Choice:
    """Parameters and where they come from.

    Attributes:
      params: tree of arrays.
      steps: optimiser steps of the checkpoints, the best first; more than one are averaged.
      why: one phrase for the user: how they were chosen.
    """

    params: PyTree
    steps: Sequence[int]
    why: str


def choose_params(
    folder: epath.Path, params: PyTree, which: str = 'best', average: int = 1
) -> Choice:
    """Read the parameters of a run or of an exported model.

    Args:
      folder: the run's checkpoints; of an exported model, which has none, the folder that would
        hold them.
      params: arrays or shapes of the network's parameters.
      which: 'best' (on validation; the latest without validation), 'latest', or a step number.
      average: number of checkpoints, the best on validation, whose parameters are averaged.

    Raises:
      UserError: the checkpoint does not exist, there are fewer than `average`, or none can be read.
    """
    exported = folder.with_name(NAME)
    if not folder.is_dir() and exported.exists():
        return _exported(exported, params, which, average)
    if average > 1:
        return _average(folder, params, which, average)
    restored, step = restore_params(folder, params, which)
    if which != 'best':
        return Choice(restored, [step], f'step {step}, asked for as {which!r}')
    scores = saved_scores(folder)
    if not scores:
        return Choice(restored, [step], f'step {step}, the latest: validation did not select')
    best = max(scores.values(), key=ValidationScore.rank)
    if step in scores and scores[step].rank() == best.rank():
        of = ' of greedy captions' if best.measure == 'CIDEr' else ''
        return Choice(restored, [step], f'step {step}, the best on validation: {best}{of}')
    why = f'step {step}: the best on validation ({best}) could not be read'
    return Choice(restored, [step], why)


def _exported(path: epath.Path, params: PyTree, which: str, average: int) -> Choice:
    if which != 'best' or average > 1:
        raise UserError(
            f'{path.parent} is an exported model with one set of parameters: choose checkpoints '
            'when you export the run'
        )
    restored, step, why = read_weights(path, params)
    return Choice(restored, [step], why)


def _average(folder: epath.Path, params: PyTree, which: str, number: int) -> Choice:
    if which != 'best':
        raise UserError(f'an average is of the best checkpoints: leave out --checkpoint={which}')
    scores = saved_scores(folder)
    # Stable: of equal scores the earliest step comes first.
    steps = sorted(sorted(scores), key=lambda step: scores[step].rank(), reverse=True)[:number]
    if len(steps) < number:
        raise UserError(
            f'{folder} holds {len(steps)} validated checkpoints, not {number}: train with '
            f'--config.train.keep_best={number} and train.select=best'
        )
    # Each by its number, so that a damaged one is an error: a mean of fewer is another model.
    trees = [restore_params(folder, params, str(step))[0] for step in steps]
    # In float64, so that the order of the checkpoints cannot change the result.
    mean = jax.tree.map(lambda *x: np.mean(x, axis=0, dtype=np.float64).astype(x[0].dtype), *trees)
    named = ', '.join(f'{step} ({scores[step]})' for step in steps)
    return Choice(mean, steps, f'the mean of the {number} best steps on validation: {named}')
