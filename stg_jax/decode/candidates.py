"""Several captions of each clip with their scores: the n best of a search, or random ones."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.decode.beam import Hypotheses
from stg_jax.decode.captioner import Captioner, stack_clips


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One caption of a clip.

    Attributes:
      caption: its words.
      score: log-probability of the words and EOS over the length penalty, see `decode.beam`.
      token_L: ids of its words, EOS, then PAD.
    """

    caption: str
    score: float
    token_L: np.ndarray


def best_candidates(
    captioner: Captioner,
    clips: Sequence[Clip],
    beam_size: int | None = None,
    number: int | None = None,
) -> list[list[Candidate]]:
    """Search for the best captions of each clip; the best one comes first.

    Args:
      captioner: the trained network.
      clips: the clips to caption.
      beam_size: the run's own by default.
      number: captions of each clip, at most `beam_size`; the whole beam by default.
    """
    width = captioner.search_options(beam_size)['beam_size']
    hypotheses = captioner.search(_features(captioner, clips), width, num_best=number or width)
    return _candidates(captioner, hypotheses)


def random_candidates(
    captioner: Captioner, clips: Sequence[Clip], *, number: int, temperature: float, seed: int
) -> list[list[Candidate]]:
    """Draw `number` captions of each clip as `decode.sampling` does, and sort them by score."""
    hypotheses = captioner.sample(
        _features(captioner, clips), number, temperature=temperature, seed=seed
    )
    return _candidates(captioner, hypotheses)


def _features(captioner: Captioner, clips: Sequence[Clip]) -> Mapping[str, np.ndarray]:
    return stack_clips(clips, captioner.run.config.data.objects)


def _candidates(captioner: Captioner, hypotheses: Hypotheses) -> list[list[Candidate]]:
    """Decode the hypotheses of each clip; a search may find fewer than it has beams."""
    # One transfer for the whole batch: indexing device arrays would make one for every caption.
    decode = captioner.run.vocab.decode
    token_BKL, score_BK = np.asarray(hypotheses.token_BKL), np.asarray(hypotheses.score_BK)
    return [
        [
            Candidate(decode(token_L), float(score), token_L)
            for token_L, score in zip(token_KL, score_K, strict=True)
            # A beam of 5 over a vocabulary of 3 words cannot fill every place.
            if np.isfinite(score)
        ]
        for token_KL, score_K in zip(token_BKL, score_BK, strict=True)
    ]
