"""Show an estimate to a reader."""

from collections.abc import Iterator
from typing import Any

from stg_jax.tpu.chips import Topology


def lines(name: str, topology: Topology, found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that show what `estimate` found of a program."""
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
