"""Search and sampling over a batch of clips with one branch of the network.

`make_search` and `make_sampler` return pure functions, `mapped_search` and `mapped_sampler` map
them over all devices of a mesh. Validation during training, evaluation, `Captioner` and
`launch/tpu_estimate.py` all run `mapped_search`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from stg_jax.decode.beam import Cache, Hypotheses, LogitsFn, beam_search
from stg_jax.decode.sampling import sample
from stg_jax.model.network import CaptioningModel
from stg_jax.parallel.mapped import mapped_over_clips
from stg_jax.parallel.sharding import Mesh

PyTree = Any
ClipFn = Callable[[PyTree, Mapping[str, jax.Array]], Hypotheses]


def mapped_search(
    model: CaptioningModel,
    mesh: Mesh,
    *,
    branch: str,
    beam_size: int,
    length_penalty: float,
    num_best: int = 1,
) -> ClipFn:
    """Map the search of `make_search` over the devices of a mesh; each decodes its own clips."""
    search = make_search(
        model,
        branch=branch,
        beam_size=beam_size,
        length_penalty=length_penalty,
        num_best=num_best,
    )
    return mapped_over_clips(search, mesh)


def mapped_sampler(model: CaptioningModel, mesh: Mesh, **options: Any) -> ClipFn:
    """Map the sampler of `make_sampler` over the devices of a mesh."""
    return mapped_over_clips(make_sampler(model, **options), mesh)


def make_search(
    model: CaptioningModel,
    *,
    branch: str,
    beam_size: int,
    length_penalty: float,
    num_best: int = 1,
    one_size: bool = False,
) -> ClipFn:
    """Build `search(params, batch) -> Hypotheses`, a pure function for `jit` or `shard_map`.

    Args:
      model: the network.
      branch: name of the language decoder, one of `model.config.decoders`.
      beam_size: 1 decodes greedily.
      length_penalty: see `beam_search`.
      num_best: captions of each clip that are returned, at most `beam_size`.
      one_size: compute all rows at every step, for compilers that cannot choose between programs.

    Raises:
      UserError: the model does not have this branch.
    """
    # Now, so that an unknown branch is reported before anything is compiled.
    branch = model.config.decoder(branch)

    def search(params: PyTree, batch: Mapping[str, jax.Array]) -> Hypotheses:
        logits_fn, cache = encode_clips(model, params, batch, branch, beam_size)
        batch_size = batch['appearance'].shape[0]
        return beam_search(
            logits_fn,
            cache,
            batch_size=batch_size,
            beam_size=beam_size,
            max_words=model.max_words,
            length_penalty=length_penalty,
            num_best=num_best,
            sizes=[batch_size * beam_size] if one_size else None,
        )

    return search


def make_sampler(
    model: CaptioningModel,
    *,
    branch: str,
    num_samples: int,
    temperature: float,
    length_penalty: float,
) -> Callable[[tuple[PyTree, jax.Array], Mapping[str, jax.Array]], Hypotheses]:
    """Build `draw((params, seed), batch) -> Hypotheses`, a pure function; see `sample`.

    Raises:
      UserError: the model does not have this branch.
    """
    branch = model.config.decoder(branch)

    def draw(
        params_and_seed: tuple[PyTree, jax.Array], batch: Mapping[str, jax.Array]
    ) -> Hypotheses:
        params, seed = params_and_seed
        logits_fn, cache = encode_clips(model, params, batch, branch, num_samples)
        return sample(
            logits_fn,
            cache,
            seed,
            batch_size=batch['appearance'].shape[0],
            num_samples=num_samples,
            max_words=model.max_words,
            temperature=temperature,
            length_penalty=length_penalty,
        )

    return draw


def encode_clips(
    model: CaptioningModel,
    params: PyTree,
    batch: Mapping[str, jax.Array],
    branch: str,
    rows_per_clip: int,
) -> tuple[LogitsFn, Cache]:
    """Encode clips once, before the search.

    Returns:
      The function that continues captions of these clips, and its empty cache with
      `rows_per_clip` rows for each clip.
    """
    # Keys and values of the memory are projected once here, not again for every word.
    apply = functools.partial(model.apply, {'params': params}, branch=branch)
    memory = apply(apply(batch, method='encode'), method='read_memory')

    def logits_fn(prefixes, position, cache):
        token_R, clip_R, trail_RL = prefixes.token_R, prefixes.clip_R, prefixes.trail_RL
        return apply(token_R, position, cache, trail_RL, memory, clip_R, method='step')

    num_rows = batch['appearance'].shape[0] * rows_per_clip
    return logits_fn, apply(num_rows, method='empty_cache')
