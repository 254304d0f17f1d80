"""Decide which of two checkpoints did better on validation."""

import dataclasses
import math

# CIDEr weighs an n-gram by log(clips / clips that use it). With one clip every weight is log(1) = 0
# and every caption scores 0; with a few clips hardly any n-gram counts, and most captions tie.
MIN_CLIPS = 20


@dataclasses.dataclass(frozen=True)
class ValidationScore:
    """The score of a checkpoint on the validation split.

    Attributes:
      cider: CIDEr of greedy captions, times 100; None where the split is too small for it.
      loss: validation loss; None in checkpoints of versions that did not save it.
    """

    cider: float | None
    loss: float | None

    @classmethod
    def of(cls, cider: float, loss: float, num_clips: int) -> 'ValidationScore':
        """Build the score of a split of `num_clips` clips, which may be too few for CIDEr."""
        return cls(cider if num_clips >= MIN_CLIPS else None, loss)

    @property
    def measure(self) -> str:
        """Name the measure that compares checkpoints."""
        return 'loss' if self.cider is None else 'CIDEr'

    def rank(self) -> tuple[float, float]:
        """Return a sort key that is greater for the better score: CIDEr first, then lower loss."""
        # Older versions saved the CIDEr of small splits, too. In a run that they began, a score by
        # loss replaces it.
        cider = math.inf if self.cider is None else self.cider
        # NaN would be neither better nor worse than any other loss.
        if self.loss is None or math.isnan(self.loss):
            return cider, -math.inf
        return cider, -self.loss

    def __str__(self) -> str:
        """Describe the score to a user."""
        return f'loss {self.loss:.3f}' if self.cider is None else f'CIDEr {self.cider:.2f}'
