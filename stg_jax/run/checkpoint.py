"""Checkpoints of a run: the latest one and the best ones on validation, through Orbax.

Each step holds 'params' (all that decoding needs), 'optimizer', 'progress' (JSON), 'metrics' (the
validation score) and 'digest' (hashes of the first three). Orbax notices files that are missing or
cut short, but loads most flipped bits without a word; the digest makes such a step count as
damaged, too. Arrays are saved from and restored to the host, so that a run resumes on any number of
devices.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from logging import LogRecord
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from stg_jax.errors import UserError, first_line
from stg_jax.run.trees import describe_misfit, digest, shapes_by_name
from stg_jax.run.validation_score import ValidationScore

PyTree = Any
# What Orbax raises if files of a step are missing, cut short or garbled.
_DAMAGE = (KeyError, TypeError, ValueError, OSError)
# What it raises if a file cannot be written.
_FAILURE = (ValueError, OSError)


class _MisfitError(Exception):
    """A step holds other arrays than the network and its optimizer have."""


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, for one process, which never waits for another."""

    def __init__(self, folder: epath.Path, **options: Any):
        # Orbax raises errors of background writes in the main thread, and also logs a traceback.
        logging.get_absl_logger().addFilter(_is_not_raised_later)
        me = ocp.multihost.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'process_{me}'
        )
        super().__init__(
            folder,
            options=ocp.CheckpointManagerOptions(
                multiprocessing_options=alone, create=False, **options
            ),
        )

    def metrics(self, step: int) -> dict[str, Any] | None:
        """Read the score of a step; None if it has none or its file is damaged.

        Orbax reads these files of all steps when it opens a folder. The score of an old step must
        not keep a run from being used.
        """
        try:
            found = super().metrics(step)
            if found is not None:
                _rank(found)
            return found
        except _DAMAGE as error:
            logging.warning('the score of step %d is damaged (%s)', step, first_line(error))
            return None

    def ranked_steps(self) -> list[int]:
        """Return the steps from the best on validation to the worst; without scores the latest."""
        ranks = {step: _rank(self.metrics(step) or _metrics(step, None)) for step in self.steps()}
        return sorted(ranks, key=lambda step: ranks[step], reverse=True)

    def steps(self) -> list[int]:
        """Return all steps, the latest first."""
        return sorted(self.all_steps(), reverse=True)

    def read(
        self, step: int, wanted: Mapping[str, PyTree], *, with_progress: bool
    ) -> dict[str, Any]:
        """Read what is wanted of a step, and no more: other parts of it may be damaged.

        Args:
          step: to read.
          wanted: for each tree, named as it was saved, arrays or shapes that it must have.
          with_progress: reads 'progress', too.

        Raises:
          _MisfitError: the saved trees have other arrays.
        """
        folder = epath.Path(self.directory) / str(step)
        for name, tree in wanted.items():
            _check_fit(folder / name, shapes_by_name(tree))
        args: dict[str, Any] = {
            name: ocp.args.StandardRestore(_empty_like(tree)) for name, tree in wanted.items()
        }
        if with_progress:
            args['progress'] = ocp.args.JsonRestore()
        names = list(args)
        if (folder / 'digest').exists():  # older versions saved none
            args['digest'] = ocp.args.JsonRestore()
        # Orbax may return arrays of other shapes than were asked for, hence the second comparison.
        saved = self.restore(step, args=ocp.args.Composite(**args))
        found = {name: saved[name] for name in names}
        for name, tree in wanted.items():
            if misfit := describe_misfit(shapes_by_name(found[name]), shapes_by_name(tree)):
                raise ValueError(misfit)
        if 'digest' in args:
            _check_digests(found, saved['digest'])
        return found


