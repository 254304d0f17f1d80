"""Estimate memory, work, communication and time of a compiled program on one chip."""

import collections
from collections.abc import Iterator
from typing import Any

import jax

from stg_jax.benchmark.tpu import hlo
from stg_jax.benchmark.tpu.chips import Topology
from stg_jax.benchmark.tpu.programs import Lowered


def lines(name: str, topology: Topology, found: dict[str, Any]) -> Iterator[str]:
    """Format an estimate as lines of text."""
    yield f'{name} on {topology}, {topology.num_chips} chips; of one chip:'
    yield f'  memory      {found["hbm_gb"]:.2f} of {found["hbm_capacity_gb"]} GB'
    yield (
        f'  work        {found["useful_gflop"]:,.0f} GFLOP useful; the compiler counts '
        f'{found["compiler_gflop"]:,.0f} GFLOP, {found["compiler_gb"]:.1f} GB (loop bodies once)'
    )
    for each in found['collectives']:
        yield f'  exchange    {each["times"]} x {each["kind"]} of {each["bytes"] / 1e6:.1f} MB'
    yield (
        f'  time        {found["step_ms"]:.2f} ms: {found["compute_ms"]:.2f} computing, '
        f'{found["all_reduce_ms"]:.2f} all-reducing (links at full rate, nothing overlapped)'
    )
    yield (
        f'  speed       {found["of_peak"]:.1%} of the bfloat16 peak, '
        f'{found["captions_per_s"]:,.0f} captions/s on all chips'
    )
    for each in found['slowest']:
        yield f'  {each["of_cycles"]:6.1%} of the cycles: {_shortened(each["operation"])}'


def _shortened(operation: str) -> str:
    return operation if len(operation) <= 80 else '...' + operation[-77:]


SLOWEST = 8  # operations to name

Estimate = dict[str, Any]


def estimate(compiled: jax.stages.Compiled, program: Lowered, topology: Topology) -> Estimate:
    """Estimate a program from the compiler's own figures.

    Returns:
      'hbm_gb' of 'hbm_capacity_gb'; 'useful_gflop' (real tokens only), 'compiler_gflop' and
      'compiler_gb' (the compiler's counts, loop bodies once); 'collectives'; 'cycles', and their
      time 'compute_ms'; 'all_reduce_ms' by the formula of `Topology`, without overlap; 'step_ms',
      the sum of both; 'of_peak', useful work as a fraction of the chip's bfloat16 peak;
      'captions_per_s' of all chips; 'slowest' operations with their fraction of the cycles.
    """
    run = hlo.Program.parse(compiled.as_text() or '').run(program.open_loops)
    cost, cycles = compiled.cost_analysis() or {}, hlo.total_cycles(run)
    # The compiler gives no cycles for collectives, so these are estimated from their bytes.
    exchanged = hlo.collectives(run)
    summed = sum(
        each.times * topology.all_reduce_seconds(each.bytes)
        for each in exchanged
        if each.kind == 'all-reduce'
    )
    compute = cycles / (topology.chip.clock_ghz * 1e9)
    # The compiler overlaps some of both; the sum is the cautious estimate.
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
    # Donated arguments are also outputs, which must be counted once.
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def _grouped(exchanged):
    """Merge equal collectives, adding up how often they happen."""
    times = collections.Counter()
    for each in exchanged:
        times[each.kind, each.bytes] += each.times
    return [{'kind': kind, 'bytes': size, 'times': count} for (kind, size), count in times.items()]
