"""What a run reports while it trains, and how far it is: metrics.jsonl and a progress line."""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from etils import epath

from stg_jax.errors import UserError
from stg_jax.files import write_text
from stg_jax.run.validation_score import ValidationScore
from stg_jax.train.trackers import Tracker

T = TypeVar('T')


class MetricsLog:
    """Writes metrics.jsonl: one JSON object per logged step and per validation.

    Args:
      path: of the file; lines after `resume_step` are removed.
      resume_step: step at which the run starts or resumes.
      active: False on all hosts but the first: nothing is written.
      trackers: get every record, too.
    """

    def __init__(
        self,
        path: epath.Path,
        resume_step: int,
        *,
        active: bool,
        trackers: Sequence[Tracker] = (),
    ):
        self._path, self._active, self._trackers = path, active, trackers
        if active and path.exists():
            # A killed run may have logged steps, or half a line, that it did not save.
            text = path.read_bytes().decode(errors='replace')
            whole = [line for line in text.splitlines() if _step(line) <= resume_step]
            write_text(path, ''.join(f'{line}\n' for line in whole))

    def write(self, record: dict[str, Any]) -> None:
        """Append a record and its 'time', in seconds since 1970.

        Infinite numbers and NaN are written as null: JSON has neither.
        """
        if not self._active:
            return
        for tracker in self._trackers:
            tracker.log(record)
        record = record | {'time': round(time.time(), 3)}
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in record.items()
        }
        # Opened for each record: a line is on disk when the next step begins.
        try:
            with self._path.open('a', encoding='utf-8') as file:
                file.write(json.dumps(finite) + '\n')
        except OSError as error:
            if not self._path.parent.is_dir():
                raise UserError(
                    f'{self._path.parent} was deleted while the run was training: it must stay '
                    'until the end'
                ) from None
            raise UserError(
                f'{self._path} cannot be written ({error.strerror or error}): make room, and run '
                'the same command again to resume'
            ) from None


def _step(line: str) -> float:
    """Return the step of a line, infinity if the line is damaged."""
    try:
        return float(json.loads(line)['step'])
    except (ValueError, TypeError, KeyError):
        return math.inf


class Stopwatch:
    """Measure speed and the share of time spent waiting for data since the last reading.

    Args:
      clock: reads the time in seconds; one that omits compilation leaves it out of the speed.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._reset()

    def _reset(self) -> None:
        self._start = self._clock()
        self._waited = 0.0
        self._captions = 0

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield batches and note how long each was waited for."""
        batches = iter(batches)
        while True:
            start = self._clock()
            batch = next(batches, None)
            self._waited += self._clock() - start
            if batch is None:
                return
            yield batch

    def stepped(self, num_captions: int) -> None:
        """Count the captions of a step."""
        self._captions += num_captions

    def read(self) -> dict[str, float]:
        """Return captions per second and the share of time spent waiting for data; start again."""
        elapsed = self._clock() - self._start
        speed = {
            'captions_per_second': self._captions / elapsed,
            'data_wait': self._waited / elapsed,
        }
        self._reset()
        return speed


class ProgressLine:
    """Shows progress on standard error: one line, redrawn in a terminal, repeated in a log file.

    If not `active`, as on all hosts but the first, nothing is written.

    Attributes:
      epoch: of the step that was shown last; 0 before the first.
    """

    def __init__(
        self,
        num_steps: int,
        first_step: int,
        clock: Callable[[], float] = time.perf_counter,
        *,
        active: bool,
    ):
        self._active = active
        self._num_steps = num_steps
        self._first_step = first_step
        self._clock, self._start = clock, clock()
        self._compiling = False
        self.epoch = 0
        # Log files of clusters keep every line; a terminal shows the last one.
        self._redraw = sys.stderr.isatty()

    def show(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        """Show the last logged step, its loss, speed, data wait and the time to the end."""
        # Since this process began to train: one interval varies with the length of captions.
        per_step = (self._clock() - self._start) / max(step - self._first_step, 1)
        self.epoch = epoch
        text = (
            f'step {step}/{self._num_steps}  epoch {epoch}  loss {metrics["loss"]:.3f}  '
            f'{metrics["captions_per_second"]:.0f} captions/s  '
            f'data wait {metrics["data_wait"]:.0%}  '
            f'ETA {format_duration(per_step * (self._num_steps - step))}'
        )
        self._write(f'\r\033[K{text}' if self._redraw else f'{text}\n')

    def compiling(self) -> None:
        """Show that a step waits for its compilation; a log file gets the line once."""
        if self._redraw or not self._compiling:
            self._compiling = True
            text = 'compiling (about a minute)'
            self._write(f'\r\033[K{text}' if self._redraw else f'{text}\n')

    def say(self, text: str) -> None:
        """Write a line that is not redrawn."""
        self._write(f'\r\033[K{text}\n' if self._redraw else f'{text}\n')

    def _write(self, text: str) -> None:
        if not self._active:
            return
        sys.stderr.write(text)
        sys.stderr.flush()


def format_duration(seconds: float) -> str:
    """Format a duration as hours:minutes:seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}'


@dataclasses.dataclass
class Progress:
    """What a run needs to resume besides arrays; saved as JSON with every checkpoint."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    best_cider: float | None = None
    best_loss: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0  # of training and validation, over all restarts

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> 'Progress':
        """Read saved fields; those that only another version of the code has are left out."""
        # A newer version may save more, and its checkpoints remain usable.
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in fields.items() if key in known})

    @property
    def best(self) -> ValidationScore | None:
        """The score of `best_epoch`, None before the first validation."""
        return ValidationScore(self.best_cider, self.best_loss) if self.best_epoch else None

    def took_steps(self, number: int) -> None:
        """Count steps; a negative number takes some back."""
        self.step += number
        self.step_in_epoch += number

    def ended_epoch(self) -> None:
        """Count an epoch."""
        self.epoch += 1
        self.step_in_epoch = 0

    def validated(self, score: ValidationScore) -> None:
        """Note the score of the epoch that has just ended."""
        # Strictly better: of equal scores the earlier epoch stays, which has trained for less time.
        if self.best is None or score.rank() > self.best.rank():
            self.best_cider, self.best_loss = score.cider, score.loss
            self.best_epoch = self.epoch

    def stale_epochs(self) -> int:
        """Return how many epochs ago the best one was; 0 without validation."""
        return self.epoch - self.best_epoch if self.best_epoch else 0

    def describe_best(self) -> str:
        """Describe the best epoch to a user."""
        best = self.best
        if best is None:
            return 'no validation split: the latest checkpoint is the one to use'
        value = str(best) if best.cider is None else f'{best.cider:.1f}'
        return f'best {value} after epoch {self.best_epoch}'
