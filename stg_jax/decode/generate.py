"""Decode a batch of clips with one branch of the network."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from stg_jax.decode.beam import Cache, Hypotheses, LogitsFn, beam_search
from stg_jax.decode.sampling import sample
from stg_jax.model.network import CaptioningModel

PyTree = Any


def make_decode_fn(
    model: CaptioningModel,
    *,
    branch: str,
    beam_size: int,
    length_penalty: float,
    num_best: int = 1,
) -> Callable[[PyTree, Mapping[str, jax.Array]], Hypotheses]:
    """Return `decode(params, batch) -> Hypotheses`, pure and ready for `jit` or `shard_map`.

    Args:
      model: the network.
      branch: name of the language decoder, one of `model.spec.decoders`.
      beam_size: 1 decodes greedily.
      length_penalty: see `beam_search`.
      num_best: captions of each clip that are returned, at most `beam_size`.

    Raises:
      UserError: the model has no such branch.
    """
    branch = model.spec.decoder(branch)

    def decode(params: PyTree, batch: Mapping[str, jax.Array]) -> Hypotheses:
        logits_fn, cache = read_clips(model, params, batch, branch, beam_size)
        return beam_search(
            logits_fn,
            cache,
            batch_size=batch['appearance'].shape[0],
            beam_size=beam_size,
            max_words=model.spec.max_words,
            length_penalty=length_penalty,
            num_best=num_best,
        )

    return decode


def make_sample_fn(
    model: CaptioningModel,
    *,
    branch: str,
    num_samples: int,
    temperature: float,
    length_penalty: float,
) -> Callable[[PyTree, Mapping[str, jax.Array], jax.Array], Hypotheses]:
    """Return `draw(params, batch, seed) -> Hypotheses`, pure; see `sample` and `make_decode_fn`.

    Raises:
      UserError: the model has no such branch.
    """
    branch = model.spec.decoder(branch)

    def draw(params: PyTree, batch: Mapping[str, jax.Array], seed: jax.Array) -> Hypotheses:
        logits_fn, cache = read_clips(model, params, batch, branch, num_samples)
        return sample(
            logits_fn,
            cache,
            seed,
            batch_size=batch['appearance'].shape[0],
            num_samples=num_samples,
            max_words=model.spec.max_words,
            temperature=temperature,
            length_penalty=length_penalty,
        )

    return draw


def read_clips(
    model: CaptioningModel,
    params: PyTree,
    batch: Mapping[str, jax.Array],
    branch: str,
    rows_per_clip: int,
) -> tuple[LogitsFn, Cache]:
    """Encode the clips; return the model that continues captions of them, and its empty cache."""
    apply = functools.partial(model.apply, {'params': params}, branch=branch)
    memory = apply(apply(batch, method='encode'), method='read_memory')

    def logits_fn(prefixes, position, cache):
        token_R, clip_R, trail_RL = prefixes.token_R, prefixes.clip_R, prefixes.trail_RL
        return apply(token_R, position, cache, trail_RL, memory, clip_R, method='step')

    num_rows = batch['appearance'].shape[0] * rows_per_clip
    return logits_fn, apply(num_rows, method='empty_cache')
