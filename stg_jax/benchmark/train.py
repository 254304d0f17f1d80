"""The suite 'train': optimiser steps on synthetic batches that lie on the devices."""

import dataclasses
from typing import Any

import jax

from stg_jax.benchmark.ceiling import matrix_ceiling
from stg_jax.benchmark.flops import training_flops
from stg_jax.benchmark.measure import Spread, rate, ratio, seconds_in_turn
from stg_jax.benchmark.synthetic import Batch, make_model, random_batch
from stg_jax.data.vocab import PAD
from stg_jax.model.losses import LossSpec
from stg_jax.run.network import init_params
from stg_jax.train import parallel
from stg_jax.train.compact import compact
from stg_jax.train.optim import make_optimizer
from stg_jax.train.step import init_state, make_train_step

_BATCHES = 2  # of a round, so that not one draw of caption lengths decides
_ROUNDS = 5

PyTree = Any
Stage = dict[str, Any]


class Training:
    """Train a network on the same batches again and again.

    Attributes:
      num_captions: captions of all batches together.
      num_tokens: words to predict in them, EOS included.
    """

    def __init__(self, config: Any, params: PyTree, batches: list[Batch], *, packed: bool):
        mesh, accumulate = parallel.data_mesh(), config.train.accumulate
        optimizer = make_optimizer(config.optim, num_steps=1)
        train_step = make_train_step(
            make_model(config),
            LossSpec(**config.loss, **config.kd),
            optimizer,
            seed=config.seed,
            accumulate=accumulate,
        )
        self._state = parallel.replicate(init_state(params, optimizer), mesh)
        if packed:
            parts = mesh.size * accumulate
            batches = [compact(batch, num_parts=parts) for batch in batches]
        self._batches = [parallel.shard_batch(parallel.own_rows(batch), mesh) for batch in batches]
        mapped = parallel.pmapped(train_step, mesh)
        self._steps = list(_programs(mapped, self._state, self._batches))
        self.num_captions = sum(batch['tokens'][..., 0].size for batch in batches)
        self.num_tokens = sum(int((batch['tokens'][..., 1:] != PAD).sum()) for batch in batches)

    def __call__(self) -> None:
        """Take one step on each batch and wait for the last."""
        for step, batch in zip(self._steps, self._batches, strict=True):
            self._state, _ = step(self._state, batch)
        jax.block_until_ready(self._state)

    def memory_mb(self) -> float:
        """Return what the program of a step needs besides parameters and batch."""
        return max(step.memory_analysis().temp_size_in_bytes for step in self._steps) / 1e6


def run(config: Any) -> list[Stage]:
    """Return the speed of training as the config says, and without each way to save work.

    Returns:
      For each stage 'stage' (its name); 'captions_per_s' and 'to_first' (speed in relation to the
      first stage, round by round) with median, min and max; 'gflop' of a caption, 'gflop_per_s' and
      'of_ceiling' (share of a matrix product's), all of the useful work alone; 'temp_mb'.
    """
    num_clips = config.train.batch_size // config.data.captions_per_clip
    batches = [random_batch(config, num_clips, seed) for seed in range(_BATCHES)]
    single = config.copy_and_resolve_references()
    single.data.captions_per_clip = 1
    singles = [random_batch(single, config.train.batch_size, seed) for seed in range(_BATCHES)]
    # In the host's memory, as each way gives away the arrays that it starts with.
    params = jax.device_get(init_params(make_model(config), config, config.seed))
    ways = {
        'as configured': (config, Training(config, params, batches, packed=True)),
        'captions padded': (config, Training(config, params, batches, packed=False)),
        'one caption a clip': (single, Training(single, params, singles, packed=True)),
    }
    seconds = seconds_in_turn({name: way for name, (_, way) in ways.items()}, _ROUNDS)
    ceiling = matrix_ceiling(config.model.dtype)
    stages = [
        _stage(name, way_config, way, seconds[name], seconds['as configured'], ceiling)
        for name, (way_config, way) in ways.items()
    ]
    return [*stages, ceiling]


def _programs(train_step, state, batches):
    """Yield the program for each batch; those of batches of equal shapes are one."""
    programs = {}
    for batch in batches:
        shapes = tuple(x.shape for x in batch.values())
        if shapes not in programs:
            programs[shapes] = train_step.lower(state, batch).compile()
        yield programs[shapes]


def _stage(name, config, training, seconds, first, ceiling) -> Stage:
    num_captions = config.data.captions_per_clip
    flops = training_flops(
        make_model(config),
        config,
        num_clips=training.num_captions // num_captions,
        num_captions=num_captions,
        num_tokens=training.num_tokens / training.num_captions,
    )
    speed = rate(flops / 1e9, seconds)
    return {
        'stage': name,
        'captions_per_s': _fields(rate(training.num_captions, seconds)),
        'to_first': _fields(ratio(seconds, first)),
        'gflop': flops / training.num_captions / 1e9,
        'gflop_per_s': _fields(speed),
        'of_ceiling': speed.median / ceiling['gflop_per_s'] / parallel.data_mesh().size,
        'temp_mb': training.memory_mb(),
    }


def _fields(spread: Spread) -> dict[str, float]:
    return dataclasses.asdict(spread)
