"""Decode a batch of clips with one branch of the network."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from stg_jax.decode.search import Hypotheses, beam_search
from stg_jax.model.captioner import CaptioningModel

PyTree = Any


def make_decode_fn(
    model: CaptioningModel, *, branch: str, beam_size: int, length_penalty: float
) -> Callable[[PyTree, Mapping[str, jax.Array]], Hypotheses]:
    """Return `decode(params, batch) -> Hypotheses`, pure and ready for `jit` or `shard_map`.

    Args:
      model: the network.
      branch: name of the language decoder, one of `model.spec.decoders`.
      beam_size: 1 decodes greedily.
      length_penalty: see `beam_search`.

    Raises:
      UserError: the model has no such branch.
    """
    branch = model.spec.decoder(branch)

    def decode(params: PyTree, batch: Mapping[str, jax.Array]) -> Hypotheses:
        apply = functools.partial(model.apply, {'params': params}, branch=branch)
        memory = apply(apply(batch, method='encode'), method='read_memory')

        def logits_fn(prefixes, position, cache):
            of_prefixes = memory.of_clips(prefixes.clip_R)
            return apply(
                prefixes.token_R, position, cache, prefixes.trail_RL, of_prefixes, method='step'
            )

        batch_size = batch['appearance'].shape[0]
        return beam_search(
            logits_fn,
            apply(batch_size * beam_size, method='empty_cache'),
            batch_size=batch_size,
            beam_size=beam_size,
            max_words=model.spec.max_words,
            length_penalty=length_penalty,
        )

    return decode
