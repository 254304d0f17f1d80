"""Measure how fast this machine is at a part of the project.

    python launch/benchmark.py --suite train --out bench.json
    python launch/benchmark.py --suite train --out bench.json \
        --config.model.dtype=bfloat16 --config.train.batch_size=1024
    python launch/benchmark.py --suite input --out bench.json --clips 2000 \
        --config.data.frames=28 --config.data.objects=36

train   optimiser steps as configured, with captions padded, and with one caption a clip; where
        --config.train.steps_per_execution is more than one, also one step at a time.
decode  greedy and beam search.
graph   the banded object graph against a dense one, for more and more frames and objects.
input   writing shards; reading them bare (tf.data, nothing parsed), streamed and cached as training
        does, and as sliced arrays on disk; importing region features; decoding videos and
        extracting the toy world's features from them. Takes about two minutes on two cores.
e2e     a whole run as of launch/train.py on --clips clips with 40 captions each.

The network is that of configs/common.py with MSVD's vocabulary; any of its values can be changed as
--config.GROUP.NAME=VALUE. The data are random, with captions as long as MSVD's. For train, decode
and graph they lie on the device, for e2e in memory or where --config.data.cache says; none of the
four needs TensorFlow. Those of input are written to the temporary folder (TMPDIR). Prints a table
and writes all figures, with the machine and its versions, to OUT. The suite train runs on many
hosts, too, started with --multihost on each.
"""

import importlib

from absl import flags
from ml_collections import config_flags

from configs import common
from stg_jax.benchmark import timing
from stg_jax.benchmark.timing import table
from stg_jax.cli import app, config_flag, heap, multihost
from stg_jax.config import parse_config
from stg_jax.errors import UserError
from stg_jax.files import write_json

flags.adopt_module_key_flags(multihost)
_OF_CLIPS = ('input', 'e2e')  # suites over a set of clips
_SUITE = flags.DEFINE_enum(
    'suite', None, ['train', 'decode', 'graph', *_OF_CLIPS], 'What to measure.'
)
_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file.')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write.')
_CLIPS = flags.DEFINE_integer('clips', 1200, 'Clips of the set (input, e2e).', 1)


def main(args: list[str]) -> None:
    """Run a suite."""
    app.no_arguments(args)
    suite, out = app.required(_SUITE), app.required(_OUT)
    config = parse_config(_CONFIG.value)
    host = multihost.host()
    if multihost.is_asked_for() and suite != 'train':
        raise UserError(f'--multihost measures training steps alone: --suite=train, not {suite}')
    num_clips = (_CLIPS.value,) if suite in _OF_CLIPS else ()
    stages = importlib.import_module(f'stg_jax.benchmark.{suite}').run(config, *num_clips)
    if host:
        return
    made_with = {'config': config.tree(), 'clips': _CLIPS.value}
    write_json(out, {'suite': suite, **timing.describe_machine(), **made_with, 'stages': stages})
    print(table(stages))
    print(f'wrote {out}')


if __name__ == '__main__':
    heap.keep_freed_memory()
    app.run(multihost.joining(main), config_flag.default_config(common.__file__))
