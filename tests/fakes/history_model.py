"""A model that remembers every word of a prefix, and the searches over it."""

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.data.vocab import BOS, EOS, PAD
from stg_jax.decode import beam

NUM_TOKENS = 7
WORDS = (4, 5, 6)
MAX_WORDS = 3
TABLE_SIZE = 997


class HistoryModel:
    """Logits drawn from a random table by the whole prefix, which only the cache knows."""

    def __init__(self, seed, batch_size, *, scale=2.0, eos_bonus=0.0, max_words=MAX_WORDS):
        rng = np.random.default_rng(seed)
        shape = (batch_size, TABLE_SIZE, NUM_TOKENS)
        self.table_BXV = rng.normal(scale=scale, size=shape).astype(np.float32)
        self.table_BXV[:, :, EOS] += eos_bonus
        self.max_words = max_words
        self.clips_read = {}

    def cache(self, beam_size):
        shape = (self.max_words + 1, len(self.table_BXV) * beam_size)
        # Whatever was never written must not matter.
        return {'token': jnp.full(shape, 1000), 'hash': jnp.full((*shape, 2), 1000)}

    def logits_fn(self, prefixes, position, cache):
        jax.debug.callback(self.record, position, prefixes.clip_R)
        trail_RL = prefixes.trail_RL
        position_L = jnp.arange(trail_RL.shape[1])
        past_RL = jnp.where(position_L < position, cache['token'][position_L, trail_RL], 0)
        before_R = cache['hash'][position - 1, trail_RL[:, position - 1], 1]
        hash_R = (jnp.where(position > 0, before_R, 0) * 31 + prefixes.token_R) % TABLE_SIZE
        # The entry of the last token and those of all before it decide together.
        row_R = (hash_R + past_RL.sum(-1) + prefixes.token_R) % TABLE_SIZE
        logits_RV = jnp.asarray(self.table_BXV)[prefixes.clip_R, row_R]
        entry = {'token': prefixes.token_R, 'hash': jnp.stack([-hash_R, hash_R], axis=-1)}
        return logits_RV, entry

    def record(self, position, clip_R):
        self.clips_read[int(position)] = clip_R.tolist()

    def row(self, words):
        code = 0
        for token in (BOS, *words):
            code = (code * 31 + token) % TABLE_SIZE
        return (code + BOS + sum(words)) % TABLE_SIZE

    def logp(self, clip, words):
        """Return the float64 log-probabilities of what follows `words`, without the search."""
        logits_V = self.table_BXV[clip, self.row(words)].astype(np.float64)
        return logits_V - np.logaddexp.reduce(logits_V)

    def score(self, clip, words, alpha):
        tokens = (*words, EOS)
        total = sum(self.logp(clip, words[:i])[token] for i, token in enumerate(tokens))
        return total / penalty(len(tokens), alpha)


def penalty(length, alpha):
    return ((5 + length) / 6) ** alpha


def search(model, beam_size, alpha=0.6, num_best=None, **options):
    return beam.beam_search(
        model.logits_fn,
        model.cache(beam_size),
        batch_size=len(model.table_BXV),
        beam_size=beam_size,
        max_words=model.max_words,
        length_penalty=alpha,
        num_best=num_best or beam_size,
        **options,
    )


def greedy(model, **options):
    return search(model, 1, alpha=0.0, **options)


def words_of(token_L):
    """Return the words before EOS, after checking that PAD alone follows it."""
    tokens = token_L.tolist()
    end = tokens.index(EOS)
    assert set(tokens[end + 1 :]) <= {PAD}
    return tuple(tokens[:end])
