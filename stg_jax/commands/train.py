r"""Train a captioner.

    python launch/train.py --config configs/toy.py --workdir runs/toy
    python launch/train.py --config configs/msvd.py --workdir runs/msvd \
        --config.data.dir=data/msvd --config.optim.lr=3e-4

Any value of configs/common.py can be overridden as --config.GROUP.NAME=VALUE. The same command
resumes a run that was stopped, for whatever reason. The run folder holds config.json,
metrics.jsonl, and in checkpoints/ the latest step and the best one on validation.

On many hosts, start the same command with --multihost on each (docs/pods.md); launch/rehearse.py
rehearses that on one machine. Only host 0 writes to the folder of the run.

Exit codes: 0 finished, 2 a user error (the message says what to do), 75 saved and stopped on
SIGTERM or Ctrl-C: start it again.
"""

from absl import flags

import stg_jax
from stg_jax.cli import app, config_flag, heap, multihost

flags.adopt_module_key_flags(multihost)
_CONFIG = config_flag.define()
_INIT_FROM = flags.DEFINE_string(
    'init_from', None, 'Run, exported model or hf://USER/NAME whose weights to start from.'
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run, new or to be resumed.')

SECTIONS = {'Many hosts': multihost.FLAGS}


def main(args: list[str]) -> int:
    """Train, or resume training."""
    app.no_arguments(args)
    config, workdir = config_flag.required_config(_CONFIG), app.required(_WORKDIR)
    if _INIT_FROM.value is not None:
        config.train.init_from = _INIT_FROM.value
    return 0 if stg_jax.train(config, workdir) else app.RESTART


def run() -> None:
    """Run the command line of this process."""
    heap.keep_freed_memory()
    app.run(multihost.joining(main))
