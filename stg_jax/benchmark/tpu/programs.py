"""The programs that training and evaluation run on each chip of a slice that is not there."""

import dataclasses
import importlib.util
import os
from typing import Any

import jax

from stg_jax.benchmark.flops import decoding_flops, training_flops
from stg_jax.benchmark.synthetic import random_tokens
from stg_jax.benchmark.tpu.chips import Topology
from stg_jax.config import Config
from stg_jax.data.vocab import PAD
from stg_jax.decode.generate import mapped_search
from stg_jax.errors import UserError
from stg_jax.parallel import mapped, sharding
from stg_jax.run.build import build_model_without_data, feature_shapes, param_shapes
from stg_jax.train.feed import add_packing
from stg_jax.train.optim import make_optimizer
from stg_jax.train.step import init_state, make_train_step

# libtpu reads these when it is loaded. They keep it from searching for a TPU and its hosts.
_ENVIRONMENT = {
    'JAX_PLATFORMS': 'cpu',
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}
CAPTION_LENGTH = 8  # tokens read of each beam, EOS included: the mean of MSVD


def without_tpu() -> None:
    """Set up this process for compiling without a TPU; call it before JAX is imported.

    Raises:
      UserError: the compiler is not installed.
    """
    # Importing it would already initialise it.
    if importlib.util.find_spec('libtpu') is None:
        raise UserError(
            'the TPU compiler is not installed: in an environment of its own, as it makes every '
            "start of JAX look for a TPU, run pip install -e '.[tpu]'"
        )
    # setdefault: whoever has set them knows this machine better.
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def topology_mesh(topology: Topology) -> Any:
    """Build the mesh of a slice to compile for, without its hardware.

    Raises:
      UserError: the compiler does not know such a slice.
    """
    from jax.experimental import topologies

    from stg_jax.parallel.sharding import AXIS

    try:
        described = topologies.get_topology_desc(
            platform='tpu',
            topology_name=str(topology),
            chips_per_host_bounds=topology.host_bounds,
            chip_config_name=topology.chip.chip_config,
        )
    except RuntimeError as error:
        message = str(error).splitlines()[0]
        raise UserError(f'--topology {topology}: the compiler says {message}') from None
    return topologies.make_mesh(described, (topology.num_chips,), (AXIS,))


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
    optimizer = make_optimizer(config, epoch_steps=1)
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
