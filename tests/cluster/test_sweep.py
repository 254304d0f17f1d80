"""A grid of runs: which there are, that it goes on where it stopped, and the job array."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from etils import epath

from configs import common
from stg_jax.cli import program
from stg_jax.cluster import sweep
from stg_jax.cluster.sweep import check_runs, make_runs, parse_settings
from stg_jax.errors import UserError
from tests.fakes import fake_run

CONFIG = common.get_config().to_dict()


def test_every_combination_with_every_seed():
    settings = parse_settings(['model.branches=scene,full', 'optim.lr=1e-3,2e-3'], CONFIG)
    runs = make_runs(epath.Path('out'), settings, num_seeds=2, first_seed=7)
    assert len({run.workdir for run in runs}) == len({run.flags for run in runs}) == 8
    assert runs[1].name == 'model.branches=scene+optim.lr=2e-3/seed-7'
    assert runs[1].flags == (
        '--config.model.branches=scene',
        '--config.optim.lr=2e-3',
        '--config.seed=7',
    )
    # All settings of one seed come first: a sweep that is cut short still compares them.
    assert all(run.name.endswith('seed-7') for run in runs[:4])
    (alone,) = make_runs(epath.Path('out'), {}, 1, 0)
    assert alone.name == 'base/seed-0'


def test_each_seed_takes_the_next_fold(tmp_path):
    for fold in range(2):
        (tmp_path / f'fold-{fold}').mkdir()
    folds = sweep.find_folds(str(tmp_path), 4, 'val', {})
    runs = make_runs(epath.Path('out'), {'optim.lr': ['1', '2']}, 4, 7, folds)
    taken = {run.workdir.name: run.flags[-1] for run in runs}
    assert taken == {
        f'seed-{7 + n}': f'--config.data.dir={tmp_path}/fold-{n % 2}' for n in range(4)
    }


@pytest.mark.parametrize(
    ('number', 'options', 'part'),
    [
        (0, (4, 'val', {}), 'holds no folds'),
        (2, (4, 'test', {}), 'leave out --split'),
        (2, (4, 'val', {'data.dir': ['a']}), 'set data.dir'),
        (2, (3, 'val', {}), 'a multiple of the 2 folds'),
    ],
)
def test_folds_that_do_not_fit_are_refused(tmp_path, number, options, part):
    for fold in range(number):
        (tmp_path / f'fold-{fold}').mkdir()
    with pytest.raises(UserError, match=part):
        sweep.find_folds(str(tmp_path), *options)


def test_folders_hold_values_of_any_kind():
    (run,) = make_runs(epath.Path('out'), {'data.dir': ['../my data/é']}, 1, 0)
    assert run.workdir == epath.Path('out') / 'data.dir=.._my_data__' / 'seed-0'
    with pytest.raises(UserError, match='folder names'):
        make_runs(epath.Path('out'), {'data.dir': ['a/b', 'a b']}, 1, 0)


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
if 'ended' in sys.argv:
    sys.exit(143)
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
    monkeypatch.setattr(
        program, 'command', lambda name: [sys.executable, str(tmp_path / f'{name}.py')]
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'calls'


def runs_of(num_seeds, first_seed=0):
    return make_runs(epath.Path('my runs'), {}, num_seeds, first_seed)


def test_every_run_is_trained_and_evaluated_once(calls):
    said = []
    assert sweep.run_all(runs_of(2), ['--config=c.py'], 'val', said.append)
    evaluated = 'evaluate --workdir=my runs/base/seed-{} --split=val\n'
    assert calls.read_text() == (
        f'train my runs/base/seed-0\n{evaluated.format(0)}'
        f'train my runs/base/seed-1\n{evaluated.format(1)}'
    )
    done = calls.read_text()
    assert sweep.run_all(runs_of(2), ['--config=c.py'], 'val', said.append)
    assert calls.read_text() == done
    assert said[-1] == '[2/2] base/seed-1 is done'
    # Another config, or another split, is other work.
    assert sweep.run_all(runs_of(1), ['--config=c.py'], 'test', said.append)
    assert calls.read_text().endswith('evaluate --workdir=my runs/base/seed-0 --split=test\n')


def test_a_run_that_fails_is_named_and_the_others_go_on(calls):
    with pytest.raises(UserError, match=r'1 of 3 runs failed, see above: base/seed-9;'):
        sweep.run_all(runs_of(3, first_seed=8), [], 'val', str)
    trained = [line for line in calls.read_text().splitlines() if line.startswith('train')]
    assert [line[-1] for line in trained] == ['8', '9', '0']
    assert 'evaluate --workdir=my runs/base/seed-9' not in calls.read_text()


def test_a_signal_lets_the_run_save_and_ends_the_sweep(calls):
    before = signal.getsignal(signal.SIGTERM)
    assert not sweep.run_all(runs_of(2), ['wait'], 'val', str)
    assert calls.read_text() == 'train my runs/base/seed-0\n'
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_sigterm_ended_has_not_failed(calls):
    assert not sweep.run_all(runs_of(2), ['ended'], 'val', str)
    assert calls.read_text() == 'train my runs/base/seed-0\n'


def test_the_flags_of_the_config_reach_the_training(tmp_path):
    flags = ['--config', 'configs/msvd.py', '--config.data.dir=/no/such', f'--out={tmp_path}']
    finished = fake_run.run('sweep', *flags, '--seeds=1')
    assert finished.returncode == 2
    train, sweep = finished.stderr.splitlines()[-2:]
    assert train.startswith('stg train: /no/such')
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
            "--time=1:00 --comment='a b'",
        ),
        cwd=fake_run.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (submitted.returncode, submitted.stdout) == (0, 'Submitted\n'), submitted.stderr
    script = out / 'sweep.sbatch'
    assert log.read_text() == f'sbatch {script}\n'
    assert "#SBATCH --time=1:00 '--comment=a b'\n" in script.read_text()
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


@pytest.mark.parametrize(
    ('setting', 'part'),
    [
        ('optim.lr=1e-4,-1e-4', r'optim.lr=-1e-4/seed-0 cannot start.* be in \[0.0, 1e'),
        ('model.branches=scene,ful', 'model.branches=ful/seed-0 cannot start.* can be full, scene'),
        ('model.heads=8,7', 'model.heads=7/seed-0 .*multiple of heads = 7'),
        ('optim.lr=1e-3,fast', 'optim.lr=fast/seed-0 .*fast'),
        ('kd.kind=kl,l3', 'kd.kind=l3/seed-0 .*can be kl, l2'),
    ],
)
def test_a_value_that_means_nothing_is_refused_before_any_run_starts(tmp_path, setting, part):
    flags = ['--config=configs/toy.py', f'--out={tmp_path}', '--seeds=2', f'--set={setting}']
    finished = fake_run.run('sweep', *flags)
    assert finished.returncode == 2
    assert len(finished.stderr.splitlines()) == 1
    assert re.search(part, finished.stderr)
    assert list(tmp_path.iterdir()) == []


def test_configs_are_read_as_train_reads_them():
    typed = ['--config=configs/toy.py', '--config.model.width=64', '--config.kd.detach_teacher']
    settings = parse_settings(['model.heads=2,4', 'optim.lr=1e-3'], CONFIG)
    check_runs(make_runs(epath.Path('out'), settings, 2, 0), typed)
    with pytest.raises(UserError, match='width is 30'):
        check_runs(runs_of(1), [*typed, '--config.model.width=30'])


def scores_of(cider):
    return {
        'metrics': {'CIDEr': cider},
        'per_clip': {'a': {'CIDEr': cider}},
        'counts': {},
        'versions': {'tokenizer': 'words', 'pycocoevalcap': '1'},
        'num_references': 1,
        'num_clips': 1,
    }


def test_settings_are_not_chosen_on_test(tmp_path):
    flags = ['--config=configs/toy.py', f'--out={tmp_path}', '--seeds=1', '--split=test']
    flags.append('--set=model.branches=scene,full')
    refused = fake_run.run('sweep', *flags)
    assert refused.returncode == 2
    assert '2 of 2 runs have no scores on val (model.branches=scene/seed-0)' in refused.stderr
    ciders = {'scene': {'val': 20.0, 'test': 7.0}, 'full': {'val': 10.0, 'test': 9.0}}
    for branches, by_split in ciders.items():
        run = tmp_path / f'model.branches={branches}' / 'seed-0'
        typed = [flags[0], f'--config.model.branches={branches}', '--config.seed=0']
        for split, cider in by_split.items():
            (run / 'eval' / split).mkdir(parents=True)
            (run / 'eval' / split / 'scores.json').write_text(json.dumps(scores_of(cider)))
        (run / 'config.json').write_text('{}')
        (run / 'sweep.json').write_text(json.dumps({'flags': typed, 'split': 'test'}))
    finished = fake_run.run('sweep', *flags)
    assert finished.returncode == 0, finished.stderr
    head, _, first, second, _, made_with = finished.stdout.splitlines()
    assert head == '| system | seeds | CIDEr on val | CIDEr |'
    # The best on validation comes first, whatever the test says.
    assert first.endswith('scene | 1 | 20.00 | 7.00 (7.0 to 7.0) |')
    assert second.endswith('full | 1 | 10.00 | 9.00 (9.0 to 9.0) |')
    assert made_with.startswith('Made with 1 clips, 1 references, tokens: words')
    assert (tmp_path / 'scores.md').read_text() == finished.stdout
