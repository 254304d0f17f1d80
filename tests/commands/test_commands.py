"""What a user sees who mistypes, points at the wrong folder, or lost half a file."""

import json

import pytest

from tests.fakes import fake_data, fake_run

SMALL = ['width=16', 'feedforward=32', 'graph_layers=1', 'encoder_layers=1', 'decoder_layers=1']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Return (data folder, run folder, flags of train.py) of a run made by the commands."""
    folder = tmp_path_factory.mktemp('trained')
    data = fake_data.fake_data_folder(folder)
    flags = fake_run.as_flags(fake_run.tiny_config(data, train__epochs=1))
    finished = fake_run.run('train', *flags, f'--workdir={folder / "run"}')
    assert finished.returncode == 0, finished.stderr
    assert 'finished' in finished.stderr
    return data, folder / 'run', flags


def assert_refused(finished, *parts):
    """Check for exit code 2 and one line on standard error that holds `parts`."""
    assert finished.returncode == 2, finished.stderr
    lines = finished.stderr.strip().splitlines()
    assert 'Traceback' not in finished.stderr
    # What was written all the same, and a status line on a slow machine, are no part of it.
    others = ('WARNING', 'wrote ', 'captioning ')
    lines = [line for line in lines if not line.startswith(others)]
    assert len(lines) == 1, finished.stderr
    for part in parts:
        assert part in lines[-1]


def test_training_refuses_what_does_not_fit(trained, tmp_path):
    _, _, flags = trained
    flags = [*flags, '--config.data.objects=9', f'--workdir={tmp_path / "run"}']
    assert_refused(fake_run.run('train', *flags), '--config.data.objects=3')
    assert not (tmp_path / 'run' / 'checkpoints').exists()


def test_training_refuses_a_missing_config_file(tmp_path):
    finished = fake_run.run('train', '--config=configs/nix.py', f'--workdir={tmp_path}')
    assert_refused(finished, 'there is no config file configs/nix.py')


@pytest.mark.parametrize('override', [[], ['--config.optim.lr=1e-3']])
def test_training_refuses_a_config_file_that_is_no_python(tmp_path, override):
    (tmp_path / 'bad.py').write_text('def get_config(:\n')
    flags = [f'--config={tmp_path}/bad.py', *override, f'--workdir={tmp_path}/run']
    assert_refused(fake_run.run('train', *flags), 'the config was refused', 'bad.py, line 1')
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_evaluation_prints_both_branches_and_shows_captions(trained):
    _, run, _ = trained
    finished = fake_run.run('evaluate', f'--workdir={run}', '--branch=scene,object', '--show=1')
    assert finished.returncode == 0, finished.stderr
    for word in ('scene', 'object', 'METEOR', 'CIDEr', 'reference', 'predictions.json'):
        assert word in finished.stdout
    assert (run / 'eval' / 'test-object' / 'scores.json').exists()
    usual = (run / 'eval' / 'test' / 'scores.json').read_bytes()
    options = ['--checkpoint=latest', '--beam_size=1', '--length_penalty=0.6']
    other = fake_run.run('evaluate', f'--workdir={run}', *options)
    assert other.returncode == 0, other.stderr
    found = json.loads((run / 'eval' / 'test-beam1-latest' / 'scores.json').read_text())
    assert (found['checkpoint'], found['average'], found['beam_size']) == ('latest', 1, 1)
    assert (run / 'eval' / 'test' / 'scores.json').read_bytes() == usual


def test_evaluation_refuses_what_the_run_does_not_have(trained):
    finished = fake_run.run('evaluate', f'--workdir={trained[1]}', '--split=dev')
    assert_refused(finished, "no split 'dev': it holds train, val, test")


def test_captioning_refuses_features_that_no_extractor_of_ours_makes(trained, tmp_path):
    _, run, _ = trained
    assert_refused(fake_run.run('caption', f'--workdir={run}', tmp_path / 'v.mp4'), 'extractor')


def test_captioning_refuses_more_captions_than_the_beam_has(trained, tmp_path):
    _, run, _ = trained
    finished = fake_run.run('caption', f'--workdir={run}', '--num_captions=9', tmp_path / 'v.mp4')
    assert_refused(finished, 'a beam of 5', 'use a beam size of 9')


@pytest.mark.slow
def test_an_empty_video_is_named_and_the_others_are_captioned(tmp_path):
    clips = '--clips=train=8,val=2,test=2'
    prepared = fake_run.run('prepare', 'toy', f'--out={tmp_path / "toy"}', clips)
    assert prepared.returncode == 0, prepared.stderr
    trained = fake_run.run(
        'train',
        '--config=configs/toy.py',
        f'--config.data.dir={tmp_path / "toy"}',
        '--config.train.epochs=1',
        *(f'--config.model.{each}' for each in SMALL),
        f'--workdir={tmp_path / "run"}',
    )
    assert trained.returncode == 0, trained.stderr
    empty = tmp_path / 'empty.mp4'
    empty.write_bytes(b'')
    video = next((tmp_path / 'toy' / 'videos').rglob('*.mp4'))
    shown = [f'--report={tmp_path / "page.html"}', f'--figure={tmp_path / "figure.svg"}']
    windows = ['--window=1s', f'--subtitles={tmp_path}', '--temperature=1', '--num_captions=3']
    finished = fake_run.run(
        'caption', f'--workdir={tmp_path / "run"}', empty, video, *shown, *windows
    )
    assert_refused(finished, str(empty))
    found = [json.loads(line) for line in finished.stdout.splitlines()]
    assert {each['video'] for each in found} == {str(video)}
    assert [each['start'] for each in found] == list(range(len(found)))
    for each in found:
        scores = [candidate['score'] for candidate in each['captions']]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)
        assert set(each['seconds']) == {'decode', 'embed', 'caption', 'explain'}
    page = (tmp_path / 'page.html').read_text()
    assert all(f'{video.name}, 00:00:0{k}.000 to' in page for k in range(len(found)))
    assert (tmp_path / 'figure.svg').read_text().startswith('<?xml')
    subtitles = (tmp_path / f'{video.stem}.captions.srt').read_text()
    assert subtitles.count(' --> ') == sum(bool(each['caption']) for each in found)
    for written in ('page.html', 'figure.svg', f'{video.stem}.captions.srt and .vtt'):
        assert f'wrote {tmp_path / written}\n' in finished.stderr
    # As on a terminal.
    options = [f'--workdir={tmp_path / "run"}', '--nojson', '--num_captions=2', '--txt']
    printed = fake_run.run('caption', video, *options).stdout.splitlines()
    assert [line.partition(': ')[0] for line in printed] == [str(video)] * 2
    assert f'{video}: {video.with_suffix(".txt").read_text()}' == f'{printed[0]}\n'
    assert 'skipped 1 videos' in fake_run.run('caption', video, *options).stderr


@pytest.mark.parametrize('name', ['train', 'evaluate', 'caption', 'prepare'])
def test_help_shows_an_example_and_every_flag(name):
    finished = fake_run.run(name, '--help')
    assert finished.returncode == 0
    assert f'python launch/{name}.py' in finished.stdout
    assert '--workdir' in finished.stdout or '--out' in finished.stdout


def test_explanations_are_measured_and_written(trained):
    _, run, _ = trained
    finished = fake_run.run('explain', f'--workdir={run}', '--clips=1')
    assert finished.returncode == 0, finished.stderr
    found = json.loads((run / 'eval' / 'test' / 'explanations.json').read_text())
    assert found['clips'] == 1
    # A run of one epoch may have nothing to say of a clip.
    assert set(found['faithfulness']) <= {'scene', 'object'}
    assert 'deletion (random)' in finished.stdout
