"""How commands read their flags and how they end."""

import errno
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from stg_jax.cli import app, config_flag
from stg_jax.errors import UserError
from tests.fakes import fake_run


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that runs a command line and returns its exit code, output and values."""
    values = flags.FlagValues()
    flags.DEFINE_string('work_dir', None, '', flag_values=values)
    flags.DEFINE_float('penalty', 0.6, '', 0.0, flag_values=values)
    config_flags.DEFINE_config_file('config', flag_values=values)
    monkeypatch.setattr(flags, 'FLAGS', values)

    def run(*args, main=lambda rest: None):
        monkeypatch.setattr(sys, 'argv', ['command.py', *args])
        with pytest.raises(SystemExit) as ended:
            app.run(main)
        return ended.value.code, capsys.readouterr().err, values

    return run


def test_positional_arguments_and_flags_reach_the_command(command):
    found = []
    code, _, values = command('a-b', '--work_dir=c-d=e', '--', '--x', main=found.extend)
    assert (code, found, values.work_dir) == (0, ['a-b', '--x'], 'c-d=e')


@pytest.mark.parametrize('name', ['penalty', 'config.optim.lr'])
@pytest.mark.parametrize('value', ['nan', 'inf'])
def test_a_number_is_a_number(command, name, value):
    code, printed, _ = command('--config=configs/toy.py', f'--{name}={value}')
    assert (code, printed) == (2, f'command.py: --{name} is {value}: it must be a number\n')


@pytest.mark.parametrize(
    ('typed', 'meant'),
    [
        ('work-dir=x', 'no flag --work-dir: did you mean --work_dir? see --help'),
        ('config.optim.rl=1', 'no key optim.rl: did you mean --config.optim.lr?'),
        ('config.lr=1', 'no key lr: did you mean --config.optim.lr?'),
        ('config.modl.width=1', 'no key modl.width: did you mean --config.model.width?'),
        ('config.trian=1', 'no key trian: did you mean --config.train?'),
        ('config.zzz=1', 'no key zzz: configs/common.py lists all keys'),
    ],
)
def test_a_mistyped_flag_or_key_is_answered_with_the_one_that_may_be_meant(command, typed, meant):
    code, printed, _ = command('--config=configs/toy.py', f'--{typed}')
    assert code == 2 and meant in printed and printed.count('\n') == 1


def test_a_value_of_another_type_is_refused_with_its_key(command):
    code, printed, _ = command('--config=configs/toy.py', '--config.optim.lr=fast')
    assert code == 2 and 'config.optim.lr' in printed and printed.count('\n') == 1


def test_a_key_is_found_where_the_value_is_an_argument_of_its_own(command):
    code, printed, _ = command('--config', 'configs/toy.py', '--config.optim.rl', '1')
    assert code == 2 and '--config.optim.lr?' in printed


def test_typed_flags_are_those_of_the_config():
    argv = ['--out=x', '--config', 'c.py', '--configs=1', '--config.a=1', 'config.b', '--config.b']
    found = config_flag.typed_flags([*argv, '2', '--seeds', '3'])
    assert found == ['--config', 'c.py', '--config.a=1', '--config.b', '2']


@pytest.mark.parametrize('name', ['prepare', 'rehearse'])
@pytest.mark.parametrize('flag', ['--dry-run', '--dry_run'])
def test_a_dry_run_has_both_spellings(name, flag, tmp_path):
    rest = ['toy', f'--out={tmp_path / "x"}'] if name == 'prepare' else ['--', 'command']
    assert fake_run.run(name, flag, *rest).returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('error', 'sentence'),
    [
        (OSError(errno.ENOSPC, 'No space left on device', 'a/b'), 'a/b: No space left on device'),
        (OSError(errno.EROFS, 'Read-only file system', 'a/b'), 'a/b: Read-only file system: name'),
        (OSError(errno.ENAMETOOLONG, 'File name too long', 'x'), 'x: File name too long: use a sh'),
        (ValueError('tensorstore: No space left on device [a/b]'), 'make room'),
        (MemoryError(), 'memory ran out: use smaller batches'),
    ],
)
def test_errors_of_the_system_are_one_sentence(command, error, sentence):
    def main(args):
        raise error

    code, printed, _ = command(main=main)
    assert code == 2 and sentence in printed and printed.count('\n') == 1


def test_an_array_that_is_too_large_is_one_sentence(command):
    code, printed, _ = command(main=lambda args: np.ones(2**50))
    assert code == 2 and 'memory ran out (Unable to allocate' in printed


@pytest.mark.parametrize('error', [ValueError('a bug'), KeyError('a bug'), BrokenPipeError()])
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    def main(args):
        raise error

    monkeypatch.setattr(sys, 'argv', ['command.py'])
    with pytest.raises(type(error)):
        app.run(main)


@pytest.mark.parametrize(
    ('error', 'code'), [(UserError('what, where'), 2), (KeyboardInterrupt(), 130)]
)
def test_user_errors_and_interruptions_have_their_exit_codes(command, error, code):
    def main(args):
        raise error

    assert command(main=main)[0] == code


def test_help_for_a_reader_that_stops_reading_ends_quietly():
    process = subprocess.Popen(
        [sys.executable, 'launch/prepare.py', '--help'],
        cwd=fake_run.ROOT,
        env=fake_run.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()  # before it has printed anything, as `| head` may do after a line
    assert process.stderr.read() == ''
    assert process.wait() == 141


def test_a_file_name_that_is_not_utf_8_is_printed_with_its_bytes_escaped():
    code = 'from stg_jax.cli import app; app.run(lambda args: print("\\udcff.mp4"))'
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=fake_run.ROOT,
        env=fake_run.environment() | {'PYTHONUTF8': '1', 'PYTHONIOENCODING': 'utf-8:strict'},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, '\\udcff.mp4\n'), done.stderr
