"""Sample captions from the model, through the same `logits_fn` as the beam search."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from stg_jax.data.vocab import BOS, EOS, PAD
from stg_jax.decode.beam import BANNED, Hypotheses, LogitsFn, Prefixes, Rules


@struct.dataclass
class _State:
    """R = B * K captions; one that has ended is still computed, but no longer changes."""

    step: jax.Array
    last_R: jax.Array
    live_R: jax.Array
    logp_R: jax.Array
    token_RL: jax.Array
    cache: Any


def sample(
    logits_fn: LogitsFn,
    cache: Any,
    seed: jax.Array,
    *,
    batch_size: int,
    num_samples: int,
    max_words: int,
    temperature: float,
    length_penalty: float,
    banned: tuple[int, ...] = BANNED,
    clip_B: jax.Array | None = None,
) -> Hypotheses:
    """Draw `num_samples` captions of each clip, each word from softmax(logits / temperature).

    A caption may be drawn more than once. The captions of a clip depend on the seed, but never on
    its batch or device: all clips use the same random numbers, unless they are numbered.

    Args:
      logits_fn: the model, see `decode.beam`.
      cache: leaves (L, B * K, ...), L = max_words + 1.
      seed: integer scalar.
      batch_size: B, static.
      num_samples: K, static.
      max_words: longest caption in words, static.
      temperature: above 0; low values favor likely words.
      length_penalty: as in `beam_search`; it only affects the scores.
      banned: ids that are never drawn.
      clip_B: a number of each clip; clips with different numbers get independent captions.

    Returns:
      Hypotheses, with the scores of `beam_search` for the same captions, best first.
    """
    rules = Rules(max_words, length_penalty, banned)
    num_rows = batch_size * num_samples
    row_R = jnp.arange(num_rows)
    # Samples never branch, unlike beams: the entries of caption r are always in row r.
    trail_RL = jnp.broadcast_to(row_R[:, None], (num_rows, max_words + 1))

    def step_fn(state: _State) -> _State:
        prefixes = Prefixes(state.last_R, row_R // num_samples, trail_RL)
        logits_RV, entry = logits_fn(prefixes, state.step, state.cache)
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        shape = (num_samples, logits_RV.shape[-1])
        if clip_B is None:
            # One noise for all clips, so that a clip's captions do not depend on its place in the
            # batch and on the number of devices.
            noise_RV = jnp.tile(jax.random.gumbel(key, shape) * temperature, (batch_size, 1))
        else:
            key_B = jax.vmap(functools.partial(jax.random.fold_in, key))(clip_B)
            noise_BKV = jax.vmap(lambda key: jax.random.gumbel(key, shape))(key_B)
            noise_RV = (noise_BKV * temperature).reshape(num_rows, -1)
        store = functools.partial(jax.lax.dynamic_update_index_in_dim, index=state.step, axis=0)
        return _append(state, logits_RV, noise_RV, jax.tree.map(store, state.cache, entry), rules)

    state = _first_state(cache, num_rows, max_words)
    # A while loop and not a scan: captions of 7 words end long before max_words, 20 by default.
    state = jax.lax.while_loop(lambda state: jnp.any(state.live_R), step_fn, state)
    return _ranked(state, batch_size, rules)


def _first_state(cache: Any, num_rows: int, max_words: int) -> _State:
    return _State(
        step=jnp.int32(0),
        last_R=jnp.full(num_rows, BOS, jnp.int32),
        live_R=jnp.ones(num_rows, bool),
        logp_R=jnp.zeros(num_rows),
        token_RL=jnp.full((num_rows, max_words + 1), PAD, jnp.int32),
        cache=cache,
    )


def _append(
    state: _State, logits_RV: jax.Array, noise_RV: jax.Array, cache: Any, rules: Rules
) -> _State:
    """Draw the next word of live captions as the argmax of logits plus Gumbel noise."""
    logits_RV = jnp.asarray(logits_RV, jnp.float32)
    allowed_RV = logits_RV.at[:, jnp.array(rules.banned, int)].set(-jnp.inf)
    drawn_R = jnp.argmax(allowed_RV + noise_RV, axis=-1).astype(jnp.int32)
    token_R = jnp.where(state.step >= rules.max_words, EOS, drawn_R)
    # The score is the model's own probability, without temperature and bans, as in the search.
    logp_RV = jax.nn.log_softmax(logits_RV)
    logp_R = jnp.take_along_axis(logp_RV, token_R[:, None], axis=-1)[:, 0]
    return _State(
        step=state.step + 1,
        last_R=token_R,
        live_R=state.live_R & (token_R != EOS),
        logp_R=state.logp_R + jnp.where(state.live_R, logp_R, 0.0),
        token_RL=state.token_RL.at[:, state.step].set(jnp.where(state.live_R, token_R, PAD)),
        cache=cache,
    )


def _ranked(state: _State, batch_size: int, rules: Rules) -> Hypotheses:
    """Sort the captions of each clip by score, best first."""
    length_R = jnp.sum(state.token_RL != PAD, axis=-1)
    score_BK = (state.logp_R / rules.penalty(length_R)).reshape(batch_size, -1)
    token_BKL = state.token_RL.reshape(*score_BK.shape, -1)
    order_BK = jnp.argsort(-score_BK, axis=-1, stable=True)
    return Hypotheses(
        jnp.take_along_axis(token_BKL, order_BK[..., None], axis=1),
        jnp.take_along_axis(score_BK, order_BK, axis=1),
    )
