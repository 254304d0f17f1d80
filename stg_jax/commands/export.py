"""Export a trained run as a folder to hand on: safetensors, config, vocabulary and a model card.

    python launch/export.py runs/msvd models/msvd --license apache-2.0

`stg_jax.load` opens the folder like a run, on any machine; safetensors is read by any framework.
Paths of this machine and ids of clips are left out, and model files of the extractor are copied.
The card reports the data, the scores that launch/evaluate.py has written, with their intervals, and
the limits: read and complete it before you hand the model on.
"""

from pathlib import Path

from absl import flags

from stg_jax.cli import app
from stg_jax.errors import UserError
from stg_jax.files import refuse_existing

_LICENSE = flags.DEFINE_string(
    'license', None, 'Identifier of the licence of the weights, such as apache-2.0.'
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (on validation), latest, or a step.')
_AVERAGE = flags.DEFINE_integer(
    'average', 1, 'Number of checkpoints, the best on validation, whose parameters are averaged.', 1
)


def main(args: list[str]) -> None:
    """Export the run of the command line."""
    if len(args) != 2:
        raise UserError('name a run and the folder to write: RUN OUT (see --help)')
    workdir, out = args[0], Path(args[1])
    refuse_existing(out)  # before parameters are read
    import stg_jax
    from stg_jax.share.model_folder import export_model

    captioner = stg_jax.load(workdir, checkpoint=_CHECKPOINT.value, average=_AVERAGE.value)
    export_model(captioner, out, license=_LICENSE.value, average=_AVERAGE.value)
    print(f'wrote {out}: {captioner.why}; read and complete {out / "README.md"}')


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
