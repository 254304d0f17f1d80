"""The training loop: epochs of steps, a validation after each, and a run that can always go on."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from absl import logging
from etils import epath

from stg_jax.config import Config
from stg_jax.data.batches import Clips, open_clips, shares
from stg_jax.data.vocab import PAD
from stg_jax.errors import UserError
from stg_jax.parallel import mapped, processes, sharding
from stg_jax.parallel.precompile import Precompiler
from stg_jax.run.build import init_params
from stg_jax.run.checkpoint import Checkpoints
from stg_jax.run.folder import RunFolder
from stg_jax.run.validation_score import MIN_CLIPS, ValidationScore
from stg_jax.train.feed import CLIP_AXIS, Batch, Feed, LeftOfEpoch, stacked
from stg_jax.train.host_consistency import check_same_world
from stg_jax.train.log import MetricsLog, ProgressLine, Stopwatch, clock
from stg_jax.train.nonfinite import suspects
from stg_jax.train.optim import digest, make_optimizer
from stg_jax.train.plan import Plan, make_plan
from stg_jax.train.profile import StepTrace
from stg_jax.train.step import TrainState, in_turn, init_state, make_train_step
from stg_jax.train.stop import JointStop, StopRequest
from stg_jax.train.validate import SPLIT, Validator


@dataclasses.dataclass
class Progress:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    best_cider: float | None = None
    best_loss: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0  # of training and validation, over all restarts

    @property
    def best(self) -> ValidationScore | None:
        """Return the score of `best_epoch`, None before the first validation."""
        return ValidationScore(self.best_cider, self.best_loss) if self.best_epoch else None

    def validated(self, score: ValidationScore) -> None:
        """Note the score of the epoch that has just ended."""
        if self.best is None or score.rank() > self.best.rank():
            self.best_cider, self.best_loss = score.cider, score.loss
            self.best_epoch = self.epoch


def train(config: Config, workdir: str | Path, open_fn: Callable[..., Clips] = open_clips) -> bool:
    """Train a captioner in `workdir`, or resume the run that is there.

    Args:
      config: of the whole run.
      workdir: folder of the run.
      open_fn: opens the clips of a split, see `data.batches.open_clips`.

    Returns:
      True when the run is complete, False when it saved and stopped because it was asked to.

    Raises:
      UserError: the config, the data or the folder do not fit, or the loss is not finite.
    """
    plan = processes.together(lambda: make_plan(config))
    check_same_world(config, plan)
    clips = processes.together(lambda: _open_splits(open_fn, config, plan))
    run = RunFolder(epath.Path(workdir), config, plan.manifest, plan.vocab)
    processes.on_first(run.claim)
    # One host writes: parameters are the same on all, and only it needs to reach the folder.
    saving = contextlib.nullcontext()
    if processes.is_first():
        saving = Checkpoints(run.checkpoints, config.train.keep_best)
    with saving as checkpoints, StopRequest() as stop, mapped.naming_lack_of_memory():
        return Trainer(run, plan, clips, checkpoints, stop).run()


def _open_splits(open_fn: Callable[..., Clips], config: Config, plan: Plan) -> dict[str, Clips]:
    """Open the clips to train on and, where there are some, those to validate on."""
    world = {'host': processes.host(), 'num_hosts': processes.num_hosts()}
    share = world if shares(config.data, processes.num_hosts()) else {}
    clips = {'train': open_fn(config.data, plan.vocab, 'train', **share)}
    if SPLIT in plan.manifest.splits:
        clips[SPLIT] = open_fn(config.data, plan.vocab, SPLIT)
    return clips


class Trainer:
    """One process's share of a training run; `checkpoints` is None on all hosts but the first."""

    def __init__(
        self,
        run: RunFolder,
        plan: Plan,
        clips: Mapping[str, Clips],
        checkpoints: Checkpoints | None,
        stop: StopRequest,
    ):
        config = run.config
        self._run, self._config, self._plan = run, config, plan
        self._checkpoints, self._stop = checkpoints, JointStop(stop, plan.mesh)
        self._clips = clips['train']
        self._features = mapped.Features(self._clips.take_table(), plan.mesh, CLIP_AXIS)
        self._feed = Feed(
            self._clips,
            clips_per_batch=plan.clips_per_batch,
            num_parts=plan.num_parts,
            at_once=config.train.steps_per_execution,
            seed=config.seed,
        )
        self._num_steps = config.train.epochs * plan.epoch_steps
        self._optimizer = make_optimizer(config.optim, self._num_steps)
        train_step = make_train_step(
            plan.model,
            config.loss,
            self._optimizer,
            seed=config.seed,
            accumulate=config.train.accumulate,
        )
        self._programs = Precompiler()
        self._train_steps = mapped.pmapped(in_turn(train_step), plan.mesh, CLIP_AXIS)
        self._validate = None
        if SPLIT in clips:
            self._validate = processes.together(
                lambda: Validator(run, plan, clips[SPLIT], self._programs)
            )
        self._state, self._progress = self._restore_or_start()
        self._log = MetricsLog(run.metrics, self._progress.step, active=processes.is_first())
        self._line = ProgressLine(self._num_steps, self._progress.step, active=processes.is_first())
        self._trace = StepTrace(run.path / 'profile', config.profile)
        self._began = time.perf_counter() - self._progress.seconds

    def run(self) -> bool:
        """Train to the end; False when asked to stop before."""
        try:
            finished = self._run_epochs()
            # Else another host might read an older checkpoint, while it is being deleted.
            processes.on_first(lambda: self._checkpoints.wait())
            return finished
        finally:
            self._programs.close()

    def _run_epochs(self) -> bool:
        progress = self._progress
        self._introduce()
        while not self._is_over():
            self._train_epoch()
            if progress.step_in_epoch < self._plan.epoch_steps:
                return self._save_and_stop()
            self._end_epoch()
            if self._stop.now():
                return self._save_and_stop()
        if progress.epoch < self._config.train.epochs:
            stale = progress.epoch - progress.best_epoch
            measure = self._progress.best.measure
            self._line.say(f'stopping early: no better validation {measure} for {stale} epochs')
        self._line.say(
            f'finished: {self._run.path}, step {progress.step}, '
            f'{clock(progress.seconds)} of training, {self._best()}, '
            f'parameters {digest(self._state.params)}'
        )
        return True

    def _restore_or_start(self) -> tuple[TrainState, Progress]:
        params = init_params(self._plan.model, self._config.data, self._config.seed)
        start = init_state(params, self._optimizer)
        saved = None
        if self._checkpoints:
            saved = self._checkpoints.restore_latest(start.params, start.opt_state)
        *trees, fields = saved or (start.params, start.opt_state, {})
        progress = Progress(**processes.on_first(lambda: fields))
        params, opt_state = processes.of_first_host(trees)
        state = start.replace(step=np.int32(progress.step), params=params, opt_state=opt_state)
        return sharding.replicate(state, self._plan.mesh), progress

    def _train_epoch(self) -> None:
        """Run the rest of the current epoch; end early when asked to stop."""
        config, progress, watch = self._config, self._progress, Stopwatch()
        left, previous = self._feed.left(progress.epoch, progress.step_in_epoch), None
        for index, batches in enumerate(watch.timed(left)):
            steps = range(progress.step + 1, progress.step + 1 + len(batches))
            self._trace.before(steps)
            on_devices = self._on_devices(batches)
            if index == 0:
                self._expect(on_devices, left)
            self._state, metrics = self._programs.call(self._train_steps, self._state, on_devices)
            # The devices are busy with these steps while the host looks at those before.
            self._settle(previous, watch)
            progress.step += len(steps)
            progress.step_in_epoch += len(steps)
            previous = (steps, batches, metrics)
            if self._trace.after(steps, metrics):
                self._line.say(f'traced steps up to {progress.step}: {self._run.path}/profile')
            if progress.step_in_epoch < self._plan.epoch_steps:
                if self._stop.after_step():
                    break
                if _multiples(steps, config.train.checkpoint_steps):
                    self._settle(previous, watch)
                    previous = None
                    self._save(score=None)
        self._settle(previous, watch)
        self._trace.close()

    def _on_devices(self, batches: list[Batch]) -> dict[str, jax.Array]:
        batch = sharding.shard_batch(stacked(batches), self._plan.mesh, CLIP_AXIS)
        return self._features.of(batch)

    def _expect(self, batch: dict[str, jax.Array], left: LeftOfEpoch) -> None:
        """Begin to compile for each shape that is left in the epoch, and the validation."""
        self._programs.expect(self._train_steps, self._state, batch)
        num_parts = self._plan.num_parts * processes.num_hosts()
        num_positions = batch['tokens'][0, ..., 1:].size // num_parts
        for num_steps, size in sorted(left.sizes(num_positions)):
            shapes = {k: sharding.reshaped(x, num_steps, *x.shape[1:]) for k, x in batch.items()}
            slots = sharding.reshaped(batch['slot'], num_steps, num_parts * size)
            self._programs.expect(self._train_steps, self._state, shapes | {'slot': slots})
        if self._validate is not None:
            self._validate.expect(self._state.params)

    def _settle(self, execution: tuple | None, watch: Stopwatch) -> None:
        """Check and log steps that were dispatched before."""
        if execution is None:
            return
        steps, batches, metrics = execution
        metrics = jax.device_get(metrics)
        of_steps = [{key: float(x[i]) for key, x in metrics.items()} for i in range(len(steps))]
        for number, batch, values in zip(steps, batches, of_steps, strict=True):
            if not (math.isfinite(values['loss']) and math.isfinite(values['grad_norm'])):
                self._give_up(number, batch, values['loss'], values['grad_norm'])
            watch.stepped(int((batch['tokens'][..., 0] != PAD).sum()) * processes.num_hosts())
        logged = _multiples(steps, self._config.train.log_steps)
        if logged:
            self._log_steps(logged, [of_steps[steps.index(n)] for n in logged], watch.read())

    def _log_steps(self, numbers: list[int], of_steps: list[dict], speed: dict) -> None:
        epoch = self._progress.epoch + 1
        for number, values in zip(numbers, of_steps, strict=True):
            self._log.write({'step': number, 'epoch': epoch} | values | speed)
        self._line.show(numbers[-1], epoch, of_steps[-1] | speed)

    def _end_epoch(self) -> None:
        progress = self._progress
        progress.epoch += 1
        progress.step_in_epoch = 0
        score = None
        if self._validate is not None:
            scores = self._validate(self._state.params)
            cider, loss = scores['val_cider'], scores['val_loss']
            score = ValidationScore.of(cider, loss, self._num_val_clips())
            progress.validated(score)
            self._log.write({'step': progress.step, 'epoch': progress.epoch} | scores)
            self._line.say(
                f'epoch {progress.epoch}/{self._config.train.epochs}  '
                f'validation loss {loss:.3f}  CIDEr {cider:.1f}  ({self._best()})'
            )
        self._save_epoch(score)

    def _save_epoch(self, score: ValidationScore | None) -> None:
        """Save, unless an earlier checkpoint is still being written and this one soon replaced."""
        progress = self._progress
        kept = progress.best_epoch == progress.epoch or self._config.train.keep_best > 1
        if kept or self._is_over() or not (self._checkpoints and self._checkpoints.is_writing()):
            self._save(score)

    def _save(self, score: ValidationScore | None) -> None:
        progress, state = self._progress, self._state
        progress.seconds = time.perf_counter() - self._began
        if self._checkpoints:
            self._checkpoints.save(
                progress.step, state.params, state.opt_state, dataclasses.asdict(progress), score
            )

    def _save_and_stop(self) -> bool:
        self._save(score=None)
        self._line.say(f'asked to stop: saved step {self._progress.step}; run again to go on')
        return False

    def _give_up(self, number: int, batch: dict, loss: float, grad_norm: float) -> None:
        """Save the state before step `number`, which the bad step and later ones left as it was."""
        progress = self._progress
        progress.step_in_epoch -= progress.step - (number - 1)
        progress.step = number - 1
        self._save(score=None)
        if self._checkpoints:
            self._checkpoints.wait()
        raise UserError(
            f'the loss of step {number} is {loss} (gradient norm {grad_norm}); '
            f'{suspects(batch)}; step {number - 1}, before it, is saved in {self._run.checkpoints}'
        )

    def _is_over(self) -> bool:
        return self._progress.epoch >= self._config.train.epochs or self._is_stale()

    def _is_stale(self) -> bool:
        """Return whether the validation score has been no better for `patience` epochs."""
        patience, progress = self._config.train.patience, self._progress
        if not patience or progress.best is None:
            return False
        return progress.epoch - progress.best_epoch >= patience

    def _best(self) -> str:
        best = self._progress.best
        if best is None:
            return 'no validation split: the latest checkpoint is the one to use'
        value = f'{best.cider:.1f}' if best.measure == 'CIDEr' else str(best)
        return f'best {value} after epoch {self._progress.best_epoch}'

    def _num_val_clips(self) -> int:
        return self._plan.manifest.splits[SPLIT]['clips']

    def _introduce(self) -> None:
        num_params = sum(x.size for x in jax.tree.leaves(self._state.params))
        start = f'goes on at step {self._progress.step}' if self._progress.step else 'starts'
        self._line.say(
            f'{self._run.path} {start}: {num_params / 1e6:.1f} M parameters, '
            f'{len(self._run.vocab)} words, {self._config.train.epochs} epochs of '
            f'{self._plan.epoch_steps} steps of {self._config.train.batch_size} captions, '
            f'on {sharding.describe(self._plan.mesh)}'
        )
        if self._validate is None:
            logging.warning('the data has no %s split: no best checkpoint, no early stop', SPLIT)
        elif self._num_val_clips() < MIN_CLIPS:
            self._line.say(
                f'validation clips: {self._num_val_clips()}, fewer than {MIN_CLIPS}, too few for '
                'CIDEr: the best checkpoint is the one with the lowest validation loss'
            )


def _multiples(steps: range, interval: int) -> list[int]:
    """Return the steps at multiples of an interval; there are none of 0."""
    return [step for step in steps if interval and step % interval == 0]
