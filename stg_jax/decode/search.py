"""Greedy and beam search over any model that continues a caption word by word.

The model is a function `logits_fn(token_BK, position, cache) -> (logits_BKV, cache)`: it reads
the token at `position` (an int32 scalar, 0 for BOS) of K hypotheses of B clips and gives the
logits of the next one. Every leaf of the cache has leading axes (B, K, ...), since the search
reorders it as hypotheses die; what the hypotheses of a clip share, `logits_fn` closes over.

A hypothesis is a sequence of up to `max_words` words and EOS. Its score is the sum of the model's
own log-probabilities, EOS included, over the length penalty of Wu et al. (2016, equation 14),
((5 + length) / 6) ** length_penalty, where the length counts EOS. After `max_words` words EOS is
the only choice left, and its log-probability counts too, so that hypotheses of every length are
comparable and the score of a caption does not depend on the search that found it.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stg_jax.data.vocab import BOS, EOS, PAD, UNK

Cache = TypeVar('Cache')
LogitsFn = Callable[[jax.Array, jax.Array, Cache], tuple[jax.Array, Cache]]

BANNED = (PAD, BOS, UNK)


@struct.dataclass
class Hypotheses:
    """The captions of B clips, K each, best first.

    Attributes:
      token_BKL: int32, words, EOS, then PAD; L = max_words + 1.
      score_BK: float32, descending; -inf where fewer than K hypotheses are possible, whose tokens
        are EOS alone.
    """

    token_BKL: jax.Array
    score_BK: jax.Array


@struct.dataclass
class _GreedyState:
    step: jax.Array
    last_B1: jax.Array
    ended_B1: jax.Array
    found: Hypotheses
    cache: Cache


@struct.dataclass
class _BeamState:
    """Live hypotheses hold `step` words; a dead slot has log-probability -inf."""

    step: jax.Array
    last_BK: jax.Array
    live_token_BKL: jax.Array
    live_logp_BK: jax.Array
    found: Hypotheses
    cache: Cache


def greedy_search(
    logits_fn: LogitsFn,
    cache: Cache,
    *,
    batch_size: int,
    max_words: int,
    banned: tuple[int, ...] = BANNED,
) -> Hypotheses:
    """Take the likeliest token at each step until every clip has its EOS.

    Costs at most max_words + 1 calls of `logits_fn`; no reordering of the cache.

    Args:
      logits_fn: see the module; K = 1.
      cache: leaves (B, 1, ...).
      batch_size: B, static.
      max_words: longest caption in words, static; `logits_fn` sees positions 0 to max_words.
      banned: ids that are never produced; their probability is not given to other words.

    Returns:
      Hypotheses with K = 1, scored without length penalty; -inf where the model left no choice
      and the caption had to end there.
    """

    def step_fn(state: _GreedyState) -> _GreedyState:
        logits_B1V, cache = logits_fn(state.last_B1, state.step, state.cache)
        logp_B1V = _allowed_logp(logits_B1V, state.step, max_words, banned)
        logp_B1 = jnp.max(logp_B1V, axis=-1)
        word_B1 = jnp.where(logp_B1 > -jnp.inf, jnp.argmax(logp_B1V, axis=-1), EOS)
        choice_B1 = jnp.where(state.ended_B1, PAD, word_B1).astype(jnp.int32)
        found = Hypotheses(
            token_BKL=state.found.token_BKL.at[:, :, state.step].set(choice_B1),
            score_BK=state.found.score_BK + jnp.where(state.ended_B1, 0.0, logp_B1),
        )
        ended_B1 = state.ended_B1 | (choice_B1 == EOS)
        return _GreedyState(state.step + 1, choice_B1, ended_B1, found, cache)

    state = _GreedyState(
        step=jnp.int32(0),
        last_B1=jnp.full((batch_size, 1), BOS, jnp.int32),
        ended_B1=jnp.zeros((batch_size, 1), bool),
        found=Hypotheses(
            token_BKL=jnp.full((batch_size, 1, max_words + 1), PAD, jnp.int32),
            score_BK=jnp.zeros((batch_size, 1), jnp.float32),
        ),
        cache=cache,
    )
    return jax.lax.while_loop(lambda state: ~jnp.all(state.ended_B1), step_fn, state).found


def beam_search(
    logits_fn: LogitsFn,
    cache: Cache,
    *,
    batch_size: int,
    beam_size: int,
    max_words: int,
    length_penalty: float,
    banned: tuple[int, ...] = BANNED,
) -> Hypotheses:
    """Follow the `beam_size` likeliest prefixes of each clip and keep its best hypotheses.

    Each step ranks all continuations of the live prefixes, EOS among them, and keeps K: those
    that end in EOS compete with the finished ones by score, the others stay alive. With one beam
    this is greedy search, with enough beams exhaustive search. The loop ends when no clip's live
    prefixes can reach its worst kept score any more, so a clip never depends on its batch.

    Costs at most max_words + 1 steps, each one call of `logits_fn` on B * K rows, one top-k over
    K * V, and one gather of the cache along K.

    Args:
      logits_fn: see the module.
      cache: leaves (B, K, ...), the K entries of a clip equal.
      batch_size: B, static.
      beam_size: K, static.
      max_words: longest caption in words, static; `logits_fn` sees positions 0 to max_words.
      length_penalty: exponent alpha; 0 ranks by log-probability, more favours long captions.
      banned: ids that are never produced; their probability is not given to other words.

    Returns:
      Hypotheses, K of each clip.
    """

    def step_fn(state: _BeamState) -> _BeamState:
        logits_BKV, cache = logits_fn(state.last_BK, state.step, state.cache)
        logp_BKV = _allowed_logp(logits_BKV, state.step, max_words, banned)
        logp_BK, beam_BK, choice_BK = _best_continuations(state.live_logp_BK, logp_BKV)
        token_BKL = _reorder(state.live_token_BKL, beam_BK).at[:, :, state.step].set(choice_BK)
        ends_BK = choice_BK == EOS
        score_BK = logp_BK / _penalty(state.step + 1, length_penalty)
        ended = Hypotheses(token_BKL, jnp.where(ends_BK, score_BK, -jnp.inf))
        return _BeamState(
            step=state.step + 1,
            last_BK=choice_BK,
            live_token_BKL=token_BKL,
            live_logp_BK=jnp.where(ends_BK, -jnp.inf, logp_BK),
            found=_keep_best(state.found, ended),
            cache=jax.tree.map(lambda leaf: _reorder(leaf, beam_BK), cache),
        )

    def can_improve(state: _BeamState) -> jax.Array:
        # Log-probabilities only fall, so a live prefix does best by ending at the length whose
        # penalty divides most: the longest, or the next one under a negative exponent.
        divisor = jnp.maximum(
            _penalty(max_words + 1, length_penalty), _penalty(state.step + 1, length_penalty)
        )
        attainable_B = jnp.max(state.live_logp_BK, axis=1) / divisor
        return jnp.any(attainable_B > jnp.min(state.found.score_BK, axis=1))

    state = _first_beams(cache, batch_size, beam_size, max_words)
    return jax.lax.while_loop(can_improve, step_fn, state).found


def _first_beams(cache: Cache, batch_size: int, beam_size: int, max_words: int) -> _BeamState:
    """Return one live hypothesis per clip, the empty one; K equal ones would stay equal."""
    shape_BKL = (batch_size, beam_size, max_words + 1)
    empty_BKL = jnp.full(shape_BKL, PAD, jnp.int32)
    impossible_BK = jnp.full(shape_BKL[:2], -jnp.inf, jnp.float32)
    return _BeamState(
        step=jnp.int32(0),
        last_BK=jnp.full(shape_BKL[:2], BOS, jnp.int32),
        live_token_BKL=empty_BKL,
        live_logp_BK=impossible_BK.at[:, 0].set(0.0),
        found=Hypotheses(empty_BKL.at[:, :, 0].set(EOS), impossible_BK),
        cache=cache,
    )


def _allowed_logp(
    logits_BKV: jax.Array, step: jax.Array, max_words: int, banned: tuple[int, ...]
) -> jax.Array:
    """Return float32 log-probabilities, -inf for what may not follow `step` words."""
    logits_BKV = logits_BKV.astype(jnp.float32)
    id_V = np.arange(logits_BKV.shape[-1])
    # A row of -inf alone has no softmax: log_softmax would make it NaN.
    possible_BKV = logits_BKV > -jnp.inf
    allowed_BKV = possible_BKV & ~np.isin(id_V, banned) & ((id_V == EOS) | (step < max_words))
    return jnp.where(allowed_BKV, jax.nn.log_softmax(logits_BKV), -jnp.inf)


def _best_continuations(
    live_logp_BK: jax.Array, logp_BKV: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the K best of all K * V continuations: log-probability, beam they extend, token."""
    num_beams, num_tokens = logp_BKV.shape[1:]
    total_BKV = live_logp_BK[:, :, None] + logp_BKV
    flat_BX = total_BKV.reshape(-1, num_beams * num_tokens)
    logp_BK, index_BK = jax.lax.top_k(flat_BX, num_beams)
    return logp_BK, index_BK // num_tokens, index_BK % num_tokens


def _keep_best(found: Hypotheses, ended: Hypotheses) -> Hypotheses:
    """Return the K best of two sets of K hypotheses; the older one at equal score."""
    score_BX = jnp.concatenate([found.score_BK, ended.score_BK], axis=1)
    token_BXL = jnp.concatenate([found.token_BKL, ended.token_BKL], axis=1)
    score_BK, index_BK = jax.lax.top_k(score_BX, found.score_BK.shape[1])
    return Hypotheses(_reorder(token_BXL, index_BK), score_BK)


def _reorder(value_BK: jax.Array, index_BK: jax.Array) -> jax.Array:
    """Gather `value_BK` (B, K, ...) along K, each clip by its own row of `index_BK`."""
    return jax.vmap(lambda value, index: value[index])(value_BK, index_BK)


def _penalty(length: jax.Array | int, alpha: float) -> jax.Array:
    return ((5.0 + length) / 6.0) ** alpha
