"""The package as a library: what `import stg_jax` offers."""

import dataclasses
import functools
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import stg_jax
from configs import toy
from stg_jax.config import parse_config
from stg_jax.data.captions import read_captions
from stg_jax.data.records import read_clips
from stg_jax.decode.captioner import stack_clips
from stg_jax.prepare.toy import prepare_toy
from tests.fakes import fake_run
from tests.fakes.untrained_run import untrained_run

ROOT = Path(__file__).parents[1]
FRAMES, OBJECTS = 4, 3


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('api') / 'data'
    clips = {'train': 4, 'val': 1, 'test': 3}
    size = {'num_frames': FRAMES, 'num_objects': OBJECTS}
    world = parse_config(toy.get_config()).toy
    prepare_toy(folder, num_clips=clips, world=world, workers=1, **size)
    return folder


def small_config(data):
    config = toy.get_config()
    config.update_from_flattened_dict(fake_run.SMALL)
    config.data.update(dir=str(data), frames=FRAMES, objects=OBJECTS, max_words=6, toy_clips='')
    return config


@pytest.fixture(scope='module')
def workdir(data, tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp('api_run') / 'run', small_config(data))


@pytest.fixture(scope='module')
def captioner(workdir):
    return stg_jax.load(workdir)


@pytest.fixture(scope='module')
def videos(data):
    return sorted((data / 'videos' / 'test').glob('*.mp4'))


def run_python(code):
    return subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_importing_the_package_imports_nothing_heavy():
    heavy = '{"jax", "tensorflow", "numpy", "flax", "cv2", "ml_collections", "importlib.metadata"}'
    done = run_python(f'import sys, stg_jax; print({heavy} & set(sys.modules))')
    assert done.stdout == 'set()\n', done.stdout + done.stderr


def test_what_is_offered_is_listed_and_anything_else_is_an_attribute_error():
    assert {'load', 'train', 'evaluate', 'UserError', '__version__'} <= set(dir(stg_jax))
    with pytest.raises(AttributeError, match="'stg_jax' has no attribute 'caption'"):
        stg_jax.caption  # noqa: B018 - the look-up is what is tested


def test_the_version_is_defined_once():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    assert 'version' in project['project']['dynamic']
    assert project['tool']['hatch']['version']['path'] == 'stg_jax/__init__.py'
    assert stg_jax.__version__.count('.') == 2


@pytest.mark.parametrize('name', ['train', 'evaluate'])
@pytest.mark.parametrize(
    'before', ['', 'import stg_jax.{0}.{1}; ', 'from stg_jax.{0} import {1}; ']
)
def test_a_function_stays_one_when_the_package_of_its_name_is_imported(name, before):
    module = {'train': 'stop', 'evaluate': 'summable'}[name]
    patched = f'stg_jax.api.{name} = lambda *args, **kwargs: print(args, kwargs); '
    code = f'import stg_jax, stg_jax.api; {patched}stg_jax.{name}("config", split="test")'
    done = run_python(before.format(name, module) + code)
    assert done.stdout == "('config',) {'split': 'test'}\n", done.stderr


def test_a_video_gets_its_best_caption_as_text(captioner, videos):
    (captioned,) = captioner.captions(videos[0])
    assert captioner.caption(videos[0]) == captioned.caption
    assert any(candidate.caption for candidate in captioned.candidates)
    assert len(captioned.candidates) == captioner.run.config.decode.beam_size
    first, second = (list(captioner.captions(videos[0], segment_seconds=s)) for s in (0.5, 100))
    assert len(first) > 1 and len(second) == 1


def test_captions_of_features_are_those_of_the_videos_that_they_describe(captioner, data, videos):
    clips = sorted(read_clips(data, 'test'), key=lambda clip: clip.id)
    features = stack_clips(clips, OBJECTS)
    assert captioner(features) == [captioner.caption(video) for video in videos]


def test_random_captions_repeat_with_their_seed(captioner, videos):
    def drawn(seed):
        options = {'temperature': 2.0, 'number': 4, 'seed': seed}
        (captioned,) = captioner.captions(videos[0], **options)
        return [candidate.caption for candidate in captioned.candidates]

    assert len(drawn(0)) == 4
    assert drawn(0) == drawn(0) != drawn(1)


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'beam_size': 2, 'number': 3}, 'a beam of 2 has no 3 captions'),
        ({'beam_size': 2, 'temperature': 1.0}, 'pass one'),
    ],
)
def test_options_that_contradict_each_other_are_refused(captioner, videos, options, reason):
    with pytest.raises(stg_jax.UserError, match=reason):
        captioner.captions(videos[0], **options)


