import json
import re
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from stg_jax.api import train
from stg_jax.cli import program
from stg_jax.cluster.local_pod import Pod, free_port
from stg_jax.data.batches import stream_clips
from stg_jax.data.captions import read_captions
from stg_jax.decode.captioner import Captioner
from stg_jax.decode.split import best_captions, predict, split_batches
from stg_jax.errors import UserError
from stg_jax.parallel import processes
from stg_jax.run.build import build_model, param_shapes
from stg_jax.run.checkpoint import Checkpoints, restore_params
from stg_jax.run.folder import RunFolder
from stg_jax.train import loop
from stg_jax.train.stop import JointStop
from tests.fakes import chaos, fake_data, fake_pod, fake_run

NUM_CLIPS = 7  # to validate and to test on: not divisible by any number of processes
ONE, TWO = (1, 4), (2, 2)  # processes, devices of each
# The softmax of attention does not see it: its gradient is rounding noise, which Adam makes large.
UNSEEN = "['key']['bias']"


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pods')
    sizes = {'train': 13, 'val': NUM_CLIPS, 'test': NUM_CLIPS}
    return fake_data.fake_data_folder(folder, shard_bytes=2000, **sizes)


def tiny_config(data, **overrides):
    overrides |= {'model.dropout': 0.0, 'optim.lr': 1e-4, 'train.checkpoint_steps': 3}
    return fake_run.tiny_config(data, **overrides)


def work(config, workdir):
    """Train and caption as one host of several; return this host's captions and those of all."""
    assert train(config, workdir)
    captioner = Captioner.load(workdir, checkpoint='latest')
    clips = stream_clips(config.data, captioner.run.vocab, 'test')
    own = {}

    def search(batch):
        hypotheses = captioner.search(batch, beam_size=2)
        own.update(best_captions(batch['id'], hypotheses, captioner.run.vocab))
        return hypotheses

    batches = split_batches(clips, captioner.mesh, per_device=1)
    return own, predict(search, batches, captioner.run.vocab)


@pytest.fixture(scope='module')
def runs(data, tmp_path_factory):
    """Return {topology: (run folder, what `work` returned on each host)}."""
    found = {}
    for topology in (ONE, TWO):
        workdir = tmp_path_factory.mktemp('{}x{}'.format(*topology))
        found[topology] = workdir, fake_pod.run(*topology, work, tiny_config(data), workdir)
    return found


def log(workdir, key):
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    return [record[key] for record in map(json.loads, lines) if key in record]


def final_params(workdir):
    run = RunFolder.open(workdir)
    shapes = param_shapes(build_model(run.config, run.manifest, run.vocab), run.config.data)
    return restore_params(run.checkpoints, shapes, 'latest')[0]


