"""What captions a search may find, and how the long are compared to the short."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Rules:
    """Of a search; see `search.beam_search`.

    Attributes:
      max_words: longest caption in words.
      length_penalty: exponent alpha.
      banned: ids that are never produced.
    """

    max_words: int
    length_penalty: float
    banned: tuple[int, ...]

    def penalty(self, length: jax.Array | int) -> jax.Array:
        """Return what divides the log-probability of a caption; the length counts EOS."""
        return ((5.0 + length) / 6.0) ** self.length_penalty

    def attainable(self, logp_BK: jax.Array, length: jax.Array) -> jax.Array:
        """Return the best score that a prefix can reach by ending at `length` or later."""
        # Log-probabilities only fall, so it does best by ending at the length whose penalty
        # divides most: the longest, or the next one under a negative exponent.
        return logp_BK / jnp.maximum(self.penalty(self.max_words + 1), self.penalty(length))