def test_explanations_are_saved_by_their_suffix_and_shown_in_notebooks(captioner, videos, tmp_path):
    report = captioner.explain(*videos[:2])
    report.save(tmp_path / 'out.html')
    page = (tmp_path / 'out.html').read_text()
    assert page == report.html()
    for video in videos[:2]:
        assert video.name in page
        assert captioner.caption(video) in repr(report)
    assert report._repr_html_().startswith('<div><iframe')
    with pytest.raises(stg_jax.UserError, match=r'out.doc must end in .html'):
        report.save(tmp_path / 'out.doc')


def test_a_captioner_says_what_it_is(captioner, workdir):
    assert str(workdir) in repr(captioner)
    assert "branch='scene'" in repr(captioner) and 'step=7' in repr(captioner)


def test_a_run_and_an_ensemble_are_evaluated(workdir, data, monkeypatch):
    from stg_jax.evaluate import evaluate as module

    # Without METEOR, which takes ten seconds to start.
    monkeypatch.setattr(module, 'score', functools.partial(module.score, metrics=('bleu',)))
    one = stg_jax.evaluate(workdir, split='val', beam_size=1)
    assert one.predictions.keys() == read_captions(data, 'val').keys()
    assert (one.folder.name, one.scores['beam_size']) == ('val-beam1', 1)
    assert repr(one).startswith('Evaluation(1 clips, BLEU-1 ')
    two = stg_jax.evaluate([workdir, workdir], 'val', beam_size=1)
    assert two.predictions == one.predictions
    assert 'ensemble' in two.folder.name


def test_a_run_is_evaluated_on_other_data(workdir, data, tmp_path, monkeypatch):
    from stg_jax.evaluate import evaluate as module

    monkeypatch.setattr(module, 'score', functools.partial(module.score, metrics=('bleu',)))
    world = parse_config(toy.get_config()).toy
    size = {'num_objects': OBJECTS, 'world': dataclasses.replace(world, seed=1), 'workers': 1}
    other = tmp_path / 'other'
    prepare_toy(other, num_clips={'val': 2}, num_frames=FRAMES, **size)
    usual = stg_jax.evaluate(workdir, 'val')
    found = stg_jax.evaluate(workdir, 'val', data_dir=str(other))
    assert found.references == read_captions(other, 'val') != usual.references
    assert 'attributes' in found.scores and found.scores['data'] == str(other)
    assert found.folder.name.startswith('val-data-other-') and usual.folder.name == 'val'
    prepare_toy(tmp_path / 'long', num_clips={'val': 1}, num_frames=FRAMES + 1, **size)
    with pytest.raises(stg_jax.UserError, match=r'config\.data\.frames'):
        stg_jax.evaluate(workdir, 'val', data_dir=str(tmp_path / 'long'))


def test_captions_are_kept_if_they_cannot_be_scored(workdir, data, monkeypatch):
    from stg_jax.evaluate import evaluate as module

    def fails(*args, **kwargs):
        raise OSError(28, 'No space left on device', '/tmp/x')

    monkeypatch.setattr(module, 'score', functools.partial(module.score, metrics=('bleu',)))
    folder = stg_jax.evaluate(workdir, 'val', beam_size=2).folder
    assert (folder / 'scores.json').exists()
    monkeypatch.setattr(module, 'score', fails)
    with pytest.raises(OSError, match='No space left'):
        stg_jax.evaluate(workdir, 'val', beam_size=2)
    kept = json.loads((folder / 'predictions.json').read_text())
    assert {row['image_id'] for row in kept} == set(read_captions(data, 'val'))
    assert not (folder / 'scores.json').exists()


@pytest.mark.slow
def test_training_renders_the_toy_world_and_resumes(tmp_path):
    config = small_config(tmp_path / 'data')
    config.data.toy_clips = 'train=6,val=2,test=2'
    config.train.epochs = 1
    assert stg_jax.train(config, tmp_path / 'run') is True
    config.train.epochs = 2
    assert stg_jax.train(config, tmp_path / 'run') is True
    assert stg_jax.load(tmp_path / 'run', checkpoint='latest').step > 0