class Checkpoints:
    """The checkpoints of a run in training; a context manager that ends pending writes on exit.

    Args:
      folder: of all steps, new or not.
      keep_best: number of steps to keep, the best on validation, besides the latest.
    """

    def __init__(self, folder: epath.Path, keep_best: int = 1):
        # `max_to_keep` with `best_fn` would delete the latest checkpoint: name both policies.
        # Orbax declares a float, but only sorts by it.
        rank: Any = _rank
        keep = AnyPreservationPolicy([LatestN(1), BestN(get_metric_fn=rank, n=keep_best)])
        self._folder = epath.Path(folder).resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._manager = _Manager(
            self._folder, preservation_policy=keep, best_fn=_rank, cleanup_tmp_directories=True
        )

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, *unused: object) -> None:
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
        """Whether a step is still being written, which the next one would wait for."""
        return self._manager.is_saving_in_progress()

    def save(
        self,
        step: int,
        params: PyTree,
        optimizer: PyTree,
        progress: dict[str, Any],
        score: ValidationScore | None,
    ) -> None:
        """Start to write a step in the background, unless it is saved already.

        Args:
          step: optimizer steps taken.
          params: see `restore_params`.
          optimizer: what else the next step needs.
          progress: JSON; how far the run is.
          score: validation score of these parameters, None between validations.

        Raises:
          UserError: this or an earlier write failed.
        """
        # A run that is asked to stop right after an epoch would save that step twice.
        if step in self._manager.all_steps():
            return
        params, optimizer = _on_host(params), _on_host(optimizer)
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            optimizer=ocp.args.StandardSave(optimizer),
            progress=ocp.args.JsonSave(progress),
            digest=ocp.args.JsonSave(
                _digests({'params': params, 'optimizer': optimizer, 'progress': progress})
            ),
        )
        with self._naming_failure():
            # Orbax would create the folder anew, without the rest of the run.
            if '://' not in str(self._folder) and not self._folder.is_dir():
                raise FileNotFoundError('the folder was deleted')
            self._manager.save(step, args=args, metrics=_metrics(step, score))

    def restore_latest(
        self, params: PyTree, optimizer: PyTree
    ) -> tuple[PyTree, PyTree, dict[str, Any]] | None:
        """Read (params, optimizer, progress) of the newest step that is whole, None without any.

        Newer steps are moved to `damaged_checkpoints/` beside the folder, with a warning.

        Raises:
          UserError: every readable step was saved by another network or optimizer.
        """
        wanted = {'params': params, 'optimizer': optimizer}
        unusable: dict[int, Exception] = {}
        found = None
        for step in self._manager.steps():
            try:
                found = self._manager.read(step, wanted, with_progress=True)
                break
            except (*_DAMAGE, _MisfitError) as error:
                unusable[step] = error
        # If an older step fits, a newer one that does not is damaged; if none does, the code or the
        # config has changed, and setting steps aside would only add to the confusion.
        if found is None:
            _raise_misfit(unusable, self._folder)
        for step, error in unusable.items():
            self._set_aside(step, error)
        if found is None:
            return None
        return found['params'], found['optimizer'], found['progress']

    @contextlib.contextmanager
    def _naming_failure(self) -> Iterator[None]:
        try:
            yield
        except _FAILURE as error:
            run = self._folder.parent
            if not run.is_dir():
                raise UserError(
                    f'{run} was deleted while the run was training: it must stay until the end'
                ) from None
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
        # Moved, not deleted: it may be all that is left of days of training.
        source.rename(target)
        self._manager.reload()


def restore_params(folder: epath.Path, params: PyTree, which: str) -> tuple[PyTree, int]:
    """Read the parameters of a finished or running run, and the step they were saved at.

    Args:
      folder: the run's checkpoints.
      params: arrays or shapes of the network's parameters.
      which: 'best' (on validation; the latest without validation), 'latest', or a step number. If
        a step that is asked for by name is damaged, the next best or the next newer one is read.

    Raises:
      UserError: the step does not exist, none can be read, or they do not fit the network.
    """
    if not folder.is_dir():
        raise UserError(f'{folder} does not exist: the run has saved no checkpoint yet')
    unusable: dict[int, Exception] = {}
    with _Manager(epath.Path(folder).resolve(), best_fn=_rank) as manager:
        for step in _candidates(manager, folder, which):
            try:
                found = manager.read(step, {'params': params}, with_progress=False)
            except (*_DAMAGE, _MisfitError) as error:
                unusable[step] = error
                continue
            for other, error in unusable.items():
                logging.warning('%s is damaged: %s', folder / str(other), first_line(error))
            return found['params'], step
    _raise_misfit(unusable, folder)
    reasons = ''.join(f'; {step}: {first_line(error)}' for step, error in unusable.items())
    raise UserError(f'{folder} holds no checkpoint that can be read{reasons}')


