"""The suite 'train': optimiser steps on synthetic batches that are already on the devices."""

from typing import Any

import jax
import numpy as np

from stg_jax.benchmark.flops import matrix_ceiling, training_flops
from stg_jax.benchmark.synthetic import Batch, make_model, random_batch
from stg_jax.benchmark.timing import Stage, rate, speedup, time_interleaved
from stg_jax.config import Config
from stg_jax.data.vocab import PAD
from stg_jax.parallel import mapped, sharding
from stg_jax.run.build import init_params
from stg_jax.train.feed import add_packing, choose_sizes, fitting_size, fullest_parts
from stg_jax.train.multistep import in_sequence
from stg_jax.train.optim import make_optimizer
from stg_jax.train.step import init_state, make_train_step

_BATCHES = 2  # minimum of a round: a single draw of caption lengths would decide the result
_ROUNDS = 5

PyTree = Any


class Training:
    """Trains a network on the same batches repeatedly.

    Args:
      config: whole.
      params: initial parameters.
      batches: of all hosts; a round is one step on each of them.
      packed: whether to drop padding tokens, as training does.
      at_once: maximum number of steps in one execution.

    Attributes:
      num_captions: captions of all batches together.
      num_tokens: tokens to predict in them, EOS included.
    """

    def __init__(
        self, config: Config, params: PyTree, batches: list[Batch], *, packed: bool, at_once: int
    ):
        mesh, accumulate = sharding.data_mesh(), config.train.accumulate
        # One step of schedule: the learning rate does not change the time.
        optimizer = make_optimizer(config, epoch_steps=1)
        train_step = make_train_step(
            make_model(config),
            config.loss,
            optimizer,
            seed=config.seed,
            accumulate=accumulate,
        )
        self._state = sharding.replicate(init_state(params, optimizer), mesh)
        executions = [batches[i : i + at_once] for i in range(0, len(batches), at_once)]
        if packed:
            executions = [_packed(part, mesh.size * accumulate) for part in executions]
        on_devices = [
            tuple(sharding.shard_batch(sharding.own_rows(batch), mesh) for batch in part)
            for part in executions
        ]
        if at_once > 1:
            self._executions, step_fn = on_devices, in_sequence(train_step)
        else:
            self._executions, step_fn = [batch for (batch,) in on_devices], train_step
        step_fn = mapped.pmapped(step_fn, mesh)
        self._programs = list(_programs(step_fn, self._state, self._executions))
        self.num_captions = sum(batch['tokens'][..., 0].size for batch in batches)
        self.num_tokens = sum(int((batch['tokens'][..., 1:] != PAD).sum()) for batch in batches)

    def __call__(self) -> None:
        """Take one step on each batch, and wait for the last."""
        for program, batch in zip(self._programs, self._executions, strict=True):
            self._state, _ = program(self._state, batch)
        jax.block_until_ready(self._state)

    def memory_mb(self) -> float:
        """Memory that a program needs in addition to parameters and batches."""
        return max(x.memory_analysis().temp_size_in_bytes for x in self._programs) / 1e6


def run(config: Config) -> list[Stage]:
    """Measure training as configured, and with each optimisation turned off.

    Returns:
      For each stage 'stage' (its name); 'captions_per_s' and 'to_first' (speed relative to the
      first stage, round by round) with median, min and max; 'gflop' of a caption, 'gflop_per_s' and
      'of_ceiling' (fraction of the matrix product peak), which count only useful work; 'temp_mb'.
    """
    num_clips = config.train.batch_size // config.data.captions_per_clip
    at_once = config.train.steps_per_execution
    # An execution of several steps needs that many batches.
    seeds = range(max(_BATCHES, at_once))
    batches = [random_batch(config, num_clips, seed) for seed in seeds]
    # The same number of captions, but each with a clip of its own: the encoder runs once per
    # caption.
    single = config.changed(data__captions_per_clip=1)
    singles = [random_batch(single, config.train.batch_size, seed) for seed in seeds]
    # In host memory, because a train step donates its parameters and each stage needs them.
    params = jax.device_get(init_params(make_model(config), config.data, config.seed))

    def training(config, batches, *, packed=True, at_once=at_once):
        return config, Training(config, params, batches, packed=packed, at_once=at_once)

    ways = {
        'as configured': training(config, batches),
        'captions padded': training(config, batches, packed=False),
        'one caption a clip': training(single, singles),
    }
    if at_once > 1:
        ways['one step at a time'] = training(config, batches, at_once=1)
    seconds = time_interleaved({name: way for name, (_, way) in ways.items()}, _ROUNDS)
    # Measured in the same run, since the peak of a shared machine varies too.
    ceiling = matrix_ceiling(config.model.dtype)
    stages = [
        _stage(name, way_config, way, seconds[name], seconds['as configured'], ceiling)
        for name, (way_config, way) in ways.items()
    ]
    return [*stages, ceiling]


def _packed(batches, num_parts):
    """Pack the batches of an execution, all to the size that the fullest part needs."""
    num_tokens_SB = np.stack([(batch['tokens'][..., 1:] != PAD).sum((1, 2)) for batch in batches])
    num_positions = batches[0]['tokens'][..., 1:].size // num_parts
    fullest_S = fullest_parts(num_tokens_SB, num_parts)
    size = fitting_size(fullest_S.max(), choose_sizes(fullest_S, num_positions))
    return [add_packing(batch, num_parts=num_parts, size=size) for batch in batches]


def _programs(train_step, state, batches):
    """Yield the compiled program of each batch; batches of equal shapes share one."""
    programs = {}
    for batch in batches:
        shapes = tuple(x.shape for x in jax.tree.leaves(batch))
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
        'captions_per_s': rate(training.num_captions, seconds).as_json(),
        'to_first': speedup(seconds, first).as_json(),
        'gflop': flops / training.num_captions / 1e9,
        'gflop_per_s': speed.as_json(),
        'of_ceiling': speed.median / ceiling['gflop_per_s'] / sharding.data_mesh().size,
        'temp_mb': training.memory_mb(),
    }
