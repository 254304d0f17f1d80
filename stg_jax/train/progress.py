"""How far a run is, and which of its epochs was the best."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from stg_jax.run.validation_score import ValidationScore


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
