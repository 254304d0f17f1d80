"""A validation split too small for CIDEr: training chooses by loss, and says so."""

import json
import math

import jax
import numpy as np
import pytest

from stg_jax.api import train
from stg_jax.data.manifest import Manifest, overrides
from stg_jax.decode.captioner import Captioner
from stg_jax.run.checkpoint import Checkpoints, restore_params
from stg_jax.run.selection import choose_params
from stg_jax.run.validation_score import MIN_CLIPS, ValidationScore
from stg_jax.train.validate import Validator
from tests.fakes import fake_data, fake_run
from tests.fakes.fake_world import write_world


def tree(value):
    return {'w': np.full(3, value, np.float32)}


def save(folder, scores, **options):
    with Checkpoints(folder, **options) as checkpoints:
        for step, score in enumerate(scores, 1):
            checkpoints.save(step, tree(step), tree(0), {'step': step}, score)
    return folder


def config_for(data, **changes):
    return fake_run.tiny_config(data, model__branches='scene', **changes)


@pytest.mark.parametrize(
    ('better', 'worse'),
    [
        (ValidationScore(50.0, 3.0), ValidationScore(40.0, 2.0)),
        (ValidationScore(50.0, 2.0), ValidationScore(50.0, 3.0)),
        (ValidationScore(0.0, 2.0), ValidationScore(0.0, 3.0)),
        (ValidationScore(None, 2.0), ValidationScore(None, 3.0)),
        (ValidationScore(None, 2.0), ValidationScore(None, math.nan)),
        (ValidationScore(50.0, 2.0), ValidationScore(50.0, None)),
        (ValidationScore(None, 2.0), ValidationScore(30.0, None)),
    ],
)
def test_cider_decides_then_the_lower_loss(better, worse):
    assert better.rank() > worse.rank()


def test_cider_counts_from_twenty_clips_on():
    assert MIN_CLIPS == 20
    assert ValidationScore.of(30.0, 2.0, 20) == ValidationScore(30.0, 2.0)
    assert ValidationScore.of(30.0, 2.0, 19) == ValidationScore(None, 2.0)


@pytest.mark.parametrize('cider', [None, 0.0])
def test_of_equal_cider_the_checkpoint_of_the_lowest_loss_is_kept_and_chosen(tmp_path, cider):
    scores = [ValidationScore(cider, loss) for loss in (4.0, 2.0, 3.0)]
    folder = save(tmp_path / 'checkpoints', scores)
    assert sorted(int(path.name) for path in folder.iterdir()) == [2, 3]  # best and latest
    assert restore_params(folder, tree(0), 'best')[1] == 2


def test_the_loss_that_chose_a_checkpoint_is_named(tmp_path):
    scores = [ValidationScore(None, loss) for loss in (4.0, 2.0, 3.0)]
    folder = save(tmp_path / 'checkpoints', scores, keep_best=2)
    assert choose_params(folder, tree(0)).why == 'step 2, the best on validation: loss 2.000'
    average = choose_params(folder, tree(0), average=2)
    assert average.steps == [2, 3]
    assert '2 (loss 2.000), 3 (loss 3.000)' in average.why


@pytest.mark.parametrize(('num_clips', 'best'), [(MIN_CLIPS, 3), (MIN_CLIPS - 1, 4)])
def test_training_chooses_by_cider_or_by_loss(tmp_path, monkeypatch, num_clips, best):
    # CIDEr is highest after epochs 2 and 3, of which 3 has the lower loss.
    scores = iter([(1.0, 4.0), (5.0, 3.0), (5.0, 2.0), (2.0, 1.0)])

    def validate(self, params):
        cider, loss = next(scores)
        return {'val_bleu4': 0.0, 'val_cider': cider, 'val_loss': loss}

    monkeypatch.setattr(Validator, '__call__', validate)
    data = fake_data.fake_data_folder(tmp_path, val=num_clips)
    assert train(config_for(data, train__epochs=4), tmp_path / 'run')
    latest = max(int(path.name) for path in (tmp_path / 'run' / 'checkpoints').iterdir())
    assert Captioner.load(tmp_path / 'run').step == best * latest // 4


