r"""Estimate training and decoding on a TPU slice: compile with the TPU compiler, without a TPU.

    python launch/tpu_estimate.py --config configs/msvd.py --topology v5e:4x4
    python launch/tpu_estimate.py --config configs/msvd.py --topology v5p:2x2x4 --program train \
        --config.train.batch_size=1024 --config.model.dtype=bfloat16 --out estimate.json

Prints for one chip: memory used and available, work and communication, the time (the sum of the
compiler's own cycle estimates), the fraction of the chip's peak, and the slowest operations. No
data are needed: captions have the lengths of MSVD's. Here --config.train.batch_size is the number
of captions, and --config.decode.batch_size the number of clips, of ONE chip.

Needs the compiler: pip install -e '.[tpu]', in a separate environment. On two cores a small network
takes one minute, the full-size one five.
"""

import time

from absl import flags

from stg_jax.benchmark.tpu.chips import Topology
from stg_jax.benchmark.tpu.estimate import lines
from stg_jax.benchmark.tpu.programs import topology_mesh, without_tpu
from stg_jax.cli import app, config_flag
from stg_jax.config import parse_config
from stg_jax.files import write_json, write_text

_CONFIG = config_flag.define()
_TOPOLOGY = flags.DEFINE_string('topology', None, 'Chip and shape: v4:2x2x4, v5e:4x4, v6e:16x16.')
_PROGRAMS = flags.DEFINE_multi_enum(
    'program', ['train', 'decode'], ['train', 'decode'], 'Program to compile; can be repeated.'
)
_VOCAB_SIZE = flags.DEFINE_integer(
    'vocab_size', 9466, 'Size of the vocabulary; by default that of MSVD.', 5
)
_PACKED = flags.DEFINE_bool('packed', True, 'Drop padding tokens, as training does.')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write.')
_HLO = flags.DEFINE_string('hlo', None, 'File for the optimized HLO text of the last program.')


def main(args: list[str]) -> None:
    """Compile and estimate."""
    app.no_arguments(args)
    config = parse_config(config_flag.required_config(_CONFIG))
    topology = Topology.parse(app.required(_TOPOLOGY))
    without_tpu()
    mesh = topology_mesh(topology)
    estimates = {}
    for name in dict.fromkeys(_PROGRAMS.value):
        estimates[name] = _compiled(name, config, mesh, topology)
        print(*lines(name, topology, estimates[name]), sep='\n', flush=True)
    if _OUT.value:
        made_with = {'topology': str(topology), 'config': config.tree()}
        write_json(_OUT.value, made_with | {'vocab_size': _VOCAB_SIZE.value, **estimates})


def _compiled(name, config, mesh, topology):
    from stg_jax.benchmark.tpu import programs  # after the flags, so that --help is quick
    from stg_jax.benchmark.tpu.estimate import estimate

    if name == 'train':
        program = programs.training(config, mesh, _VOCAB_SIZE.value, packed=_PACKED.value)
    else:
        program = programs.decoding(config, mesh, _VOCAB_SIZE.value)
    print(f'{name}: compiling for {topology}, which can take minutes', flush=True)
    start = time.perf_counter()
    compiled = program.lowered.compile()
    if _HLO.value:
        write_text(_HLO.value, compiled.as_text() or '')
    found = estimate(compiled, program, topology)
    return found | {'compile_s': time.perf_counter() - start}


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
