"""A config so small that a whole run takes seconds, and the commands as a user types them."""

import dataclasses
import functools
import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

from configs import common
from stg_jax.config import flat
from tests.fakes import fake_data

ROOT = Path(__file__).parents[2]
SLOW_TO_IMPORT = ['stg_jax.train.loop', 'stg_jax.evaluate.evaluate', 'stg_jax.data.records']

SMALL = {
    # So few and so short that batches hold about equally many words: few programs to compile.
    'data.captions_per_clip': 2,
    'data.max_words': 3,
    'model.width': 16,
    'model.heads': 2,
    'model.feedforward': 32,
    'model.encoder_layers': 1,
    'model.decoder_layers': 1,
    'model.graph_layers': 1,
    'optim.lr': 1e-2,
    'optim.warmup': 0.0,  # else a run of another length would be another program to compile
    'train.batch_size': 8,
    'train.epochs': 3,
    'train.patience': 0,
    'train.log_steps': 1,
    'decode.batch_size': 4,
}


def tiny_config(data_dir, **overrides):
    """Return a config for a folder of `fake_data_folder`; dots of a key are written `__`."""
    config = common.get_config()
    config.data.update(fake_data.fake_data_config(data_dir))
    config.update_from_flattened_dict(SMALL)
    config.update_from_flattened_dict(
        {key.replace('__', '.'): value for key, value in overrides.items()}
    )
    return config


def as_flags(config):
    """Return the command line flags that turn configs/common.py into `config`."""
    default = flat(common.get_config().to_dict())
    return ['--config=configs/common.py'] + [
        f'--config.{key}={value}'
        for key, value in flat(config.to_dict()).items()
        if value != default[key]
    ]


def command(name, *args):
    """Return the argument list of launch/NAME.py."""
    return [sys.executable, f'launch/{name}.py', *map(str, args)]


def environment():
    """Return the environment of a command run from the checkout."""
    return os.environ | {'PYTHONPATH': str(ROOT), 'TF_CPP_MIN_LOG_LEVEL': '3'}


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a command left: its exit code and its output as text."""

    returncode: int
    stdout: str
    stderr: str


def run(name, *args, timeout=240):
    """Run a command of launch/ to its end.

    It is forked from a process that has imported the large libraries once for all commands.
    """
    return _run(_run_script, name, args, timeout)


@dataclasses.dataclass
class Running:
    """A command of launch/ that was started.

    Attributes:
      stderr: file of what it says so far.
    """

    process: Any
    folder: tempfile.TemporaryDirectory
    stderr: Path

    def is_alive(self):
        return self.process.is_alive()

    def send(self, number):
        """Send a signal, unless the command has ended."""
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def wait(self, timeout):
        """Return the exit code and the standard error."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f'still running after {timeout} seconds: {self.stderr.read_text()}')
        said = self.stderr.read_text() if self.stderr.exists() else ''
        self.folder.cleanup()
        return self.process.exitcode, said


def start(name, *args):
    """Start a command of launch/, forked as by `run`."""
    folder = tempfile.TemporaryDirectory()
    outputs = [Path(folder.name, 'stdout'), Path(folder.name, 'stderr')]
    process = forks().Process(target=_run_script, args=(name, list(map(str, args)), outputs))
    process.start()
    return Running(process, folder, outputs[1])


def parse(name, *args):
    """Let a command of launch/ read its command line, and do nothing more."""
    return _run(_parse_script, name, args, timeout=60)


def _run(target, name, args, timeout):
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, 'stdout'), Path(folder, 'stderr')]
        process = forks().Process(target=target, args=(name, list(map(str, args)), outputs))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f'{name} {args} ran for more than {timeout} seconds')
        return Finished(process.exitcode, *(path.read_text() for path in outputs))


@functools.cache
def forks():
    os.environ |= environment()  # the process that forks inherits it
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(SLOW_TO_IMPORT)
    return context


def _run_script(name, args, outputs):
    """Do in this process what `python launch/NAME.py ARGS`, or `stg ARGS`, does in a new one."""
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(ROOT)
    script = 'stg_jax/__main__.py' if name == 'stg' else f'launch/{name}.py'
    sys.argv = [script, *args]
    runpy.run_path(script, run_name='__main__')


def _parse_script(name, args, outputs):
    from stg_jax.cli import app

    run = app.run

    def parse_only(main, *rest):
        run(functools.wraps(main)(lambda args: None), *rest)

    app.run = parse_only  # in this process, which ends
    _run_script(name, args, outputs)
