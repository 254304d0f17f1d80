"""The programs that a run of a config lets its chips run, compiled from shapes alone."""

import dataclasses
from typing import Any

import jax

from stg_jax.benchmark.flops import decoding_flops, training_flops
from stg_jax.benchmark.synthetic import random_tokens
from stg_jax.data.vocab import PAD
from stg_jax.decode.generate import mapped_search
from stg_jax.model.losses import LossSpec
from stg_jax.model.network import CaptioningModel, ModelSpec
from stg_jax.parallel import mapped, sharding
from stg_jax.run.build import feature_shapes, param_shapes
from stg_jax.train.bucketing import compact
from stg_jax.train.optim import make_optimizer
from stg_jax.train.step import init_state, make_train_step

CAPTION_LENGTH = 8  # words read of each beam, EOS included: MSVD's mean


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A program before compilation.

    Attributes:
      lowered: what JAX compiles.
      captions: of one chip.
      useful_flops: of one chip: what its clips and real words need, without padding.
      open_loops: how often its loop runs, where that depends on data.
    """

    lowered: jax.stages.Lowered
    captions: int
    useful_flops: float
    open_loops: int = 1


def network(config: Any, vocab_size: int) -> CaptioningModel:
    """Return the network of a config, whose words and feature scales would come from data."""
    facts = {'max_words': config.data.max_words, 'scale': (1.0, 1.0, 1.0)}
    return CaptioningModel(ModelSpec(**config.model, **facts, vocab_size=vocab_size))


def training(config: Any, mesh: sharding.Mesh, vocab_size: int, *, packed: bool) -> Lowered:
    """Return the step that launch/train.py runs, with `config.train.batch_size` captions a chip.

    Captions are as long as MSVD's; `packed` works on their words alone, as training does.
    """
    model, num_captions = network(config, vocab_size), config.data.captions_per_clip
    clips_per_chip = config.train.batch_size // num_captions
    num_parts = mesh.size * config.train.accumulate
    tokens = {'tokens': random_tokens(config, clips_per_chip * mesh.size, seed=0)}
    batch = compact(tokens, num_parts=num_parts) if packed else tokens
    optimizer = make_optimizer(config.optim, num_steps=1)
    state = jax.eval_shape(
        lambda params: init_state(params, optimizer), param_shapes(model, config)
    )
    step = make_train_step(
        model,
        LossSpec(**config.loss, **config.kd),
        optimizer,
        seed=config.seed,
        accumulate=config.train.accumulate,
    )
    lowered = mapped.pmapped(step, mesh).lower(
        sharding.replicated_shapes(state, mesh),
        sharding.sharded_shapes(_clips(config, clips_per_chip * mesh.size) | batch, mesh),
    )
    num_words = (tokens['tokens'][..., 1:] != PAD).sum() / tokens['tokens'][..., 0].size
    flops = training_flops(
        model, config, num_clips=clips_per_chip, num_captions=num_captions, num_tokens=num_words
    )
    return Lowered(lowered, config.train.batch_size, flops)


def decoding(config: Any, mesh: sharding.Mesh, vocab_size: int) -> Lowered:
    """Return the search that launch/evaluate.py runs, `config.decode.batch_size` clips a chip."""
    model, search = network(config, vocab_size), config.decode
    branch = model.spec.decoder()
    program = mapped_search(
        model, mesh, branch=branch, beam_size=search.beam_size, length_penalty=search.length_penalty
    )
    lowered = program.lower(
        sharding.replicated_shapes(param_shapes(model, config), mesh),
        sharding.sharded_shapes(_clips(config, search.batch_size * mesh.size), mesh),
    )
    alone = dataclasses.replace(model.spec, branches='scene' if branch == 'scene' else 'full')
    flops = decoding_flops(
        CaptioningModel(alone),
        config,
        num_clips=search.batch_size,
        num_beams=search.beam_size,
        num_tokens=CAPTION_LENGTH,
    )
    return Lowered(lowered, search.batch_size, flops, CAPTION_LENGTH)


def _clips(config, num_clips):
    return {
        key: jax.ShapeDtypeStruct((num_clips, *x.shape), x.dtype)
        for key, x in feature_shapes(config).items()
    }
