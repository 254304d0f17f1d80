"""The training loop: epochs of steps, a validation after each, and a run that can always go on."""

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from stg_jax.data.batches import open_clips, train_batches
from stg_jax.data.vocab import PAD
from stg_jax.errors import UserError
from stg_jax.run.checkpoint import Checkpoints
from stg_jax.run.folder import RunFolder
from stg_jax.run.network import init_params
from stg_jax.train import parallel
from stg_jax.train.compact import compact
from stg_jax.train.log import MetricsLog, ProgressLine, Stopwatch, clock
from stg_jax.train.optim import make_optimizer
from stg_jax.train.plan import Plan, make_plan
from stg_jax.train.step import TrainState, init_state, make_train_step
from stg_jax.train.stop import StopRequest
from stg_jax.train.trace import StepTrace
from stg_jax.train.validate import SPLIT, Validator


@dataclasses.dataclass
class Progress:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    best_cider: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0  # of training and validation, over all restarts


def train(config: ConfigDict, workdir: str | Path) -> bool:
    """Train what `config` describes in `workdir`, going on where an earlier call stopped.

    Returns:
      True when the run is complete, False when it saved and stopped because it was asked to.

    Raises:
      UserError: the config, the data or the folder do not fit, or the loss is not finite.
    """
    plan = make_plan(config)
    run = RunFolder.create(workdir, config, plan.manifest, plan.vocab)
    with Checkpoints(run.checkpoints) as checkpoints, StopRequest() as stop:
        return Trainer(run, plan, checkpoints, stop).run()


