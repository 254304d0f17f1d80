"""Checkpoints of a run: the latest one and the best one on validation, through Orbax.

Each step holds 'params' (all that decoding needs), 'optimizer' and 'progress' (JSON). Arrays are
saved from and restored to the host, so that a run continues on any number of devices.
"""

import contextlib
from collections.abc import Iterator
from logging import LogRecord
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from stg_jax.errors import UserError, first_line
from stg_jax.run.validation_score import ValidationScore

PyTree = Any

# What Orbax raises when files of a step are missing, cut short or garbled.
_DAMAGE = (KeyError, ValueError, OSError)
# What it raises when a file cannot be written.
_FAILURE = (ValueError, OSError)


class Checkpoints:
    """The checkpoints below a folder; a context manager that ends pending writes on exit.

    One process alone writes them, and never waits for another.
    """

    def __init__(self, folder: epath.Path, keep_best: int = 1):
        """Keep the latest checkpoint and the `keep_best` best on validation."""
        # `max_to_keep` with `best_fn` would delete the latest checkpoint: name both policies.
        keep = AnyPreservationPolicy([LatestN(1), BestN(get_metric_fn=_rank, n=keep_best)])
        # Orbax logs with a traceback what it raises again, here, a little later.
        logging.get_absl_logger().addFilter(_not_raised_later)
        self._folder = epath.Path(folder).resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=keep, best_fn=_rank, cleanup_tmp_directories=True, **_alone()
            ),
        )

    def __enter__(self) -> 'Checkpoints':
        """Return itself."""
        return self

    def __exit__(self, *unused) -> None:
        """Wait for pending writes.

        Raises:
          UserError: one failed.
        """
        with self._naming_failure():
            self._manager.close()

    def wait(self) -> None:
        """Wait for pending writes.

        Raises:
          UserError: one failed.
        """
        with self._naming_failure():
            self._manager.wait_until_finished()

    def is_writing(self) -> bool:
        """Return whether a step is still being written, which the next one would wait for."""
        return self._manager.is_saving_in_progress()

    def save(
        self,
        step: int,
        params: PyTree,
        optimizer: PyTree,
        progress: dict,
        score: ValidationScore | None,
    ) -> None:
        """Start writing a step in the background; a step that is saved already is left alone.

        Args:
          step: optimiser steps taken.
          params: see `restore_params`.
          optimizer: what else the next step needs.
          progress: JSON; where the run stands.
          score: validation score of these parameters, None between validations.

        Raises:
          UserError: this or an earlier write failed.
        """
        if step in self._manager.all_steps():
            return
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(_on_host(params)),
            optimizer=ocp.args.StandardSave(_on_host(optimizer)),
            progress=ocp.args.JsonSave(progress),
        )
        with self._naming_failure():
            self._manager.save(step, args=args, metrics=_metrics(step, score))

    def restore_latest(
        self, params: PyTree, optimizer: PyTree
    ) -> tuple[PyTree, PyTree, dict] | None:
        """Return (params, optimizer, progress) of the newest whole step, None without any.

        A damaged step is moved to `damaged_checkpoints/` beside the folder, with a warning.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            args = ocp.args.Composite(
                params=ocp.args.StandardRestore(_like(params)),
                optimizer=ocp.args.StandardRestore(_like(optimizer)),
                progress=ocp.args.JsonRestore(),
            )
            try:
                saved = self._manager.restore(step, args=args)
                return saved.params, saved.optimizer, saved.progress
            except _DAMAGE as error:
                self._set_aside(step, error)
        return None

    @contextlib.contextmanager
    def _naming_failure(self) -> Iterator[None]:
        try:
            yield
        except _FAILURE as error:
            reason = first_line(error).rpartition(': ')[-1]
            raise UserError(
                f'a checkpoint could not be written to {self._folder} ({reason}): '
                'the one before it is whole; make room and run the same command again'
            ) from None

    def _set_aside(self, step: int, error: Exception) -> None:
        source = self._folder / str(step)
        target = self._folder.with_name('damaged_checkpoints') / str(step)
        logging.warning('%s is damaged (%s): moved to %s', source, first_line(error), target)
        target.parent.mkdir(exist_ok=True)
        target.rmtree(missing_ok=True)
        source.rename(target)
        self._manager.reload()


def restore_params(folder: epath.Path, params: PyTree, which: str) -> tuple[PyTree, int]:
    """Read the parameters of a finished or running run, and the step they were saved at.

    Args:
      folder: the run's checkpoints.
      params: tree of arrays or shapes that says what to expect.
      which: 'best' (on validation; the latest where there was none), 'latest', or a step number.

    Raises:
      UserError: no such step, or none that can be read.
    """
    if not folder.is_dir():
        raise UserError(f'{folder} does not exist: the run has saved no checkpoint yet')
    options = ocp.CheckpointManagerOptions(best_fn=_rank, **_alone())
    with ocp.CheckpointManager(epath.Path(folder).resolve(), options=options) as manager:
        for step in _candidates(manager, folder, which):
            args = ocp.args.Composite(params=ocp.args.StandardRestore(_like(params)))
            try:
                return manager.restore(step, args=args).params, step
            except _DAMAGE as error:
                logging.warning('%s is damaged: %s', folder / str(step), first_line(error))
    raise UserError(f'{folder} holds no checkpoint that can be read')


def saved_scores(folder: epath.Path) -> dict[int, ValidationScore]:
    """Return the validation score of each saved step that has one."""
    options = ocp.CheckpointManagerOptions(best_fn=_rank, **_alone())
    with ocp.CheckpointManager(epath.Path(folder).resolve(), options=options) as manager:
        metrics = {step: manager.metrics(step) for step in manager.all_steps()}
    scores = {step: _score(found) for step, found in metrics.items() if found}
    return {step: score for step, score in scores.items() if score is not None}


def _alone() -> dict[str, Any]:
    """Return the options by which this process works without waiting for any other."""
    me = ocp.multihost.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'process_{me}'
    )
    return {'multiprocessing_options': options, 'create': False}


def _candidates(manager: ocp.CheckpointManager, folder: epath.Path, which: str) -> Iterator[int]:
    """Yield the step asked for and, for a name, older ones in case it is damaged."""
    steps = sorted(manager.all_steps(), reverse=True)
    if which in ('best', 'latest'):
        first = manager.best_step() if which == 'best' else manager.latest_step()
        yield from sorted(steps, key=lambda step: step != first)
    elif which.isdecimal() and int(which) in steps:
        yield int(which)
    else:
        raise UserError(
            f"{folder} has no checkpoint {which!r}: it can be 'best', 'latest'"
            + ''.join(f', {step}' for step in steps)
        )


def _metrics(step: int, score: ValidationScore | None) -> dict[str, Any]:
    """Return what Orbax saves beside a step, see `_score`."""
    cider, loss = (score.cider, score.loss) if score else (None, None)
    return {'score': cider, 'loss': loss, 'step': step}


def _score(metrics: dict[str, Any]) -> ValidationScore | None:
    """Return the validation score of a step, None for a step between validations."""
    cider, loss = metrics['score'], metrics.get('loss')  # older versions saved no loss
    return None if cider is None and loss is None else ValidationScore(cider, loss)


def _rank(metrics: dict[str, Any]) -> tuple:
    """Sort steps: by score, of equal scores the earliest last; without scores the latest last."""
    score = _score(metrics)
    if score is None:
        return False, metrics['step']
    return True, *score.rank(), -metrics['step']


def _on_host(tree: PyTree) -> PyTree:
    # A copy: the next step donates the device buffers while the write is still under way.
    return jax.tree.map(lambda x: np.array(x, copy=True), tree)


def _like(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), tree)


def _not_raised_later(record: LogRecord) -> bool:
    return not (record.exc_info and 'orbax' in record.pathname)
