"""Measure how fast this machine is at a part of the project.

    python launch/benchmark.py --suite input --out bench.json
    python launch/benchmark.py --suite input --out bench.json --clips 2000 --frames 28 --objects 36

input   writing shards; reading them bare (tf.data, nothing parsed), streamed and cached as training
        does, and as sliced arrays on disk; importing region features; decoding videos and
        extracting the toy world's features from them. Takes about two minutes on two cores.

The data are random, of the sizes of configs/common.py, and written to the temporary folder
(TMPDIR). Prints a table and writes all figures, with the machine and its versions, to OUT.
"""

import importlib

from absl import flags

from configs import common
from stg_jax import cli
from stg_jax.benchmark import machine
from stg_jax.benchmark.table import table
from stg_jax.files import write_json

_SUITE = flags.DEFINE_enum('suite', None, ['input'], 'What to measure.')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write.')
_CLIPS = flags.DEFINE_integer('clips', 1200, 'Clips to write and read.', 1)
_FRAMES = flags.DEFINE_integer('frames', None, 'T; by default what configs/common.py says.', 1)
_OBJECTS = flags.DEFINE_integer('objects', None, 'N; by default what configs/common.py says.', 1)


def main(args: list[str]) -> None:
    """Run a suite."""
    cli.no_arguments(args)
    suite, out = cli.required(_SUITE), cli.required(_OUT)
    config = common.get_config()
    config.data.frames = _FRAMES.value or config.data.frames
    config.data.objects = _OBJECTS.value or config.data.objects
    stages = importlib.import_module(f'stg_jax.benchmark.{suite}').run(config, _CLIPS.value)
    shape = config.data.to_dict() | {'clips': _CLIPS.value}
    write_json(out, {'suite': suite, **machine.describe(), 'data': shape, 'stages': stages})
    print(table(stages))
    print(f'wrote {out}')


if __name__ == '__main__':
    cli.run(main)