def test_one_validation_clip_does_not_end_training_with_its_first_epoch(tmp_path, capsys):
    data = fake_data.fake_data_folder(tmp_path, val=1)
    config = config_for(data, optim__lr=1e-3, train__epochs=5, train__patience=2)
    assert train(config, tmp_path / 'run')
    said = capsys.readouterr().err
    assert said.count('validation clips: 1, fewer than 20') == 1
    lines = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
    epochs = [record for record in map(json.loads, lines) if 'val_loss' in record]
    assert [record['val_cider'] for record in epochs] == [0] * 5
    best = min(epochs, key=lambda record: record['val_loss'])
    assert best['epoch'] > 1
    assert f'best loss {best["val_loss"]:.3f} after epoch {best["epoch"]}' in said
    assert Captioner.load(tmp_path / 'run').step == best['step']


def test_patience_counts_epochs_without_a_lower_loss(tmp_path, capsys):
    # Nothing is learned at a rate of 0: the first epoch stays the best.
    data = fake_data.fake_data_folder(tmp_path, val=1)
    assert train(config_for(data, optim__lr=0.0, train__patience=1), tmp_path / 'run')
    assert 'stopping early: no better validation loss for 1 epochs' in capsys.readouterr().err


@pytest.fixture(scope='module')
def own(tmp_path_factory):
    """Return (what prepare said, data folder, a video) of four train and two validation clips."""
    folder = tmp_path_factory.mktemp('own')
    captions, videos = write_world(folder, num=4)
    flags = ['own', f'--annotations={captions}', f'--videos={videos}', '--extractor=pixels']
    done = fake_run.run('prepare', *flags, f'--out={folder / "data"}')
    assert done.returncode == 0, done.stderr
    planned = fake_run.run('prepare', *flags, f'--out={folder / "other"}', '--dry_run')
    return [done.stderr, planned.stderr], folder / 'data', next(videos.rglob('*.mp4'))


def test_prepare_warns_of_a_small_validation_split(own):
    for said in own[0]:
        assert 'validation clips: 2, fewer than 20. CIDEr cannot tell' in said


@pytest.mark.slow
@pytest.mark.slow
def test_an_empty_caption_is_explained(own, tmp_path):
    _, data, video = own
    config = config_for(data, train__epochs=1)
    config.data.update(overrides(Manifest.load(data), config.data))
    assert train(config, tmp_path)
    captioner = Captioner.load(tmp_path)
    # A network of zeros finds all words equally probable, so the shortest caption wins.
    zeros = jax.tree.map(np.zeros_like, captioner.params)
    with Checkpoints(captioner.run.checkpoints) as checkpoints:
        checkpoints.save(99, zeros, tree(0), {}, ValidationScore(None, 0.0))
    done = fake_run.run('caption', f'--workdir={tmp_path}', video)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)['caption'] == ''
    assert '1 of 1 captions are empty' in done.stderr
    assert 'step 99, the best on validation: loss 0.000' in done.stderr
    assert '--checkpoint=latest' in done.stderr


@pytest.mark.slow
def test_a_run_that_selects_the_last_epoch_deploys_it_whatever_validation_says(tmp_path):
    data = fake_data.fake_data_folder(tmp_path / 'data')
    config = config_for(data, train__select='last', train__epochs=3, optim__lr=0.3)
    assert train(config, tmp_path / 'run')
    records = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
    losses = {r['step']: r['val_loss'] for r in map(json.loads, records) if 'val_loss' in r}
    assert min(losses, key=losses.get) != max(losses), 'the last epoch must not be the best'
    captioner = Captioner.load(tmp_path / 'run')
    assert captioner.step == max(losses)
    assert captioner.why.endswith('the latest: validation did not select')
