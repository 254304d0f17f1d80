"""The training loop: epochs of steps, a validation after each, and a run that can always resume."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from etils import epath

from stg_jax.config import Config
from stg_jax.data.batches import Clips, open_clips, reads_own_shards
from stg_jax.data.captions import read_captions
from stg_jax.data.vocab import PAD
from stg_jax.errors import UserError
from stg_jax.parallel import mapped, processes, sharding
from stg_jax.parallel.precompile import Precompiler
from stg_jax.run.build import init_params, param_shapes
from stg_jax.run.checkpoint import Checkpoints
from stg_jax.run.folder import RunFolder, lock_run
from stg_jax.run.trees import digest
from stg_jax.run.validation_score import MIN_CLIPS, ValidationScore
from stg_jax.run.warm_start import WarmStart
from stg_jax.train.augment import make_augmentation
from stg_jax.train.feed import Batch, EpochFeed, Feed, name_suspects, weigh_captions
from stg_jax.train.log import MetricsLog, Progress, ProgressLine, Stopwatch, format_duration
from stg_jax.train.multistep import Dispatcher, metrics_by_step
from stg_jax.train.optim import learning_rates, make_optimizer, swap_average
from stg_jax.train.plan import Plan, check_same_on_all_hosts, fill_in_widths, make_plan
from stg_jax.train.profile import StepTrace
from stg_jax.train.scst import Rewards, SelfCritical
from stg_jax.train.step import TrainState, init_state, make_train_step
from stg_jax.train.stop import JointStop, StopRequest
from stg_jax.train.trackers import Tracker, open_trackers
from stg_jax.train.validate import SPLIT, Validator

PyTree = Any


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
    # Errors of any host end all hosts with its sentence: the others would wait for it forever.
    # Before the run folder is claimed: it states all widths, so that a run can do without its data.
    config = processes.together(lambda: fill_in_widths(config))
    plan = processes.together(lambda: make_plan(config))
    check_same_on_all_hosts(config, plan)
    clips = processes.together(lambda: _open_splits(open_fn, config, plan))
    run = RunFolder(epath.Path(workdir), config, plan.manifest, plan.vocab)
    with contextlib.ExitStack() as stack:
        # One host writes: parameters are the same on all, and only it needs to reach the folder.
        processes.on_first(lambda: _claim(run, plan, stack))
        checkpoints = None
        if processes.is_first():
            checkpoints = stack.enter_context(Checkpoints(run.checkpoints, config.train.keep_best))
        trackers: list[Tracker] = []
        processes.on_first(lambda: trackers.extend(open_trackers(run, stack)))
        stop = stack.enter_context(StopRequest())
        stack.enter_context(mapped.naming_lack_of_memory())
        return Trainer(run, plan, clips, checkpoints, stop, trackers).run()


def _claim(run: RunFolder, plan: Plan, stack: contextlib.ExitStack) -> None:
    # Before the folder belongs to this config: a misspelled source must not stay in it.
    if (source := run.config.train.init_from) and not run.is_claimed():
        WarmStart.open(source, param_shapes(plan.model, run.config.data))
    # Locked first: of two trainings, the second must not write its config.
    stack.enter_context(lock_run(run.path))
    run.claim()


def _open_splits(open_fn: Callable[..., Clips], config: Config, plan: Plan) -> dict[str, Clips]:
    """Open the clips to train on and, if the data has such a split, those to validate on."""
    num_hosts = processes.num_hosts()
    # Validation opens all shards on every host; only its batches are divided, so that a score does
    # not depend on the number of hosts.
    own = {}
    if reads_own_shards(config.data, num_hosts):
        own = {'host': processes.host(), 'num_hosts': num_hosts}
    clips = {'train': open_fn(config.data, plan.vocab, 'train', **own)}
    if config.loss.consensus:
        captions = read_captions(config.data.dir, 'train')
        clips['train'] = weigh_captions(clips['train'], captions, config.loss.consensus)
    if SPLIT in plan.manifest.splits:
        clips[SPLIT] = open_fn(config.data, plan.vocab, SPLIT)
    return clips


@dataclasses.dataclass(frozen=True)
class _Execution:
    """Steps that were dispatched together: their numbers, batches, and metrics to come."""

    steps: range
    batches: list[Batch]
    metrics: dict[str, jax.Array]


class Trainer:
    """One process of a training run; `checkpoints` is None on all hosts but the first."""

    def __init__(
        self,
        run: RunFolder,
        plan: Plan,
        clips: Mapping[str, Clips],
        checkpoints: Checkpoints | None,
        stop: StopRequest,
        trackers: Sequence[Tracker] = (),
    ):
        config = run.config
        self._run, self._config, self._plan = run, config, plan
        self._checkpoints, self._stop = checkpoints, JointStop(stop, plan.mesh)
        self._features = mapped.Features(clips['train'].take_table(), plan.mesh)
        self._feed = Feed(
            clips['train'],
            clips_per_batch=plan.clips_per_batch,
            num_parts=plan.num_parts,
            steps_per_execution=config.train.steps_per_execution,
            seed=config.seed,
        )
        self._optimizer = make_optimizer(config, plan.epoch_steps)
        self._programs = Precompiler(on_wait=lambda: self._line.compiling())
        self._dispatcher = self._make_dispatcher()
        self._validate = None
        if SPLIT in clips:
            self._validate = processes.together(
                lambda: Validator(run, plan, clips[SPLIT], self._programs)
            )
        self._state, self._progress = self._restore_or_start()
        active = processes.is_first()
        step = self._progress.step
        self._log = MetricsLog(run.metrics, step, active=active, trackers=trackers)
        self._rates = learning_rates(config, plan.epoch_steps)
        self._line = ProgressLine(len(self._rates), step, self._programs.clock, active=active)
        self._trace = StepTrace(Path(run.path) / 'profile', config.profile)
        # As if the run had never stopped: `seconds` adds up over restarts.
        self._began = time.perf_counter() - self._progress.seconds

    def _make_dispatcher(self) -> Dispatcher | SelfCritical:
        config, plan = self._config, self._plan
        options = {
            'seed': config.seed,
            'accumulate': config.train.accumulate,
            'augment': make_augmentation(config.data, plan.model.scales),
        }
        if config.train.objective == 'xe':
            train_step = make_train_step(plan.model, config.loss, self._optimizer, **options)
            return Dispatcher(train_step, plan.mesh, self._programs)
        rewards = Rewards(read_captions(config.data.dir, 'train'), plan.vocab)
        of_run = config, rewards, plan.mesh, self._programs
        return SelfCritical(plan.model, self._optimizer, *of_run, **options)

    def run(self) -> bool:
        """Train to the end; False when asked to stop before."""
        try:
            finished = self._run_epochs()
            # Else another host might read an older checkpoint while it is being deleted.
            processes.on_first(self._wait_for_checkpoints)
            return finished
        finally:
            self._programs.close()

    def _run_epochs(self) -> bool:
        progress = self._progress
        self._announce()
        while not self._is_over():
            self._train_epoch()
            if progress.step_in_epoch < self._plan.epoch_steps:
                return self._save_and_stop()
            self._end_epoch()
            if self._stop.now():
                return self._save_and_stop()
        if progress.epoch < self._config.train.epochs and progress.best:
            measure, stale = progress.best.measure, progress.stale_epochs()
            self._line.say(f'stopping early: no better validation {measure} for {stale} epochs')
        self._line.say(
            f'finished: {self._run.path}, step {progress.step}, '
            f'{format_duration(progress.seconds)} of training, {progress.describe_best()}, '
            f'parameters {digest(self._deployed())[:12]}'
        )
        return True

    def _restore_or_start(self) -> tuple[TrainState, Progress]:
        # Also when resuming: the shapes of what is saved are compared with those of a fresh state.
        params = init_params(self._plan.model, self._config.data, self._config.seed)
        start = init_state(params, self._optimizer)
        saved = None
        if self._checkpoints:
            saved = self._checkpoints.restore_latest(start.params, start.opt_state)
            if saved is None and (source := self._config.train.init_from):
                params = WarmStart.open(source, params).params(params, self._plan.vocab)
                start = init_state(params, self._optimizer)
        *trees, fields = saved or (start.params, start.opt_state, {})
        progress = Progress.of(processes.on_first(lambda: fields))
        # Only host 0 reaches the checkpoints. `finite` is not saved: a saved state always is.
        params, opt_state = swap_average(*processes.of_first_host(trees))
        state = TrainState(jnp.int32(progress.step), params, opt_state, start.finite)
        return sharding.replicate(state, self._plan.mesh), progress

    def _train_epoch(self) -> None:
        """Run the rest of the current epoch; end early when asked to stop."""
        progress, watch = self._progress, Stopwatch(self._programs.clock)
        epoch, before = self._feed.epoch(progress.epoch, progress.step_in_epoch), None
        for index, batches in enumerate(watch.timed(epoch)):
            on_devices = [self._on_devices(batch) for batch in batches]
            if index == 0:
                self._expect(on_devices[0], epoch)
            current = self._dispatch(batches, on_devices)
            # Only now look at the execution before, so that the devices are never idle meanwhile.
            self._settle(before, watch)
            before = current
            # At the end of an epoch, validation comes first, and saves with its score.
            if progress.step_in_epoch < self._plan.epoch_steps:
                if self._stop.after_step():
                    break
                if _due(current.steps, self._config.train.checkpoint_steps):
                    # A step is only saved after its loss has been checked.
                    self._settle(current, watch)
                    before = None
                    self._save(score=None)
        self._settle(before, watch)
        self._trace.close()

    def _on_devices(self, batch: Batch) -> dict[str, jax.Array]:
        return self._features.of(sharding.shard_batch(batch, self._plan.mesh))

    def _dispatch(self, batches: list[Batch], on_devices: list[dict[str, jax.Array]]) -> _Execution:
        """Dispatch a step on each batch, without waiting for its result."""
        steps = range(self._progress.step + 1, self._progress.step + 1 + len(batches))
        self._trace.before(steps)
        ids = [batch['id'] for batch in batches]
        self._state, metrics = self._dispatcher.dispatch(self._state, on_devices, ids)
        self._progress.took_steps(len(batches))
        if self._trace.after(steps, metrics):
            self._line.say(f'traced steps up to {steps[-1]}: {self._run.path}/profile')
        return _Execution(steps, batches, metrics)

    def _expect(self, batch: dict[str, jax.Array], epoch: EpochFeed) -> None:
        """Start to compile every program that the rest of the epoch and the validation need."""
        # The sizes of the whole epoch are known, so no step has to wait for a compilation.
        num_parts = self._plan.num_parts * processes.num_hosts()
        for num_steps, size in epoch.shapes():
            packed = sharding.reshaped(batch['packed_position'], num_parts * size)
            like = {key: sharding.reshaped(x, *x.shape) for key, x in batch.items()}
            self._dispatcher.expect(self._state, [like | {'packed_position': packed}] * num_steps)
        if self._validate is not None:
            self._validate.expect(self._deployed())

    def _settle(self, execution: _Execution | None, watch: Stopwatch) -> None:
        """Wait for steps that were dispatched before; check and log them."""
        if execution is None:
            return
        by_step = metrics_by_step(execution.metrics)
        for number, batch, values in zip(execution.steps, execution.batches, by_step, strict=True):
            if not (math.isfinite(values['loss']) and math.isfinite(values['grad_norm'])):
                self._give_up(number, batch, values)
            # Other hosts have about the same number of captions; asking them would take time.
            watch.stepped(int((batch['tokens'][..., 0] != PAD).sum()) * processes.num_hosts())
        logged, epoch = (
            _due(execution.steps, self._config.train.log_steps),
            self._progress.epoch + 1,
        )
        # However rarely steps are logged, a user sees one of each epoch.
        ends_epoch = bool(_due(execution.steps, self._plan.epoch_steps))
        if not logged and not (ends_epoch and self._line.epoch < epoch):
            return
        speed, memory = watch.read(), mapped.peak_memory()
        for number in logged:
            record = {'step': number, 'epoch': epoch, 'lr': float(self._rates[number - 1])}
            values = by_step[number - execution.steps[0]]
            self._log.write(record | values | speed | memory)
        shown = logged[-1] if logged else execution.steps[-1]
        self._line.show(shown, epoch, by_step[shown - execution.steps[0]] | speed)

    def _end_epoch(self) -> None:
        progress = self._progress
        progress.ended_epoch()
        score = None
        if self._validate is not None:
            scores = self._validate(self._deployed())
            cider, loss = scores['val_cider'], scores['val_loss']
            score = ValidationScore.of(cider, loss, self._num_val_clips())
            progress.validated(score)
            self._log.write({'step': progress.step, 'epoch': progress.epoch} | scores)
            self._line.say(
                f'epoch {progress.epoch}/{self._config.train.epochs}  '
                f'validation loss {loss:.3f}  BLEU-4 {scores["val_bleu4"]:.1f}  CIDEr {cider:.1f}  '
                f'({progress.describe_best()})'
            )
        self._save_epoch(score)

    def _save_epoch(self, score: ValidationScore | None) -> None:
        """Save, unless the last checkpoint is still being written and this one is soon replaced."""
        progress = self._progress
        kept = progress.best_epoch == progress.epoch or self._config.train.keep_best > 1
        if kept or self._is_over() or not (self._checkpoints and self._checkpoints.is_writing()):
            self._save(score)

    def _save(self, score: ValidationScore | None) -> None:
        progress = self._progress
        progress.seconds = time.perf_counter() - self._began
        if self._checkpoints:
            if self._config.train.select == 'last':
                score = None  # of checkpoints without a score, the latest counts as the best
            trees = swap_average(self._state.params, self._state.opt_state)
            self._checkpoints.save(progress.step, *trees, dataclasses.asdict(progress), score)

    def _deployed(self) -> PyTree:
        """Return the parameters to evaluate: the average of the weights, if one is kept."""
        return swap_average(self._state.params, self._state.opt_state)[0]

    def _wait_for_checkpoints(self) -> None:
        if self._checkpoints:
            self._checkpoints.wait()

    def _save_and_stop(self) -> bool:
        self._save(score=None)
        self._line.say(f'asked to stop: saved step {self._progress.step}; run again to resume')
        return False

    def _give_up(self, number: int, batch: Batch, values: Mapping[str, Any]) -> None:
        """Save the state before step `number`, which `TrainState.finite` has preserved."""
        # Steps after the bad one were dispatched before its loss was known; they changed nothing.
        self._progress.took_steps(number - 1 - self._progress.step)
        self._save(score=None)
        self._wait_for_checkpoints()
        raise UserError(
            f'the loss of step {number} is {values["loss"]} (gradient norm '
            f'{values["grad_norm"]}); {name_suspects(batch)}; step {number - 1}, before it, is '
            f'saved in {self._run.checkpoints}'
        )

    def _is_over(self) -> bool:
        patience, progress = self._config.train.patience, self._progress
        is_stale = bool(patience) and progress.stale_epochs() >= patience
        return progress.epoch >= self._config.train.epochs or is_stale

    def _num_val_clips(self) -> int:
        return self._plan.manifest.splits[SPLIT]['clips']

    def _announce(self) -> None:
        """Describe the run to the user before the first step."""
        num_params = sum(x.size for x in jax.tree.leaves(self._state.params))
        step, source = self._progress.step, self._config.train.init_from
        starts = f'starts from {source}' if source else 'starts'
        self._line.say(
            f'{self._run.path} {f"resumes at step {step}" if step else starts}: '
            f'{num_params / 1e6:.1f} M parameters, '
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


def _due(steps: range, interval: int) -> list[int]:
    """Return the steps at multiples of an interval; none for an interval of 0."""
    return [step for step in steps if interval and step % interval == 0]
