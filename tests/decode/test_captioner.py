import json

import numpy as np
import pytest

from stg_jax.api import train
from stg_jax.data.batches import eval_batches, stream_clips
from stg_jax.data.captions import read_captions
from stg_jax.data.records import read_clips
from stg_jax.decode.captioner import Captioner, stack_clips
from stg_jax.errors import UserError
from stg_jax.evaluate.evaluate import evaluate_captioner
from stg_jax.evaluate.java import meteor_at_hand
from tests.fakes import fake_data, fake_run


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Return (data folder, run folder) of a short run."""
    folder = tmp_path_factory.mktemp('trained')
    data = fake_data.fake_data_folder(folder, train=6, test=5)
    train(fake_run.tiny_config(data, train__epochs=1), folder / 'run')
    return data, folder / 'run'


@pytest.fixture(scope='module')
def clips(trained):
    return list(read_clips(trained[0], 'test'))


def test_captions_of_clips_equal_those_of_the_streamed_features(trained, clips):
    captioner = Captioner.load(trained[1])
    streamed = stream_clips(captioner.run.config.data, captioner.run.vocab, 'test')
    (batch,) = eval_batches(streamed, clips_per_batch=len(clips))
    assert captioner(batch) == captioner.caption_clips(clips)


def test_a_caption_does_not_depend_on_the_other_clips_of_the_batch(trained, clips):
    captioner = Captioner.load(trained[1], branch='object')
    together = captioner.caption_clips(clips)
    assert together == [captioner.caption_clips([clip])[0] for clip in clips]


def test_captions_hold_words_only(trained, clips):
    captioner = Captioner.load(trained[1])
    for caption in captioner.caption_clips(clips, beam_size=3):
        assert not {'<pad>', '<bos>', '<eos>', '<unk>'} & set(caption.split())


def test_the_scene_branch_needs_no_objects(trained, clips):
    captioner = Captioner.load(trained[1])
    features = stack_clips(clips, fake_data.OBJECTS)
    scene = {key: features[key] for key in ('appearance', 'motion')}
    assert captioner(scene) == captioner.caption_clips(clips)


def test_the_object_branch_refuses_features_without_objects(trained, clips):
    captioner = Captioner.load(trained[1], branch='object')
    features = stack_clips(clips, fake_data.OBJECTS)
    del features['object']
    with pytest.raises(UserError, match="lack 'object'"):
        captioner(features)


def test_features_of_another_width_are_refused(trained, clips):
    captioner = Captioner.load(trained[1])
    features = {
        'appearance': np.zeros((2, fake_data.FRAMES, 9), np.float32),
        'motion': np.zeros((2, fake_data.FRAMES, fake_data.MOTION), np.float32),
    }
    with pytest.raises(UserError, match='appearance has shape'):
        captioner(features)


def test_features_that_are_not_finite_are_refused_by_clip(trained, clips):
    captioner = Captioner.load(trained[1])
    features = stack_clips(clips, fake_data.OBJECTS)
    features['motion'][2, 0, 0] = np.nan
    with pytest.raises(UserError, match='motion of clip 2 of the batch has NaN'):
        captioner(features)


def test_an_unknown_branch_is_refused(trained):
    with pytest.raises(UserError, match="no branch 'joint': it can be scene, object"):
        Captioner.load(trained[1], branch='joint')


def test_evaluation_scores_every_clip_once_and_keeps_branches_apart(trained):
    data, workdir = trained
    with meteor_at_hand():
        student = evaluate_captioner(Captioner.load(workdir), 'test', beam_size=2)
        teacher = evaluate_captioner(Captioner.load(workdir, branch='object'), 'test', beam_size=2)
    assert list(student.predictions) == list(read_captions(data, 'test'))
    assert student.scores['num_clips'] == 5
    assert student.folder != teacher.folder
    stored = json.loads((student.folder / 'predictions.json').read_text())
    assert {row['image_id']: row['caption'] for row in stored} == student.predictions
    scores = json.loads((teacher.folder / 'scores.json').read_text())
    assert scores['branch'] == 'object'
    assert scores['beam_size'] == 2
    assert scores['length_penalty'] == 0.6
    assert 'best on validation' in scores['checkpoints'][str(workdir)]
    assert (student.scores['test_looks'], scores['test_looks']) == (1, 2)
    assert scores['captions'].keys() >= {'novel', 'distinct-2', 'vocabulary'}
    page = (teacher.folder / 'index.html').read_text()
    assert 'looks at the test split so far: 2' in page
    assert all(caption in page for caption in teacher.predictions.values())
