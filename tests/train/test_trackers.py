"""Where metrics go besides metrics.jsonl: event files, and services of two kinds."""

import contextlib
import sys

import pytest

from stg_jax.data.tf import tf
from stg_jax.errors import UserError
from stg_jax.train.log import MetricsLog
from stg_jax.train.trackers import named, open_trackers
from tests.fakes import fake_run_folder
from tests.fakes.fake_tracking import fake_service

RECORDS = [{'step': 3, 'epoch': 1, 'loss': 2.5}, {'step': 6, 'epoch': 1, 'val_cider': 40.0}]


@pytest.fixture
def track(tmp_path):
    """Return a function that logs RECORDS with a tracker and returns the folder of the run."""

    def log(name):
        run = fake_run_folder.create(tmp_path / 'my run', **{'train.track': name})
        with contextlib.ExitStack() as stack:
            trackers = open_trackers(run, stack)
            metrics = MetricsLog(run.metrics, 0, active=True, trackers=trackers)
            for record in RECORDS:
                metrics.write(record)
        return run.path

    return log


def events_of(folder):
    """Return {name: {step: value}} of the only event file in a folder."""
    [path] = folder.iterdir()
    found = {}
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == 'scalars'
            found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_event_files_hold_every_value_at_its_step(track):
    assert events_of(track('tensorboard') / 'tensorboard') == {
        'train/epoch': {3: 1, 6: 1},
        'train/loss': {3: 2.5},
        'val/cider': {6: 40},
    }


@pytest.mark.parametrize('name', ['wandb', 'trackio'])
def test_a_service_gets_the_config_every_value_and_the_end(track, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, module := fake_service(name))
    monkeypatch.delenv('WANDB_PROJECT', raising=False)
    path = track(name)
    (_, options), *logged, finished = module.calls
    assert (options['project'], options['name']) == ('stg_jax', 'my run')
    assert options['config']['train.track'] == name
    assert logged == [('log', named(record), {'step': record['step']}) for record in RECORDS]
    assert finished == ('finish', {})
    assert list((path / 'tensorboard').iterdir())


def test_a_resumed_run_is_the_same_run_of_wandb_and_another_folder_is_not(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'wandb', module := fake_service('wandb'))
    for folder in ('a/run', 'a/run', 'b/run'):
        run = fake_run_folder.create(tmp_path / folder, **{'train.track': 'wandb'})
        with contextlib.ExitStack() as stack:
            open_trackers(run, stack)
    first, again, other = (call[1] for call in module.calls if call[0] == 'init')
    assert first['id'] == again['id'] != other['id']
    assert first['resume'] == 'allow' and first['dir'] == str(tmp_path / 'a/run')


def test_a_service_that_is_not_installed_is_one_sentence(track, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(UserError, match=r'config\.train\.track is wandb, .*: pip install wandb'):
        track('wandb')


def test_without_tensorflow_or_a_wish_nothing_is_written(track, monkeypatch):
    monkeypatch.delitem(sys.modules, 'stg_jax.data.tf')
    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    assert not (track('tensorboard') / 'tensorboard').exists()


def test_a_run_may_ask_for_nothing(track):
    assert not (track('none') / 'tensorboard').exists()
