"""The programs that training and evaluation run on each chip, lowered from shapes only."""

import dataclasses

import jax

from stg_jax.benchmark.flops import decoding_flops, training_flops
from stg_jax.benchmark.synthetic import random_tokens
from stg_jax.config import Config
from stg_jax.data.vocab import PAD
from stg_jax.decode.generate import mapped_search
from stg_jax.parallel import mapped, sharding
from stg_jax.run.build import build_model_without_data, feature_shapes, param_shapes
from stg_jax.train.bucketing import add_packing
from stg_jax.train.optim import make_optimizer
from stg_jax.train.step import init_state, make_train_step

CAPTION_LENGTH = 8  # tokens read of each beam, EOS included: the mean of MSVD


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A program before compilation.

    Attributes:
      lowered: the program.
      captions: number of captions per chip.
      useful_flops: per chip: the work for its clips and real tokens, without padding.
      open_loops: iterations of a loop whose number depends on the data.
    """

    lowered: jax.stages.Lowered
    captions: int
    useful_flops: float
    open_loops: int = 1


def training(config: Config, mesh: sharding.Mesh, vocab_size: int, *, packed: bool) -> Lowered:
    """Lower the step that launch/train.py runs, with `config.train.batch_size` captions per chip.

    Captions have the lengths of MSVD's; `packed` drops padding tokens, as training does.
    """
    model, num_captions = (
        build_model_without_data(config, vocab_size),
        config.data.captions_per_clip,
    )
    clips_per_chip = config.train.batch_size // num_captions
    # Every device packs its own clips, for each part of an accumulated step.
    num_parts = mesh.size * config.train.accumulate
    tokens = {'tokens': random_tokens(config, clips_per_chip * mesh.size, seed=0)}
    batch = add_packing(tokens, num_parts=num_parts) if packed else tokens
    optimizer = make_optimizer(config.optim, num_steps=1)
    # Shapes only: the parameters of the full-size network are never allocated.
    state = jax.eval_shape(
        lambda params: init_state(params, optimizer), param_shapes(model, config.data)
    )
    step = make_train_step(
        model,
        config.loss,
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


def decoding(config: Config, mesh: sharding.Mesh, vocab_size: int) -> Lowered:
    """Lower the search that launch/evaluate.py runs, `config.decode.batch_size` clips per chip."""
    model, search = build_model_without_data(config, vocab_size), config.decode
    branch = model.config.decoder()
    program = mapped_search(
        model, mesh, branch=branch, beam_size=search.beam_size, length_penalty=search.length_penalty
    )
    lowered = program.lower(
        sharding.replicated_shapes(param_shapes(model, config.data), mesh),
        sharding.sharded_shapes(_clips(config, search.batch_size * mesh.size), mesh),
    )
    deployed = config.changed(model__branches='scene' if branch == 'scene' else 'full')
    flops = decoding_flops(
        build_model_without_data(deployed, vocab_size),
        config,
        num_clips=search.batch_size,
        num_beams=search.beam_size,
        num_tokens=CAPTION_LENGTH,
    )
    return Lowered(lowered, search.batch_size, flops, CAPTION_LENGTH)


def _clips(config, num_clips):
    return {
        key: jax.ShapeDtypeStruct((num_clips, *x.shape), x.dtype)
        for key, x in feature_shapes(config.data).items()
    }
