"""Serve captions over HTTP.

    python launch/serve.py runs/own
    curl --data-binary @my.mp4 http://127.0.0.1:8000/v1/captions/video

Needs the extra `serve`: pip install -e '.[extract,serve]'. Clips of concurrent requests are
captioned together. docs/serve.md describes the answers, the limits and the metrics. By default only
this machine can reach the server.
"""

from absl import flags

import stg_jax
from stg_jax.cli import app
from stg_jax.errors import UserError
from stg_jax.extract.video import MAX_MEGABYTES, MAX_SECONDS

_BRANCH = flags.DEFINE_string(
    'branch',
    None,
    'scene (the student), object (the teacher) or joint; by default the deployed one.',
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (on validation), latest, or a step.')
_HOST = flags.DEFINE_string(
    'host', '127.0.0.1', 'Address to listen at; 0.0.0.0 lets other machines connect.'
)
_PORT = flags.DEFINE_integer('port', 8000, 'Port of the server; 0 for any free one.', 0, 65535)
_BATCH = flags.DEFINE_integer('max_batch', 16, 'Maximum number of clips in a batch.', 1)
_WAITING = flags.DEFINE_integer(
    'max_waiting', 64, 'Maximum number of requests at a time; further ones are answered 503.', 1
)
_SECONDS = flags.DEFINE_float('max_seconds', MAX_SECONDS, 'Length of the longest video.', 1.0)
_MEGABYTES = flags.DEFINE_float('max_megabytes', MAX_MEGABYTES, 'Size of the largest body.', 0.1)


def main(args: list[str]) -> None:
    """Serve until interrupted."""
    if len(args) != 1:
        raise UserError('name one run or exported model (see --help)')
    try:
        from stg_jax.serve.app import Service, serve
    except ModuleNotFoundError as error:
        raise UserError(
            f"the server needs {error.name}: pip install -e '.[extract,serve]'"
        ) from None
    from stg_jax.extract.video.untrusted import Limits

    captioner = stg_jax.load(args[0], branch=_BRANCH.value, checkpoint=_CHECKPOINT.value)
    limits = Limits(_SECONDS.value, _MEGABYTES.value)
    options = {'max_batch': _BATCH.value, 'max_waiting': _WAITING.value}
    serve(Service(captioner, limits, **options), _HOST.value, _PORT.value)


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
