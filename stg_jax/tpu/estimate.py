"""What a compiled program needs of a chip: memory, work, exchange, and the time predicted."""

import collections
from typing import Any

import jax

from stg_jax.tpu import hlo
from stg_jax.tpu.chips import Topology
from stg_jax.tpu.programs import Lowered

SLOWEST = 8  # operations to name

Estimate = dict[str, Any]


def estimate(compiled: jax.stages.Compiled, program: Lowered, topology: Topology) -> Estimate:
    """Return what the compiler says of a program on one chip, and what follows.

    Returns:
      'hbm_gb' of 'hbm_capacity_gb'; 'useful_gflop' (real words alone), 'compiler_gflop' and
      'compiler_gb' (the compiler's counts, a loop's body once); 'collectives'; 'cycles', and
      'compute_ms' that they take; 'all_reduce_ms' by the formula of `Topology`, added as if nothing
      ran meanwhile; 'step_ms' of both; 'of_peak', the share of the chip's bfloat16 peak that useful
      work has; 'captions_per_s' of all chips; 'slowest' operations with their share of the cycles.
    """
    run = hlo.Program.parse(compiled.as_text()).run(program.open_loops)
    cost, cycles = compiled.cost_analysis(), hlo.total_cycles(run)
    exchanged = hlo.collectives(run)
    summed = sum(
        each['times'] * topology.all_reduce_seconds(each['bytes'])
        for each in exchanged
        if each['kind'] == 'all-reduce'
    )
    compute = cycles / (topology.chip.clock_ghz * 1e9)
    seconds = compute + summed
    return {
        'hbm_gb': _hbm_bytes(compiled.memory_analysis()) / 1e9,
        'hbm_capacity_gb': topology.chip.hbm_gb,
        'useful_gflop': program.useful_flops / 1e9,
        'compiler_gflop': cost['flops'] / 1e9,
        'compiler_gb': cost['bytes accessed'] / 1e9,
        'collectives': _grouped(exchanged),
        'cycles': cycles,
        'compute_ms': 1e3 * compute,
        'all_reduce_ms': 1e3 * summed,
        'step_ms': 1e3 * seconds,
        'of_peak': program.useful_flops / seconds / (topology.chip.peak_tflops * 1e12),
        'captions_per_s': program.captions * topology.num_chips / seconds,
        'slowest': [
            {'operation': name, 'of_cycles': count / cycles}
            for name, count in hlo.slowest(run, SLOWEST)
        ],
    }


def _hbm_bytes(memory) -> int:
    # Donated arguments are outputs too: counted once.
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def _grouped(exchanged):
    """Return equal collectives as one, with how often they happen."""
    times = collections.Counter()
    for each in exchanged:
        times[each['kind'], each['bytes']] += each['times']
    return [{'kind': kind, 'bytes': size, 'times': count} for (kind, size), count in times.items()]