def saved_scores(folder: epath.Path) -> dict[int, ValidationScore]:
    """Read the validation score of each saved step that has one."""
    with _Manager(epath.Path(folder).resolve(), best_fn=_rank) as manager:
        metrics = {step: manager.metrics(step) for step in manager.all_steps()}
    scores = {step: _score(found) for step, found in metrics.items() if found}
    return {step: score for step, score in scores.items() if score is not None}


def _candidates(manager: _Manager, folder: epath.Path, which: str) -> list[int]:
    """Return the step asked for and, for a name, the others in case it is damaged."""
    steps = manager.steps()
    if which == 'best':
        return manager.ranked_steps()
    if which == 'latest':
        return steps
    if which.isdecimal() and int(which) in steps:
        return [int(which)]
    raise UserError(
        f"{folder} has no checkpoint {which!r}: it can be 'best', 'latest'"
        + ''.join(f', {step}' for step in steps)
    )


def _check_fit(folder: epath.Path, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Compare what was saved with what is wanted; Orbax fails while it describes the difference."""
    try:
        metadata = ocp.StandardCheckpointHandler().metadata(folder)
        saved = shapes_by_name(getattr(metadata, 'tree', metadata))
    except _DAMAGE:
        return  # reading the arrays shows what is lost
    if misfit := describe_misfit(saved, wanted):
        raise _MisfitError(misfit)


def _raise_misfit(unusable: Mapping[int, Exception], folder: epath.Path) -> None:
    """Report steps that do not fit, of which none fits: no damage explains that."""
    for step, error in unusable.items():
        if isinstance(error, _MisfitError):
            raise UserError(
                f'{folder / str(step)} does not fit the network ({error}): it was saved by another '
                'version of the code or with another config; use the ones that trained the run'
            ) from None


def _digests(saved: Mapping[str, Any]) -> dict[str, str]:
    """Hash the trees and the progress of a step, by name."""
    # Floats survive JSON unchanged: Python writes the shortest text that reads back as the number.
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        if name == 'progress'
        else digest(value)
        for name, value in saved.items()
    }


def _check_digests(found: Mapping[str, Any], recorded: Mapping[str, str]) -> None:
    for name, value in _digests(found).items():
        if recorded[name] != value:
            raise ValueError(f'{name} are not what was saved: bits have changed')


def _metrics(step: int, score: ValidationScore | None) -> dict[str, Any]:
    """Build what Orbax saves as the metrics of a step, see `_score`."""
    cider, loss = (score.cider, score.loss) if score else (None, None)
    return {'score': cider, 'loss': loss, 'step': step}


def _score(metrics: Mapping[str, Any]) -> ValidationScore | None:
    """Return the validation score of a step, None for a step between validations."""
    cider, loss = metrics['score'], metrics.get('loss')  # older versions saved no loss
    for value in (cider, loss):
        if value is not None and not isinstance(value, int | float):
            raise ValueError(f'{value!r} is no number')
    return None if cider is None and loss is None else ValidationScore(cider, loss)


def _rank(metrics: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sort steps: by score, of equal scores the earliest last; without scores the latest last."""
    score = _score(metrics)
    if score is None:
        return False, metrics['step']
    return True, *score.rank(), -metrics['step']


def _on_host(tree: PyTree) -> PyTree:
    # A copy: the next step donates the device buffers while the write is still under way.
    return jax.tree.map(lambda x: np.array(x, copy=True), tree)


def _empty_like(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), tree)


def _is_not_raised_later(record: LogRecord) -> bool:
    return not (record.exc_info and 'orbax' in record.pathname)
