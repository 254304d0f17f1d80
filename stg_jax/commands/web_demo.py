"""Serve a web page on which people caption their own videos.

    python launch/web_demo.py --workdir runs/toy
    python launch/web_demo.py --workdir runs/own --samples clips/ --host 0.0.0.0 --port 8080

Needs the extra `demo`: pip install -e '.[extract,demo]'. The page shows the caption and the report
of `launch/caption.py`. By default the samples are the videos of the run's own data, if there are
any, and only this machine can reach the page. docs/caption.md describes how uploads are handled.
"""

from pathlib import Path

from absl import flags

import stg_jax
from stg_jax.cli import app
from stg_jax.extract.video import MAX_MEGABYTES, MAX_SECONDS

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder that train.py wrote.')
_BRANCH = flags.DEFINE_string(
    'branch',
    None,
    'scene (the student), object (the teacher) or joint; by default the deployed one.',
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (on validation), latest, or a step.')
_SAMPLES = flags.DEFINE_string('samples', None, 'Folder of videos to pick from.')
_HOST = flags.DEFINE_string(
    'host', '127.0.0.1', 'Address to listen at; 0.0.0.0 lets other machines connect.'
)
_PORT = flags.DEFINE_integer('port', 7860, 'Port of the server.', 1, 65535)
_SECONDS = flags.DEFINE_float('max_seconds', MAX_SECONDS, 'Length of the longest video.', 1.0)
_MEGABYTES = flags.DEFINE_float('max_megabytes', MAX_MEGABYTES, 'Size of the largest file.', 0.1)

_MOST_SAMPLES = 6


def main(args: list[str]) -> None:
    """Serve until interrupted."""
    app.no_arguments(args)
    workdir = app.required(_WORKDIR)
    from stg_jax.captioning.web_demo import build_demo, caption_fn, launch_demo
    from stg_jax.extract.video.files import list_videos
    from stg_jax.extract.video.untrusted import Limits

    captioner = stg_jax.load(workdir, branch=_BRANCH.value, checkpoint=_CHECKPOINT.value)
    own = Path(captioner.run.config.data.dir, 'videos')
    folder = _SAMPLES.value or (str(own) if own.is_dir() else None)
    samples = list_videos([folder])[:_MOST_SAMPLES] if folder else []
    limits = Limits(_SECONDS.value, _MEGABYTES.value)
    demo = build_demo(caption_fn(captioner, limits), samples, limits)
    launch_demo(demo, host=_HOST.value, port=_PORT.value, samples=samples, limits=limits)


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
