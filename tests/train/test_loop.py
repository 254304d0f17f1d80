import dataclasses
import shutil
import signal
import subprocess

import jax
import numpy as np
import pytest

from stg_jax.api import train
from stg_jax.data.records import write_data_folder
from stg_jax.decode.captioner import Captioner
from stg_jax.errors import UserError
from stg_jax.run.checkpoint import Checkpoints
from stg_jax.train.stop import JointStop
from tests.fakes import fake_data, fake_run
from tests.fakes.finished_run import assert_same, final_params, log


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return fake_data.fake_data_folder(tmp_path_factory.mktemp('data'), train=13)


def without_objects(clip):
    absent = {
        key: np.zeros_like(getattr(clip, key)) for key in ('object', 'box', 'score', 'object_mask')
    }
    return dataclasses.replace(clip, label=np.full_like(clip.label, -1), **absent)


def start(workdir, config):
    return subprocess.Popen(
        fake_run.command('train', *fake_run.as_flags(config), f'--workdir={workdir}'),
        cwd=fake_run.ROOT,
        env=fake_run.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def signal_at(process, step, number):
    """Send a signal when the progress line of `step` appears; return the exit code."""
    for line in process.stderr:
        if line.startswith(f'step {step}/'):
            process.send_signal(number)
    return process.wait()


@pytest.fixture(scope='module')
def undisturbed(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('undisturbed')
    assert train(full_config(data), workdir)
    return workdir


@pytest.fixture(scope='module')
def three_at_once(data, tmp_path_factory):
    """Return a run whose epochs are two executions of three steps, and one step."""
    workdir = tmp_path_factory.mktemp('three')
    assert train(full_config(data, train__steps_per_execution=3), workdir)
    return workdir


def full_config(data, **overrides):
    """Return a config of both branches whose saved parameters are averages over steps."""
    return fake_run.tiny_config(data, train__ema=0.9, **overrides)


def scene_config(data, **overrides):
    """Return a config of one branch, which compiles in half the time; runs end alike."""
    return fake_run.tiny_config(data, model__branches='scene', **overrides)


def test_training_lowers_the_loss_and_logs_every_step_and_epoch(undisturbed):
    records = log(undisturbed)
    steps = [record for record in records if 'loss' in record]
    epochs = [record for record in records if 'val_loss' in record]
    assert [record['step'] for record in steps] == list(range(1, len(steps) + 1))
    assert np.mean([r['loss'] for r in steps[-5:]]) < 0.8 * np.mean([r['loss'] for r in steps[:5]])
    assert [record['epoch'] for record in epochs] == [1, 2, 3]
    assert epochs[-1]['val_loss'] < epochs[0]['val_loss']
    for record in steps:
        total = record['xe_object'] + record['xe_scene'] + 4 * record['kd']
        assert record['loss'] == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_parameters_of_an_undisturbed_one(data, tmp_path, undisturbed):
    # The kill falls between the checkpoints of steps 7 (end of an epoch) and 10.
    config = full_config(data, train__checkpoint_steps=5)
    assert signal_at(start(tmp_path, config), 9, signal.SIGKILL) == -signal.SIGKILL
    assert len(log(tmp_path)) < len(log(undisturbed))
    finished = fake_run.run('train', *fake_run.as_flags(config), f'--workdir={tmp_path}')
    assert finished.returncode == 0, finished.stderr
    assert 'resumes at step' in finished.stderr
    assert_same(final_params(tmp_path), final_params(undisturbed))
    losses = [[r['loss'] for r in log(path) if 'loss' in r] for path in (tmp_path, undisturbed)]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_sigterm_saves_and_ends_with_75_and_the_run_goes_on(data, tmp_path, undisturbed):
    config = full_config(data)
    assert signal_at(start(tmp_path, config), 9, signal.SIGTERM) == 75
    assert final_params(tmp_path)[1] >= 9
    assert train(config, tmp_path)
    assert_same(final_params(tmp_path), final_params(undisturbed))


@pytest.mark.slow
def test_a_second_training_in_the_folder_is_refused_and_the_first_goes_on(data, tmp_path):
    config = full_config(data)
    first = start(tmp_path, config)
    assert next(line for line in first.stderr if line.startswith('step 2/'))
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the second starts
    second = fake_run.run('train', *fake_run.as_flags(config), f'--workdir={tmp_path}')
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert f'{tmp_path} is in use: process {first.pid} on ' in second.stderr
    assert len(second.stderr.splitlines()) == 1
    first.stderr.read()
    assert first.wait() == 0


@pytest.mark.slow
def test_a_run_folder_that_is_deleted_while_training_is_one_sentence(data, tmp_path):
    process = start(tmp_path / 'run', full_config(data))
    said = []
    for line in process.stderr:
        if line.startswith('step 3/'):
            shutil.rmtree(tmp_path / 'run')
        said.append(line)
    assert process.wait() == 2
    assert said[-1].startswith(f'train.py: {tmp_path}/run was deleted while the run was training')
    assert 'Traceback' not in ''.join(said)


def test_a_finished_run_has_nothing_left_to_do(data, undisturbed):
    before = final_params(undisturbed)
    assert train(full_config(data), undisturbed)
    assert_same(before, final_params(undisturbed))


@pytest.mark.slow
@pytest.mark.parametrize('cache', ['host', 'device'])
def test_where_the_features_lie_changes_nothing(data, tmp_path, undisturbed, cache):
    assert train(full_config(data, data__cache=cache), tmp_path)
    assert_same(final_params(tmp_path), final_params(undisturbed))
    scores = [[r['val_loss'] for r in log(p) if 'val_loss' in r] for p in (tmp_path, undisturbed)]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_steps_of_one_execution_train_and_are_logged_as_one_by_one(undisturbed, three_at_once):
    found, expected = log(three_at_once), log(undisturbed)
    assert [record['step'] for record in found] == [record['step'] for record in expected]
    for key in ('loss', 'val_loss', 'tokens'):
        values = [[r[key] for r in records if key in r] for records in (found, expected)]
        np.testing.assert_allclose(*values, rtol=1e-4, err_msg=key)
    assert all(0 < r['captions_per_second'] < np.inf for r in found if 'loss' in r)


@pytest.mark.slow
def test_a_run_that_stops_after_an_execution_goes_on_as_if_it_had_not(
    data, tmp_path, monkeypatch, three_at_once
):
    config = full_config(
        data, train__steps_per_execution=3, train__checkpoint_steps=5, profile__start=9
    )
    with monkeypatch.context() as patch:
        wishes = iter([False, False, True])
        patch.setattr(JointStop, 'after_step', lambda self: next(wishes))
        assert not train(config, tmp_path)
    # An epoch of seven steps, of which the last execution is one, and three of the next.
    assert final_params(tmp_path)[1] == 10
    assert sorted(int(path.name) for path in (tmp_path / 'checkpoints').iterdir()) == [7, 10]
    assert list((tmp_path / 'profile').rglob('*.xplane.pb'))
    assert train(config, tmp_path)
    assert_same(final_params(tmp_path), final_params(three_at_once))


@pytest.mark.slow
def test_a_run_can_be_made_longer(data, tmp_path):
    assert train(scene_config(data, train__epochs=1), tmp_path)
    assert train(scene_config(data, train__epochs=2), tmp_path)
    assert [record['epoch'] for record in log(tmp_path) if 'val_loss' in record] == [1, 2]


@pytest.mark.parametrize('at_once', [1, pytest.param(3, marks=pytest.mark.slow)])
def test_an_infinite_loss_stops_with_step_and_clips_and_a_state_from_before(
    data, tmp_path, at_once
):
    config = scene_config(data, optim__lr=1e30, train__epochs=1, train__steps_per_execution=at_once)
    with pytest.raises(UserError, match=r'loss of step (\d+) is (nan|inf).*train_\d+') as error:
        train(config, tmp_path)
    step = int(str(error.value).split('loss of step ')[1].split()[0])
    params, saved_step = final_params(tmp_path)
    assert saved_step == step - 1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


@pytest.fixture
def saved(monkeypatch):
    """Return the list of the epochs whose checkpoints are saved."""
    epochs, save = [], Checkpoints.save

    def record(self, step, params, optimizer, progress, score):
        epochs.append(progress['epoch'])
        save(self, step, params, optimizer, progress, score)

    monkeypatch.setattr(Checkpoints, 'save', record)
    return epochs


def test_patience_ends_a_run_that_gets_no_better(data, tmp_path, saved):
    # Nothing is learned at a rate of 0: the first epoch stays the best.
    config = scene_config(data, optim__lr=0.0, train__epochs=9, train__patience=2)
    assert train(config, tmp_path)
    assert [record['epoch'] for record in log(tmp_path) if 'val_loss' in record] == [1, 2, 3]
    assert saved == [1, 2, 3]


@pytest.mark.parametrize(('keep_best', 'epochs'), [(1, [1, 3]), (2, [1, 2, 3])])
def test_an_epoch_that_is_over_before_the_last_is_written_need_not_be_saved(
    data, tmp_path, monkeypatch, saved, keep_best, epochs
):
    monkeypatch.setattr(Checkpoints, 'is_writing', lambda self: True)
    assert train(scene_config(data, optim__lr=0.0, train__keep_best=keep_best), tmp_path)
    assert saved == epochs


def test_data_without_validation_split_train_and_caption(tmp_path):
    data = fake_data.fake_data_folder(tmp_path, val=0)
    assert train(scene_config(data, train__epochs=1), tmp_path / 'run')
    captioner = Captioner.load(tmp_path / 'run')
    assert captioner.step > 0 and captioner.branch == 'scene'


@pytest.mark.slow
def test_random_changes_of_features_and_a_second_pass_train_and_validate(data, tmp_path):
    config = fake_run.tiny_config(
        data,
        train__epochs=1,
        data__object_dropout=0.2,
        data__feature_dropout=0.1,
        data__feature_noise=0.1,
        data__frame_jitter=1,
        model__attention_dropout=0.1,
        model__token_dropout=0.1,
        model__box_embedding=True,
        loss__r_drop=1.0,
    )
    assert train(config, tmp_path)
    *steps, epoch = log(tmp_path)
    for record in steps:
        total = record['xe_object'] + record['xe_scene'] + 4 * record['kd'] + record['r_drop']
        assert record['loss'] == pytest.approx(total, rel=1e-5)
        assert record['r_drop'] > 0
    assert np.isfinite(epoch['val_loss']) and 'val_r_drop' not in epoch
    assert Captioner.load(tmp_path).branch == 'scene'


def test_the_object_branch_trains_without_the_other(data, tmp_path):
    assert train(fake_run.tiny_config(data, model__branches='object', train__epochs=1), tmp_path)
    assert Captioner.load(tmp_path).branch == 'object'


def test_clips_without_any_object_train_and_caption(tmp_path):
    empty = [without_objects(clip) for clip in fake_data.fake_clips(8)]
    data = tmp_path / 'data'
    write_data_folder(
        data, {'train': empty[:6], 'val': empty[6:]}, data_set='fake', extractor={'name': 'random'}
    )
    config = fake_run.tiny_config(data, train__epochs=1)
    assert train(config, tmp_path / 'run')
    for record in log(tmp_path / 'run'):
        if 'loss' in record:
            assert record['kd'] == record['xe_object'] == 0
            assert np.isfinite(record['loss'])
    for branch in ('scene', 'object'):
        captioner = Captioner.load(tmp_path / 'run', branch=branch)
        assert len(captioner.caption_clips(empty)) == 8


@pytest.mark.parametrize(
    ('overrides', 'sentence'),
    [
        ({'data__dir': '/no/such/folder'}, '/no/such/folder.*prepare.py'),
        ({'data__appearance_dim': 77}, '--config.data.appearance_dim=8'),
        ({'data__objects': 9}, '--config.data.objects=3'),
        ({'model__graph': 'star'}, 'config.model.graph.*spatial'),
        ({'train__batch_size': 8, 'train__accumulate': 3}, 'multiple of 6'),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    data, tmp_path, overrides, sentence
):
    with pytest.raises(UserError, match=sentence):
        train(fake_run.tiny_config(data, **overrides), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_cut_shard_is_named(tmp_path):
    data = fake_data.fake_data_folder(tmp_path)
    shard = next(data.glob('*train.tfrecord*'))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf'{shard.name}.*record'):
        train(scene_config(data), tmp_path / 'run')


@pytest.mark.slow
def test_chosen_steps_are_traced_and_nothing_else_changes(data, tmp_path, undisturbed):
    config = full_config(data, profile__start=2, profile__steps=2)
    train(config, tmp_path)
    (trace,) = (tmp_path / 'profile').rglob('*.xplane.pb')
    assert b'train_step' in trace.read_bytes()
    assert not (undisturbed / 'profile').exists()
    assert_same(final_params(tmp_path), final_params(undisturbed))