def seen(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {name: x for path, x in leaves if UNSEEN not in (name := jax.tree_util.keystr(path))}


@pytest.mark.slow
def test_topologies_end_with_the_same_losses_scores_and_parameters(runs):
    (one, _), (two, _) = runs[ONE], runs[TWO]
    assert len(log(one, 'loss')) == 21
    for key in ('loss', 'val_loss', 'val_cider'):
        np.testing.assert_allclose(log(one, key), log(two, key), atol=1e-5)
    expected = seen(final_params(one))
    for name, value in seen(final_params(two)).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_every_clip_is_captioned_once_and_all_as_by_one_process(data, runs):
    [(_, captions)] = runs[ONE][1]
    (first, all_of_first), (second, all_of_second) = runs[TWO][1]
    assert captions.keys() == read_captions(data, 'test').keys()
    assert first and second and not first.keys() & second.keys()
    assert all_of_first == all_of_second == captions


def interrupted(config, workdir, num_executions):
    """Train as if all hosts were asked to stop after so many executions."""

    class Interruption(JointStop):
        def after_step(self):
            nonlocal num_executions
            num_executions -= 1
            return num_executions == 0

    loop.JointStop = Interruption  # in this process, which trains nothing else
    return train(config, workdir)


@pytest.mark.slow
def test_a_run_goes_on_with_other_hosts_and_devices_and_several_steps_at_once(data, tmp_path, runs):
    config = tiny_config(data, **{'train.steps_per_execution': 3})
    # The third execution, a single step, ends the first epoch, where nobody votes.
    assert fake_pod.run(2, 1, interrupted, config, tmp_path, 3) == [False, False]
    assert len(log(tmp_path, 'loss')) == 10  # within the second epoch of seven steps
    assert fake_pod.run(1, 2, train, config, tmp_path) == [True]
    np.testing.assert_allclose(log(tmp_path, 'loss'), log(runs[ONE][0], 'loss'), atol=1e-5)


def train_with_a_slow_disk(config, workdir):
    """Return whether the last checkpoint was complete when training ended on this host."""

    class SlowCheckpoints(Checkpoints):
        def wait(self):
            super().wait()
            time.sleep(2)
            (workdir / 'complete').touch()

        def __exit__(self, *error):
            self.wait()
            super().__exit__(*error)

    loop.Checkpoints = SlowCheckpoints  # in this process, which trains nothing else
    train(config, workdir)
    return (workdir / 'complete').exists()


@pytest.mark.slow
def test_no_host_goes_on_before_the_last_checkpoint_is_complete(data, tmp_path):
    config = tiny_config(data, **{'train.epochs': 1})
    assert fake_pod.run(2, 1, train_with_a_slow_disk, config, tmp_path) == [True, True]


def rehearse(*args, flags=(), timeout=1500):
    """Run launch/rehearse.py with launch/train.py; return it with its output."""
    command = [sys.executable, 'launch/rehearse.py', *args, '--', 'launch/train.py', *flags]
    return subprocess.run(
        list(map(str, command)),
        cwd=fake_run.ROOT,
        env=fake_run.environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.slow
def test_three_kills_change_no_bit(data, tmp_path, runs, monkeypatch):
    monkeypatch.chdir(fake_run.ROOT)
    workdir = tmp_path / 'run'
    flags = [*fake_run.as_flags(tiny_config(data)), f'--workdir={workdir}']
    pod = Pod([str(fake_run.ROOT / 'launch/train.py'), *flags], 2, 2)
    assert chaos.run_with_kills(pod, 2, kills=3) == (0, 3)
    jax.tree.map(np.testing.assert_array_equal, final_params(workdir), final_params(runs[TWO][0]))
    assert log(workdir, 'loss') == log(runs[TWO][0], 'loss')


def test_a_dry_run_prints_what_it_would_start():
    finished = rehearse('--processes=2', '--devices=3', '--dry-run', flags=['--workdir=a b'])
    lines = finished.stdout.splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines):
        assert 'JAX_NUM_CPU_DEVICES=3' in line
        assert "'--workdir=a b' --multihost --coordinator=127.0.0.1:" in line
        assert line.endswith(f'--num_processes=2 --process_id={number}')


def differing_host(data, other, workdir):
    folder = other if processes.host() == 1 else data
    return train(tiny_config(folder, seed=processes.host()), workdir)


@pytest.mark.slow
def test_hosts_that_differ_are_named_before_anything_is_written(data, tmp_path):
    other = fake_data.fake_data_folder(tmp_path, train=13, seed=1)
    for error in fake_pod.run(2, 1, differing_host, data, other, tmp_path / 'run'):
        assert isinstance(error, UserError)
        for part in ('host 1', 'config.seed is 1, on host 0 0', 'vocabulary', 'manifest.json'):
            assert part in str(error)
    assert not (tmp_path / 'run').exists()


def make_once(folder):
    made = []

    def make():
        if not (folder / 'x').exists():
            made.append((folder / 'x').mkdir())

    processes.one_host_at_a_time(make)
    return len(made)


@pytest.mark.slow
def test_of_hosts_that_share_a_folder_the_first_makes_it(tmp_path):
    assert fake_pod.run(2, 1, make_once, tmp_path) == [1, 0]


def host_without_data(data, workdir):
    return train(tiny_config(data / str(processes.host())), workdir)


@pytest.mark.slow
def test_a_mistake_on_one_host_is_told_by_all(data, tmp_path):
    (tmp_path / '0').symlink_to(data)
    errors = fake_pod.run(2, 1, host_without_data, tmp_path, tmp_path / 'run')
    for error in errors:
        assert re.fullmatch(r'host 1: .*/1 does not exist: .*', str(error))


ENDED_BY_A_SIGNAL = """
import sys, time
from stg_jax.cli import app, multihost
from stg_jax.parallel import processes

def main(args):
    time.sleep(100 * processes.host())
    sys.exit(143)  # as `signals.exit_on_sigterm` does

app.run(multihost.joining(main))
"""


@pytest.mark.slow
def test_a_host_that_a_signal_ends_does_not_wait_for_the_others():
    world = ['--multihost', f'--coordinator=127.0.0.1:{free_port()}', '--num_processes=2']
    first, second = (
        subprocess.Popen(
            [sys.executable, '-c', ENDED_BY_A_SIGNAL, *world, f'--process_id={number}'],
            cwd=fake_run.ROOT,
            env=fake_run.environment(),
            stderr=subprocess.DEVNULL,
        )
        for number in (0, 1)
    )
    try:
        assert first.wait(timeout=80) == 143
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def test_a_pod_runs_a_script_or_a_command_of_the_package():
    for typed in (['train', '--x'], ['stg', 'train', '--x']):
        (command,) = Pod(typed, 1, 1).commands(9)
        assert command[:5] == [*program.command('train'), '--x']
    (command,) = Pod(['my.py', '--x'], 1, 1).commands(9)
    assert command[:4] == [sys.executable, 'my.py', '--x', '--multihost']