class Trainer:
    """One process's share of a training run."""

    def __init__(self, run: RunFolder, plan: Plan, checkpoints: Checkpoints, stop: StopRequest):
        config = run.config
        self._run, self._config, self._plan = run, config, plan
        self._checkpoints, self._stop = checkpoints, stop
        self._clips = open_clips(config.data, run.vocab, 'train')
        self._num_steps = config.train.epochs * plan.epoch_steps
        self._optimizer = make_optimizer(config.optim, self._num_steps)
        train_step = make_train_step(
            plan.model,
            plan.loss_spec,
            self._optimizer,
            seed=config.seed,
            accumulate=config.train.accumulate,
        )
        self._train_step = parallel.pmapped(train_step, plan.mesh)
        self._validate = None
        if SPLIT in plan.manifest.splits:
            self._validate = Validator(run, plan)
        self._state, self._progress = self._restore_or_start()
        self._log = MetricsLog(run.metrics, self._progress.step)
        self._line = ProgressLine(self._num_steps, self._progress.step)
        self._trace = StepTrace(run.path / 'profile', config.profile)
        self._began = time.perf_counter() - self._progress.seconds

    def run(self) -> bool:
        """Train to the end; False when asked to stop before."""
        progress = self._progress
        self._introduce()
        while progress.epoch < self._config.train.epochs and not self._out_of_patience():
            self._train_epoch()
            if progress.step_in_epoch < self._plan.epoch_steps:
                return self._save_and_stop()
            self._end_epoch()
            if self._stop.received:
                return self._save_and_stop()
        self._line.say(
            f'finished: {self._run.path}, step {progress.step}, '
            f'{clock(progress.seconds)} of training, {self._best()}'
        )
        return True

    def _restore_or_start(self) -> tuple[TrainState, Progress]:
        params = init_params(self._plan.model, self._config, self._config.seed)
        state, progress = init_state(params, self._optimizer), Progress()
        saved = self._checkpoints.restore_latest(state.params, state.opt_state)
        if saved is not None:
            params, opt_state, fields = saved
            progress = Progress(**fields)
            state = state.replace(step=np.int32(progress.step), params=params, opt_state=opt_state)
        return parallel.replicate(state, self._plan.mesh), progress

    def _train_epoch(self) -> None:
        """Run the rest of the current epoch; end early when asked to stop."""
        config, progress, watch = self._config, self._progress, Stopwatch()
        batches = train_batches(
            self._clips,
            clips_per_batch=self._plan.clips_per_batch,
            seed=config.seed,
            epoch=progress.epoch,
            start_step=progress.step_in_epoch,
            host=parallel.host(),
            num_hosts=parallel.num_hosts(),
        )
        compacted = (
            compact(batch, num_parts=self._plan.num_parts, num_hosts=parallel.num_hosts())
            for batch in batches
        )
        previous = None
        for batch in _timed(compacted, watch):
            self._trace.before(progress.step + 1)
            self._state, metrics = self._train_step(
                self._state, parallel.shard_batch(batch, self._plan.mesh)
            )
            # The devices are busy with this step while the host looks at the one before.
            self._settle(previous, watch)
            progress.step += 1
            progress.step_in_epoch += 1
            previous = (progress.step, batch, metrics)
            if self._trace.after(progress.step, metrics):
                self._line.say(f'traced steps up to {progress.step}: {self._run.path}/profile')
            if progress.step_in_epoch < self._plan.epoch_steps:
                if self._stop.received:
                    break
                if _is_multiple(progress.step, config.train.checkpoint_steps):
                    self._settle(previous, watch)
                    previous = None
                    self._save(score=None)
        self._settle(previous, watch)
        self._trace.close()

    def _settle(self, step: tuple | None, watch: Stopwatch) -> None:
        """Check and log a step that was dispatched before."""
        if step is None:
            return
        number, batch, metrics = step
        loss, grad_norm = float(metrics['loss']), float(metrics['grad_norm'])
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            self._give_up(number, batch, loss, grad_norm)
        watch.stepped(int((batch['tokens'][..., 0] != PAD).sum()) * parallel.num_hosts())
        if _is_multiple(number, self._config.train.log_steps):
            values = {key: float(value) for key, value in metrics.items()} | watch.read()
            epoch = self._progress.epoch + 1
            self._log.write({'step': number, 'epoch': epoch} | values)
            self._line.show(number, epoch, values)

    def _end_epoch(self) -> None:
        progress = self._progress
        progress.epoch += 1
        progress.step_in_epoch = 0
        score = None
        if self._validate is not None:
            scores = self._validate(self._state.params)
            score = scores['val_cider']
            if progress.best_cider is None or score > progress.best_cider:
                progress.best_cider, progress.best_epoch = score, progress.epoch
            self._log.write({'step': progress.step, 'epoch': progress.epoch} | scores)
            self._line.say(
                f'epoch {progress.epoch}/{self._config.train.epochs}  '
                f'validation loss {scores["val_loss"]:.3f}  CIDEr {score:.1f}  ({self._best()})'
            )
        self._save(score)

    def _save(self, score: float | None) -> None:
        progress, state = self._progress, self._state
        progress.seconds = time.perf_counter() - self._began
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
        raise UserError(
            f'the loss of step {number} is {loss} (gradient norm {grad_norm}); '
            f'{_suspects(batch)}; step {number - 1}, before it, is saved in {self._run.checkpoints}'
        )

    def _out_of_patience(self) -> bool:
        patience, progress = self._config.train.patience, self._progress
        stale = progress.epoch - progress.best_epoch
        if not patience or progress.best_cider is None or stale < patience:
            return False
        self._line.say(f'stopping early: no better validation CIDEr for {stale} epochs')
        return True

    def _best(self) -> str:
        if self._progress.best_cider is None:
            return 'no validation split: the latest checkpoint is the one to use'
        return f'best {self._progress.best_cider:.1f} after epoch {self._progress.best_epoch}'

    def _introduce(self) -> None:
        num_params = sum(x.size for x in jax.tree.leaves(self._state.params))
        start = f'goes on at step {self._progress.step}' if self._progress.step else 'starts'
        self._line.say(
            f'{self._run.path} {start}: {num_params / 1e6:.1f} M parameters, '
            f'{len(self._run.vocab)} words, {self._config.train.epochs} epochs of '
            f'{self._plan.epoch_steps} steps of {self._config.train.batch_size} captions, '
            f'on {parallel.describe(self._plan.mesh)}'
        )
        if self._validate is None:
            logging.warning('the data has no %s split: no best checkpoint, no early stop', SPLIT)


def _timed(batches: Iterable[dict], watch: Stopwatch) -> Iterator[dict]:
    """Yield batches and tell the watch how long each was waited for."""
    batches = iter(batches)
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        watch.waited(time.perf_counter() - start)
        if batch is None:
            return
        yield batch


def _is_multiple(step: int, interval: int) -> bool:
    return bool(interval) and step % interval == 0


def _suspects(batch: dict[str, np.ndarray]) -> str:
    """Name the clips of a batch whose features are not finite, or all of them."""
    bad = [
        f'clip {clip_id} has NaN or Inf in {kind}'
        for kind in ('appearance', 'motion', 'object', 'box')
        for clip_id, value in zip(batch['id'], batch[kind], strict=True)
        if not np.isfinite(value).all()
    ]
    if bad:
        return ', '.join(bad)
    return f'its clips, all with finite features, are {", ".join(filter(None, batch["id"]))}'
