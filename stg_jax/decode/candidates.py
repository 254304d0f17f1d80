"""Captions of a whole split, by clip id."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.data.vocab import Vocabulary
from stg_jax.decode.beam import Hypotheses
from stg_jax.decode.captioner import Captioner, stack_clips


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One caption of a clip.

    Attributes:
      caption: its words.
      score: log-probability of the words and EOS over the length penalty, see `decode.search`.
      token_L: its words' ids, EOS, then PAD.
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
    """Return the best captions of each clip, best first.

    Args:
      captioner: whose branch writes them.
      clips: what they are of.
      beam_size: as in the run's config unless given.
      number: how many of a clip, at most `beam_size`; all of the beam unless given.
    """
    beam_size = captioner.search(beam_size)['beam_size']
    decode = captioner.decode_fn(beam_size, num_best=number or beam_size)
    return _of_clips(captioner, decode(captioner.params, _inputs(captioner, clips)))


def random_candidates(
    captioner: Captioner, clips: Sequence[Clip], *, number: int, temperature: float, seed: int
) -> list[list[Candidate]]:
    """Return `number` captions of each clip drawn as `decode.sample` says, best first."""
    draw = captioner.sample_fn(number, temperature)
    return _of_clips(captioner, draw(captioner.params, _inputs(captioner, clips), seed))


def _inputs(captioner: Captioner, clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    return captioner.inputs(stack_clips(clips, captioner.run.config.data.objects))


def _of_clips(captioner: Captioner, hypotheses: Hypotheses) -> list[list[Candidate]]:
    """Return the captions of each clip; a search may find fewer than it has beams."""
    decode = captioner.run.vocab.decode
    token_BKL, score_BK = np.asarray(hypotheses.token_BKL), np.asarray(hypotheses.score_BK)
    return [
        [
            Candidate(decode(token_L), float(score), token_L)
            for token_L, score in zip(token_KL, score_K, strict=True)
            if np.isfinite(score)
        ]
        for token_KL, score_K in zip(token_BKL, score_BK, strict=True)
    ]


Batch = Mapping[str, np.ndarray]


def predict(
    decode_fn: Callable[[Batch], Hypotheses], batches: Iterable[Batch], vocab: Vocabulary
) -> dict[str, str]:
    """Decode batches of clips; padding clips are left out."""
    predictions = {}
    for batch in batches:
        predictions |= best_captions(batch['id'], decode_fn(batch), vocab)
    return predictions


def best_captions(ids: np.ndarray, hypotheses: Hypotheses, vocab: Vocabulary) -> dict[str, str]:
    """Return the best caption of each real clip of a batch."""
    best_BL = np.asarray(hypotheses.token_BKL)[:, 0]
    return {
        clip_id: vocab.decode(token_L)
        for clip_id, token_L in zip(ids, best_BL, strict=True)
        if clip_id
    }
