"""Scores of toy captions by their meaning, and a linear baseline for them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stg_jax.data.batches import Batch, eval_batches, stream_clips
from stg_jax.data.captions import read_captions
from stg_jax.datasets.toy.attributes import (
    SCORES,
    Meaning,
    compare,
    parse,
    score_attributes,
    summarize,
)
from stg_jax.datasets.toy.events import EVENTS
from stg_jax.datasets.toy.scenes import KINDS
from stg_jax.run.folder import RunFolder

_EVENTS = [event.name for event in EVENTS]
_NUM_ACTORS = {event.name: event.num_actors for event in EVENTS}
_RIDGE = 100.0  # squared-norm penalty; 10 and 1,000 gave the same scores within a point
_CLIPS_AT_ONCE = 64
# Not predicted by the probe: the roles of the things.
_UNKNOWN = tuple(SCORES[field] for field in ('subject', 'object', 'everything'))


def meaning_scores(
    run: RunFolder, predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Score the captions of a toy data folder by their meaning; empty for other data.

    Returns:
      'attributes': percentages, see `SCORES`; 'attributes_per_clip': by clip id.
    """
    if run.manifest.data_set != 'toy':
        return {}
    result = score_attributes(predictions, references)
    return {'attributes': result['attributes'], 'attributes_per_clip': result['per_clip']}


def probe_scores(run: RunFolder, tested: RunFolder, split: str) -> dict[str, float]:
    """Score a ridge regression from the scene features, pooled over time, to event and things.

    It shows how much of the meaning is linear in the features that the deployed branch reads.

    Args:
      run: its train split is fitted, so that probe and captioner know the same clips.
      tested: the run with the data to score.
      split: of these.

    Returns:
      Percentages by name, see `SCORES`, without those that depend on roles.
    """
    (train_FC, train), (test_FC, test) = _pooled(run, 'train'), _pooled(tested, split)
    mean_C, deviation_C = train_FC.mean(0), train_FC.std(0) + 1e-6
    train_FC, test_FC = ((x_FC - mean_C) / deviation_C for x_FC in (train_FC, test_FC))
    target_FK = np.stack([_target(meaning) for meaning in train])
    # The closed form of ridge regression, with the mean of the targets as unpenalized offset.
    gram_CC = train_FC.T @ train_FC + _RIDGE * np.eye(len(mean_C))
    offset_K = target_FK.mean(0)
    weight_CK = np.linalg.solve(gram_CC, train_FC.T @ (target_FK - offset_K))
    guesses = map(_guess, test_FC @ weight_CK + offset_K)
    judgements = [compare(guess, truth) for guess, truth in zip(guesses, test, strict=True)]
    scores = summarize(judgements)
    return {name: value for name, value in scores.items() if name not in _UNKNOWN}


def table(columns: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield the lines of a table of scores, one column for each branch or baseline."""
    yield ' ' * 18 + ''.join(f'{name:>9}' for name in columns)
    for name in SCORES.values():
        cells = (f'{of[name]:8.1f}%' if name in of else ' ' * 9 for of in columns.values())
        yield f'{name:<18}' + ''.join(cells).rstrip()


def _pooled(run: RunFolder, split: str) -> tuple[np.ndarray, list[Meaning]]:
    """Pool the scene features of each clip over time, and parse the meaning of its captions."""
    config = dataclasses.replace(run.config.data, grid_cells=0)
    clips = stream_clips(config, run.vocab, split)
    references = read_captions(config.dir, split)
    features, meanings = [], []
    for batch in eval_batches(clips, clips_per_batch=_CLIPS_AT_ONCE):
        is_real = batch['id'] != ''
        features.append(_pool(batch)[is_real])
        meanings += [parse(references[clip][0]) for clip in batch['id'][is_real]]
    return np.concatenate(features), meanings


def _pool(batch: Batch) -> np.ndarray:
    both_BTC = np.concatenate([batch['appearance'], batch['motion']], -1).astype(np.float32)
    return np.concatenate([both_BTC.mean(1), both_BTC.max(1)], axis=-1)


def _target(meaning: Meaning) -> np.ndarray:
    """Target of the regression: 1 for the event and for each kind of thing that takes part."""
    of_event = [name == meaning.event for name in _EVENTS]
    return np.array(of_event + [kind in meaning.things for kind in KINDS], np.float32)


def _guess(score_K: np.ndarray) -> Meaning:
    """Decode a prediction: the best event, and the best things, one for each of its actors."""
    event = _EVENTS[int(score_K[: len(_EVENTS)].argmax())]
    best = np.argsort(-score_K[len(_EVENTS) :])[: _NUM_ACTORS[event]]
    return Meaning(event, tuple(KINDS[i] for i in best), {})
