"""Export a trained run as a folder to share: safetensors, config, vocabulary and a model card.

    python launch/export.py runs/msvd models/msvd --license apache-2.0
    python launch/export.py runs/msvd models/msvd --programs stablehlo,onnx --batch_size 8

`stg_jax.load` opens the folder like a run, on any machine; safetensors is read by any framework.
Paths of this machine and ids of clips are left out, and model files of the extractor are copied.
The card reports the data, the scores that launch/evaluate.py has written, with their intervals, and
the limits: read and complete it before you share the model.

--programs also writes encoding and beam search as one program, for a fixed number of clips, with
the weights inside: StableHLO for JAX on any device, ONNX for ONNX Runtime (extra `export`). Each is
tested before it is written: it must give the captions of the run.
"""

from pathlib import Path

from absl import flags

from stg_jax.cli import app
from stg_jax.errors import UserError
from stg_jax.files import refuse_existing

_LICENSE = flags.DEFINE_string(
    'license', None, 'Identifier of the license of the weights, such as apache-2.0.'
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (on validation), latest, or a step.')
_AVERAGE = flags.DEFINE_integer(
    'average', 1, 'Number of checkpoints, the best on validation, whose parameters are averaged.', 1
)
_PROGRAMS = flags.DEFINE_list('programs', [], 'Formats to write: stablehlo, onnx or both.')
_BRANCH = flags.DEFINE_string(
    'branch',
    None,
    'scene (the student), object (the teacher) or joint; by default the deployed one.',
)
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 1, 'Clips that a program captions at once.', 1)
_BEAM = flags.DEFINE_integer('beam_size', None, "1 is greedy; by default the run's.", 1)

_OF_PROGRAMS = (_BRANCH, _BATCH_SIZE, _BEAM)
SECTIONS = {'Programs': (_PROGRAMS, *_OF_PROGRAMS)}


def main(args: list[str]) -> None:
    """Export the run of the command line."""
    if len(args) != 2:
        raise UserError('name a run and the folder to write: RUN OUT (see --help)')
    workdir, out = args[0], Path(args[1])
    for flag in _OF_PROGRAMS:
        if flag.present and not _PROGRAMS.value:
            raise UserError(f'--{flag.name} is for programs: pass --programs stablehlo,onnx, too')
    refuse_existing(out)  # before parameters are read
    import stg_jax
    from stg_jax.share.model_folder import export_model

    captioner = stg_jax.load(
        workdir, branch=_BRANCH.value, checkpoint=_CHECKPOINT.value, average=_AVERAGE.value
    )
    options = {
        'forms': _PROGRAMS.value,
        'batch_size': _BATCH_SIZE.value,
        'beam_size': _BEAM.value,
    }
    export_model(
        captioner,
        out,
        license=_LICENSE.value,
        average=_AVERAGE.value,
        programs=options if _PROGRAMS.value else None,
    )
    print(f'wrote {out}: {captioner.why}; read and complete {out / "README.md"}')


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
