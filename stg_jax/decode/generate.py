"""Decode a batch of clips with one branch of the network."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from stg_jax.decode.search import Hypotheses, beam_search, greedy_search
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
      length_penalty: see `beam_search`; greedy decoding has no use for it.

    Raises:
      UserError: the model has no such branch.
    """
    branch = model.spec.decoder(branch)

    def decode(params: PyTree, batch: Mapping[str, jax.Array]) -> Hypotheses:
        apply = functools.partial(model.apply, {'params': params}, branch=branch)
        memory = apply(apply(batch, method='encode'), method='read_memory')

        def logits_fn(token_BK, position, cache):
            return apply(token_BK, position, cache, memory, method='step')

        batch_size = batch['appearance'].shape[0]
        cache = apply(batch_size, beam_size, method='empty_cache')
        size = {'batch_size': batch_size, 'max_words': model.spec.max_words}
        if beam_size == 1:
            return greedy_search(logits_fn, cache, **size)
        return beam_search(
            logits_fn, cache, beam_size=beam_size, length_penalty=length_penalty, **size
        )

    return decode
