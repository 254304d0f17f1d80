"""Upload a run to the Hugging Face Hub, where stg_jax.load('hf://USER/NAME') finds it.

    python launch/push.py runs/msvd user/msvd-captions --license apache-2.0 --private
    python launch/push.py models/msvd user/msvd-captions

A run is exported first (launch/export.py); an exported folder is uploaded as it is, with your
changes to the model card. Log in first, with `hf auth login`. Model files of the extractor are not
uploaded: other people's licenses apply. Needs the extra `hub`: pip install -e '.[hub]'.
"""

import tempfile
from pathlib import Path

from absl import flags

from stg_jax.cli import app
from stg_jax.errors import UserError

_LICENSE = flags.DEFINE_string(
    'license', None, 'Identifier of the license of the weights, such as apache-2.0.'
)
_PRIVATE = flags.DEFINE_bool('private', False, 'If the model is new on the hub, make it private.')


def main(args: list[str]) -> None:
    """Upload the run of the command line."""
    if len(args) != 2:
        raise UserError('name a run or an exported model, and its place: RUN USER/NAME')
    source, name = args
    from stg_jax.run.hub import import_hub
    from stg_jax.run.weights import NAME
    from stg_jax.share.push import push

    import_hub()  # reports that it is missing before parameters are read
    if (Path(source) / NAME).exists():
        if _LICENSE.value:
            raise UserError(f'--license is written at export: edit {source}/README.md instead')
        print(f'uploaded to {push(Path(source), name, private=_PRIVATE.value)}')
        return
    import stg_jax
    from stg_jax.share.model_folder import export_model

    with tempfile.TemporaryDirectory() as folder:
        out = export_model(
            stg_jax.load(source), Path(folder) / name.rpartition('/')[2], license=_LICENSE.value
        )
        print(f'uploaded to {push(out, name, private=_PRIVATE.value)}')


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
