r"""Render the toy world, train a captioner on it, score it and caption a video.

    stg demo
    stg demo --workdir runs/small --config.data.dir=data/small \
        --config.data.toy_clips=train=400,val=20,test=20 --config.train.epochs=1

Prints each command before it runs, so that it can be repeated and changed. The config is `toy`;
override any of its values. The same command resumes a demo that was stopped.

Exit codes: 0 finished, 2 a user error, 75 saved and stopped: start it again.
"""

import shlex
import sys
from pathlib import Path

from absl import flags

from stg_jax.cli import app, child, config_flag, program, signals

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string('workdir', 'runs/toy', 'Folder of the run, new or to be resumed.')


def run() -> None:
    """Run the command line of this process."""
    app.run(main, config_flag.default_config('toy'))


def main(args: list[str]) -> int:
    """Run the commands one after another, until one fails."""
    app.no_arguments(args)
    config, workdir = config_flag.required_config(_CONFIG), _WORKDIR.value
    overrides = [*config_flag.default_config('toy'), *config_flag.typed_flags(sys.argv[1:])]
    process = child.Child()
    with signals.on_stop(process.stop):
        steps = (
            lambda: ['train', *overrides, f'--workdir={workdir}'],
            lambda: ['evaluate', f'--workdir={workdir}', '--branch=scene,object', '--show=5'],
            # Rendered by the training, so its name is only known now.
            lambda: ['caption', f'--workdir={workdir}', _test_video(config.data.dir), _report()],
        )
        for step in steps:
            command = step()
            print(f'$ {shlex.join([program.NAME, *command])}', flush=True)
            code = process.run(command)
            if code or process.asked:
                return code or app.INTERRUPTED
    print(
        f'To open: {workdir}/report.html (what each word of a caption came from),\n'
        f'         {workdir}/eval/test/index.html (every caption and its scores), '
        f'{config.data.dir}/videos/test/\n'
        f'To try:  {program.NAME} caption --workdir={workdir} VIDEO'
    )
    return 0


def _test_video(data_dir: str) -> str:
    return str(min(Path(data_dir, 'videos', 'test').iterdir()))


def _report() -> str:
    return f'--report={_WORKDIR.value}/report.html'
