"""Train a captioner.

    python launch/train.py --config configs/toy.py --workdir runs/toy
    python launch/train.py --config configs/msvd.py --workdir runs/msvd \
        --config.data.dir=data/msvd --config.optim.lr=3e-4

Any value of configs/common.py can be overridden as --config.GROUP.NAME=VALUE. The same command
goes on where an earlier one stopped, for whatever reason it did. The folder then holds
config.json, metrics.jsonl, and in checkpoints/ the latest step and the best one on validation.

On many hosts, start the same command with --multihost on each (docs/pods.md); launch/rehearse.py
rehearses that on one machine. Only host 0 writes to the folder of the run.

Exit codes: 0 finished, 2 something to mend (one sentence says what), 75 saved and stopped because
it was asked to (SIGTERM or Ctrl-C): start it again.
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from stg_jax.cli import app, config_flag, heap, multihost
from stg_jax.run.config_checks import check_limits

flags.adopt_module_key_flags(multihost)
_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, such as configs/msvd.py.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run, new or to be continued.')


def main(args: list[str]) -> int:
    """Train, or go on training."""
    app.no_arguments(args)
    config, workdir = config_flag.required_config(_CONFIG), app.required(_WORKDIR)
    check_limits(config)  # before a toy world is rendered to such numbers
    from stg_jax.parallel import processes  # after the flags, so that --help is quick
    from stg_jax.train.loop import train

    processes.in_turn(lambda: _render_toy_world(config.data))
    return 0 if train(config, workdir) else app.RESTART


def _render_toy_world(data: ConfigDict) -> None:
    """Make the embedded data set when a config names it and it is not there yet."""
    if not data.toy_clips or Path(data.dir).exists():
        return
    from stg_jax.prepare.toy import prepare_toy, read_counts

    prepare_toy(
        Path(data.dir),
        num_clips=read_counts(data.toy_clips),
        seed=0,
        num_frames=data.frames,
        num_objects=data.objects,
    )


if __name__ == '__main__':
    heap.keep_freed_memory()
    app.run(multihost.joining(main))
