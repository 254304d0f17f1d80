"""A grid of runs: which there are, that it goes on where it stopped, and the job array."""

import os
import signal
import subprocess
import sys
import time

import pytest
from etils import epath

from configs import common
from stg_jax.errors import UserError
from stg_jax.sweep import local
from stg_jax.sweep.grid import make_jobs, parse_settings
from tests import fake_run

CONFIG = common.get_config().to_dict()


def test_every_combination_with_every_seed():
    settings = parse_settings(['model.branches=scene,full', 'optim.lr=1e-3,2e-3'], CONFIG)
    jobs = make_jobs(epath.Path('out'), settings, num_seeds=2, first_seed=7)
    assert len({job.workdir for job in jobs}) == len({job.flags for job in jobs}) == 8
    assert jobs[1].name == 'model.branches=scene+optim.lr=2e-3/seed-7'
    assert jobs[1].flags == (
        '--config.model.branches=scene',
        '--config.optim.lr=2e-3',
        '--config.seed=7',
    )
    # All settings of one seed come first: a sweep that is cut short still compares them.
    assert all(job.name.endswith('seed-7') for job in jobs[:4])
    (alone,) = make_jobs(epath.Path('out'), {}, 1, 0)
    assert alone.name == 'base/seed-0'


def test_folders_hold_values_of_any_kind():
    (job,) = make_jobs(epath.Path('out'), {'data.dir': ['../my data/é']}, 1, 0)
    assert job.workdir == epath.Path('out') / 'data.dir=.._my_data__' / 'seed-0'
    with pytest.raises(UserError, match='folder names'):
        make_jobs(epath.Path('out'), {'data.dir': ['a/b', 'a b']}, 1, 0)


@pytest.mark.parametrize(
    ('settings', 'part'),
    [
        (['optim.rl=1'], 'optim.rl'),
        (['optim=1'], "'optim'"),
        (['seed=1,2'], 'seed'),
        (['optim.lr='], 'different values'),
        (['optim.lr=1,1'], 'different values'),
        (['optim.lr=1', 'optim.lr=2'], 'twice'),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, part):
    with pytest.raises(UserError, match=part):
        parse_settings(settings, CONFIG)


TRAIN = """
import os, signal, sys, time
workdir = next(arg.removeprefix('--workdir=') for arg in sys.argv if arg.startswith('--workdir='))
os.makedirs(workdir, exist_ok=True)
with open('calls', 'a') as calls:
    print('train', workdir, file=calls)
if '--config.seed=9' in sys.argv:
    sys.exit(2)
if 'wait' in sys.argv:
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(75))
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
"""
EVALUATE = """
import sys
with open('calls', 'a') as calls:
    print('evaluate', *sys.argv[1:], file=calls)
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Put small programs in the place of train.py and evaluate.py; return what they write to."""
    (tmp_path / 'train.py').write_text(TRAIN)
    (tmp_path / 'evaluate.py').write_text(EVALUATE)
    monkeypatch.setattr(local, '_LAUNCH', tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'calls'


def jobs_of(num_seeds, first_seed=0):
    return make_jobs(epath.Path('my runs'), {}, num_seeds, first_seed)


def test_every_run_is_trained_and_evaluated_once(calls):
    said = []
    assert local.run_jobs(jobs_of(2), ['--config=c.py'], 'val', said.append)
    evaluated = 'evaluate --workdir=my runs/base/seed-{} --split=val\n'
    assert calls.read_text() == (
        f'train my runs/base/seed-0\n{evaluated.format(0)}'
        f'train my runs/base/seed-1\n{evaluated.format(1)}'
    )
    done = calls.read_text()
    assert local.run_jobs(jobs_of(2), ['--config=c.py'], 'val', said.append)
    assert calls.read_text() == done
    assert said[-1] == '[2/2] base/seed-1 is done'
    # Another config, or another split, is other work.
    assert local.run_jobs(jobs_of(1), ['--config=c.py'], 'test', said.append)
    assert calls.read_text().endswith('evaluate --workdir=my runs/base/seed-0 --split=test\n')


def test_a_run_that_fails_is_named_and_the_others_go_on(calls):
    with pytest.raises(UserError, match=r'1 of 3 runs failed, see above: base/seed-9;'):
        local.run_jobs(jobs_of(3, first_seed=8), [], 'val', str)
    trained = [line for line in calls.read_text().splitlines() if line.startswith('train')]
    assert [line[-1] for line in trained] == ['8', '9', '0']
    assert 'evaluate --workdir=my runs/base/seed-9' not in calls.read_text()


def test_a_signal_lets_the_run_save_and_ends_the_sweep(calls):
    before = signal.getsignal(signal.SIGTERM)
    assert not local.run_jobs(jobs_of(2), ['wait'], 'val', str)
    assert calls.read_text() == 'train my runs/base/seed-0\n'
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_flags_of_the_config_reach_the_training(tmp_path):
    flags = ['--config', 'configs/msvd.py', '--config.data.dir=/no/such', f'--out={tmp_path}']
    finished = fake_run.run('sweep', *flags, '--seeds=1')
    assert finished.returncode == 2
    train, sweep = finished.stderr.splitlines()[-2:]
    assert train.startswith('train.py: /no/such')
    assert sweep.startswith('sweep.py: 1 of 1 runs failed')


def test_a_job_array_runs_every_job_and_asks_to_be_queued_again(tmp_path):
    """Stand in for sbatch with a script that runs one task, and for Python with one that stops."""
    programs = tmp_path / 'bin'
    programs.mkdir()
    log = tmp_path / 'calls'
    for name in ('sbatch', 'scontrol'):
        program = programs / name
        program.write_text(f'#!/bin/sh\necho "{name} $@" >> {log}\necho Submitted\n')
        program.chmod(0o755)
    out = tmp_path / 'out'
    environment = fake_run.environment() | {'PATH': f'{programs}:{os.environ["PATH"]}'}
    submitted = subprocess.run(
        fake_run.command(
            'sweep',
            '--config=configs/toy.py',
            f'--out={out}',
            '--seeds=3',
            '--slurm',
            '--time=1:00',
        ),
        cwd=fake_run.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (submitted.returncode, submitted.stdout) == (0, 'Submitted\n'), submitted.stderr
    script = out / 'sweep.sbatch'
    assert log.read_text() == f'sbatch --time=1:00 {script}\n'
    assert '#SBATCH --array=0-2\n' in script.read_text()
    assert '--slurm' not in script.read_text()
    stopping = script.read_text().replace(sys.executable, 'python_that_stops')
    (programs / 'python_that_stops').write_text(
        '#!/bin/sh\ntrap "exit 75" TERM\necho started\nwhile :; do sleep 0.1; done\n'
    )
    (programs / 'python_that_stops').chmod(0o755)
    task = subprocess.Popen(
        ['bash', '-c', stopping],
        env=environment | {'SLURM_ARRAY_JOB_ID': '12', 'SLURM_ARRAY_TASK_ID': '1'},
        stdout=subprocess.PIPE,
    )
    assert task.stdout.readline() == b'started\n'
    time.sleep(0.2)  # for the trap of bash, which is set after its child has begun
    task.terminate()
    assert task.wait(20) == 75
    assert log.read_text().splitlines()[1] == 'scontrol requeue 12_1'
