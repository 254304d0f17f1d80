r"""Measure the speed of a part of the project on this machine.

    python launch/benchmark.py --suite train --out bench.json
    python launch/benchmark.py --suite train --out bench.json \
        --config.model.dtype=bfloat16 --config.train.batch_size=1024
    python launch/benchmark.py --suite input --out bench.json --clips 2000 \
        --config.data.frames=28 --config.data.objects=36

Suites:
train   optimizer steps as configured, with captions padded, and with one caption per clip; if
        --config.train.steps_per_execution is more than one, also with one step per execution.
decode  greedy decoding and beam search.
graph   the banded object graph and a dense one, for growing numbers of frames and objects.
input   writing shards; reading them bare (tf.data without parsing), streamed and cached as in
        training, and as sliced arrays on disk; importing region features; decoding videos and
        extracting the features of the toy world from them. Takes about two minutes on two cores.
e2e     a whole training run on --clips clips with 40 captions each.

The network is that of configs/common.py with the vocabulary size of MSVD; change any value with
--config.GROUP.NAME=VALUE. The data are random, with the caption lengths of MSVD. For train, decode
and graph they are on the device, for e2e in memory or as set by --config.data.cache; these four do
not need TensorFlow. The files of input are written to the temporary folder (TMPDIR). Prints a table
and writes all figures, with the machine and library versions, to OUT. The suite train also runs on
many hosts: start it with --multihost on each.
"""

import importlib

from absl import flags

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
_CONFIG = config_flag.define()
_OUT = flags.DEFINE_string('out', None, 'JSON file to write.')
_CLIPS = flags.DEFINE_integer('clips', 1200, 'Number of clips (input, e2e).', 1)

SECTIONS = {'Many hosts': multihost.FLAGS}


def main(args: list[str]) -> None:
    """Run a suite."""
    app.no_arguments(args)
    suite, out = app.required(_SUITE), app.required(_OUT)
    config = parse_config(_CONFIG.value)
    host = multihost.host()
    if multihost.is_asked_for() and suite != 'train':
        raise UserError(f'--multihost measures only training steps: --suite=train, not {suite}')
    num_clips = (_CLIPS.value,) if suite in _OF_CLIPS else ()
    stages = importlib.import_module(f'stg_jax.benchmark.{suite}').run(config, *num_clips)
    if host:
        return
    made_with = {'config': config.tree(), 'clips': _CLIPS.value}
    write_json(out, {'suite': suite, **timing.describe_machine(), **made_with, 'stages': stages})
    print(table(stages))
    print(f'wrote {out}')


def run() -> None:
    """Run the command line of this process."""
    heap.keep_freed_memory()
    app.run(multihost.joining(main), config_flag.default_config('common'))
