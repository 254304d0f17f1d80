"""Captions of a whole split, by clip id."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from stg_jax.data.vocab import Vocabulary
from stg_jax.decode.search import Hypotheses

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
