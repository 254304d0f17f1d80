"""The command: every source, plans, refusals, a kill."""

import functools
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from stg_jax import files
from stg_jax.data import records
from stg_jax.data.manifest import Manifest
from tests.fakes import fake_data, fake_run
from tests.fakes import fake_features as fake
from tests.fakes.contents import contents
from tests.fakes.fake_annotations import NUMBERS, write_msvd
from tests.fakes.fake_world import write_world
from tests.fakes.real_data import real_data

prepare = functools.partial(fake_run.run, 'prepare')
verify = functools.partial(fake_run.run, 'verify')


def prepared(*arguments):
    run = prepare(*arguments)
    assert run.returncode == 0, run.stderr
    return run


def msvd_flags(folder, clip_ids, *, motion=None):
    """Write annotations of clips a to d and features of `clip_ids`; return the flags."""
    write_msvd(folder)
    paths = {
        'annotations': folder,
        'appearance': fake.write_hdf5(folder / 'a.hdf5', fake.fake_frames(clip_ids, width=8)),
        'motion': fake.write_hdf5(folder / 'm.hdf5', fake.fake_frames(motion or clip_ids)),
        'objects': fake.write_hdf5(folder / 'o.hdf5', fake.fake_objects(clip_ids)),
    }
    return [f'--{kind}={path}' for kind, path in paths.items()]


def test_msvd_joins_annotations_and_features(tmp_path):
    flags = msvd_flags(tmp_path, ['a_1_2', 'c_1_2', 'e_1_2'], motion=['a_1_2'])
    out = tmp_path / 'data'
    run = prepared('msvd', *flags, f'--out={out}', '--num_frames=2', '--num_objects=2')
    assert 'train: 1 of 2 captioned clips have no appearance features' in run.stderr
    assert f'--config configs/msvd.py --config.data.dir={out}' in run.stdout
    for flag in ('frames=2', 'objects=2', 'appearance_dim=8', 'motion_dim=5', 'object_dim=5'):
        assert f'--config.data.{flag}' in run.stdout
    manifest = Manifest.load(out)
    assert manifest.splits == {
        'train': {'clips': 1, 'captions': 1}, 'val': {'clips': 1, 'captions': 1},
    }  # fmt: skip
    assert manifest.missing == {'motion': ['c_1_2']}
    (clip,) = records.read_clips(out, 'val')
    assert clip.id == 'c_1_2' and not clip.motion.any() and clip.source == 'c'
    frames = fake.fake_frames(['a_1_2', 'c_1_2'], width=8)['c_1_2']
    np.testing.assert_array_equal(clip.appearance, frames[[0, 2]].astype(np.float16))


def test_a_clip_with_a_broken_entry_is_left_out_and_listed(tmp_path):
    flags = msvd_flags(tmp_path, ['a_1_2', 'b_1_2', 'c_1_2'])
    frames = fake.fake_frames(['a_1_2', 'b_1_2', 'c_1_2'], width=8)
    frames['b_1_2'][1, 1] = np.nan
    fake.write_hdf5(tmp_path / 'a.hdf5', frames)
    out = tmp_path / 'data'
    prepared('msvd', *flags, f'--out={out}')
    (failure,) = files.read_json(out / 'failures.json')
    assert failure['clip'] == 'b_1_2' and 'NaN' in failure['reason']
    assert Manifest.load(out).splits['train']['clips'] == 1


def test_objects_of_numbered_clips_are_not_taken_for_frames_of_one(tmp_path):
    names = ['video_001', 'video_002', 'video_003']
    (tmp_path / 'own.csv').write_text(
        'clip,caption,split\n' + ''.join(f'{name},a man runs,train\n' for name in names)
    )
    appearance = fake.write_hdf5(tmp_path / 'a.hdf5', fake.fake_frames(names))
    regions = fake.fake_objects(names, steps=1)
    objects = fake.write_hdf5(
        tmp_path / 'o.hdf5', {name: arrays['feats'][0] for name, arrays in regions.items()}
    )
    flags = [f'--annotations={tmp_path / "own.csv"}', f'--appearance={appearance}']
    prepared('own', *flags, f'--objects={objects}', f'--out={tmp_path / "data"}')
    assert 'object' not in Manifest.load(tmp_path / 'data').missing
    for clip in records.read_clips(tmp_path / 'data', 'train'):
        expected = regions[clip.id]['feats'][0].astype(np.float16)
        np.testing.assert_array_equal(clip.object[0, : len(expected)], expected)


def test_appearance_alone_is_enough(tmp_path):
    flags = [flag for flag in msvd_flags(tmp_path, NUMBERS) if 'motion' not in flag]
    run = prepared('msvd', *flags[:2], f'--out={tmp_path / "data"}')
    manifest = Manifest.load(tmp_path / 'data')
    assert manifest.widths == {'appearance': 8, 'motion': 1, 'object': 1}
    assert sorted(manifest.missing['motion']) == sorted(manifest.missing['object']) == [*NUMBERS]
    assert '--config.data.object_dim=1' in run.stdout


def test_a_dry_run_tells_all_and_writes_nothing(tmp_path):
    flags = msvd_flags(tmp_path, ['a_1_2', 'c_1_2'], motion=['a_1_2'])
    before = sorted(tmp_path.rglob('*'))
    run = prepared('msvd', *flags, f'--out={tmp_path / "data"}', '--dry_run')
    assert sorted(tmp_path.rglob('*')) == before
    for line in (
        *('train: 1 clips with 1 captions', 'val: 1 clips', 'a_1_2', 'no motion features'),
        f'would write {tmp_path / "data"}: clips of 10 frames, at most 5 objects each',
        'steps of the files become 10 frames',
    ):
        assert line in run.stdout
    assert_refused(prepare('msvd', *flags, f'--out={tmp_path}', '--dry_run'), 'exists already')


def test_a_dry_run_finds_mistyped_and_empty_presets_without_loading_any(tmp_path):
    pytest.importorskip('keras_hub')
    captions, videos = write_world(tmp_path)
    flags = ['own', f'--annotations={captions}', f'--videos={videos}', f'--out={tmp_path / "out"}']
    flags.append('--dry_run')
    prepared(*flags)  # with the names by default, of which no weights are here
    assert_refused(
        prepare(*flags, '--detector=keras:dfine_smal_coco'), 'did you mean dfine_small_coco'
    )
    assert_refused(prepare(*flags, f'--frame_encoder=keras:{videos}'), 'is not a Keras Hub preset')
    assert_refused(prepare(*flags, '--clip_encoder=onnx:m'), 'm')


def test_own_videos_by_any_number_of_workers(tmp_path):
    captions, videos = write_world(tmp_path)
    (videos / 'train' / 'train00002.mp4').write_bytes(b'')
    flags = ['own', f'--annotations={captions}', f'--videos={videos}', '--extractor=pixels']
    outs = [tmp_path / f'by{workers}' for workers in (1, 2)]
    for out, workers in zip(outs, (1, 2), strict=True):
        run = prepared(*flags, f'--out={out}', f'--workers={workers}')
        assert 'left out "train00002"' in run.stderr
        assert '--config configs/own.py' in run.stdout
    assert contents(outs[0]) == contents(outs[1])
    manifest = Manifest.load(outs[0])
    assert (manifest.splits['train']['clips'], manifest.splits['val']['clips']) == (5, 2)
    assert manifest.extractor['name'] == 'pixels'
    card = verify(outs[0])
    assert 'train00002' in card.stdout
    assert (outs[0] / 'contact_sheet.png').stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_extraction_leaves_no_half_file_and_goes_on(tmp_path, number):
    captions, videos = write_world(tmp_path, num=30)
    out = tmp_path / 'data'
    arguments = ['own', f'--annotations={captions}', f'--videos={videos}', '--extractor=pixels']
    arguments += ['--workers=1']
    work = tmp_path / '.data.work'
    command = fake_run.command('prepare', *arguments, f'--out={out}')
    with subprocess.Popen(command, cwd=fake_run.ROOT) as process:
        while process.poll() is None and not any(work.glob('*.npz')):
            time.sleep(0.02)
        process.send_signal(number)
    assert not out.exists() and any(work.glob('*.npz'))
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert not list(tmp_path.glob('.data.*.tmp'))
    run = prepared(*arguments, f'--out={out}')
    assert 'clips were finished before: resuming' in run.stderr
    assert not work.exists() and not list(tmp_path.glob('.data.*.tmp'))
    prepared(*arguments, f'--out={tmp_path / "whole"}')
    assert contents(out) == contents(tmp_path / 'whole')


def test_msvd_reads_the_real_subset(tmp_path):
    folder = real_data('msvd')
    kinds = ('appearance', 'motion', 'objects')
    flags = [f'--{kind}={folder / "features" / kind}.hdf5' for kind in kinds]
    flags.append(f'--grid={folder}/features/grid_lite0.hdf5')
    out = tmp_path / 'data'
    run = prepared('msvd', f'--annotations={folder / "annotations"}', *flags, f'--out={out}')
    assert 'test' in run.stderr and '27763' in run.stderr.replace(',', '')
    manifest = Manifest.load(out)
    counts = {split: counts['clips'] for split, counts in manifest.splits.items()}
    assert counts == {'train': 285, 'val': 22, 'test': 71}
    assert (manifest.frames, manifest.objects) == (10, 5)
    assert manifest.widths == {'appearance': 1024, 'motion': 359, 'object': 1024, 'grid': 320}
    assert manifest.cells == 16 and 'grid' not in manifest.missing
    assert len(manifest.missing['motion']) == 9  # the tenth of the folder has no captions


def test_toy_renders_extracts_and_keeps_the_videos(tmp_path):
    out = tmp_path / 'data'
    prepared('toy', f'--out={out}', '--clips=train=9,val=2', '--seed=3')
    manifest = Manifest.load(out)
    assert {split: counts['clips'] for split, counts in manifest.splits.items()} == {
        'train': 9, 'val': 2,
    }  # fmt: skip
    assert manifest.extractor['name'] == 'pixels'
    clips = list(records.read_clips(out, 'train'))
    videos = sorted(path.stem for path in (out / 'videos' / 'train').iterdir())
    assert [clip.id for clip in clips] == videos
    for clip in clips:
        assert clip.true_box.shape[0] == manifest.frames
        assert clip.true_box.any() and clip.object_mask.any()
    assert_found_where_drawn(clips)


def assert_found_where_drawn(clips):
    """Most proposed boxes of a clip lie over a thing that the renderer drew in the same frame."""
    hits = []
    for clip in clips:
        centre = (clip.box[..., :2] + clip.box[..., 2:]) / 2
        low, high = clip.true_box[..., None, :, :2], clip.true_box[..., None, :, 2:]
        inside = ((centre[..., None, :] >= low) & (centre[..., None, :] <= high)).all(-1).any(-1)
        hits.append(inside[clip.object_mask])
    assert np.concatenate(hits).mean() > 0.8


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_in_any_process(tmp_path):
    prepared('toy', '--clips=train=12', '--workers=1', f'--out={tmp_path / "1"}')
    # A new interpreter, which hashes strings in its own way.
    flags = ['--clips=train=12', '--workers=2', f'--out={tmp_path / "2"}']
    subprocess.run(fake_run.command('prepare', 'toy', *flags), cwd=fake_run.ROOT, check=True)
    assert contents(tmp_path / '1') == contents(tmp_path / '2')


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ([], 'name a source to prepare: toy, msvd, '),
        (['imagenet'], 'name a source to prepare: toy, msvd, '),
        (['toy'], '--out is missing'),
        (['toy', '--out=x', '--clips=train'], 'clips must look like train=1500'),
        (['toy', '--out=x', '--motion=m.hdf5'], '--motion has no meaning for toy'),
        (['toy', '--out=.'], 'exists already'),
        (['toy', '--out=x', '--world=distractors=9'], 'config.toy.distractors is 9'),
        (['toy', '--out=x', '--world=distractors=few'], "--world is 'distractors=few', but must"),
        (['toy', '--out=x', '--world=distractor=1'], 'did you mean --config.toy.distractors'),
        (['toy', '--out=/dev/null/x'], '/dev/null/x cannot be made (/dev/null: File exists)'),
        (['toy', '--out=x', '--num_frames=0'], 'num_frames'),
        (['msvd', '--out=x'], 'pass either --videos, or feature files'),
        (['msvd', '--out=x', '--videos=v'], '--annotations is missing'),
        (['msvd', '--out=x', '--seed=1'], '--seed has no meaning for msvd'),
        (['msvd', '--out=x', '--beam=--a=1'], '--beam has no meaning for a run without --runner'),
        (['msvd', '--out=gs://b/x'], '--out=gs://b/x is not on a file system: mount the bucket'),
        (['msvd', '--out=x', '--videos=gs://b/v'], '--videos=gs://b/v is not on a file system'),
        (['msvd', '--out=x', '--boxes=s3://b/h'], '--boxes=s3://b/h is not on a file system'),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence):
    assert_refused(prepare(*arguments), sentence)


@pytest.mark.parametrize(
    ('command', 'arguments', 'sentence'),
    [
        ('inspect_file', [], 'name one file or folder to inspect'),
        ('inspect_file', ['absent.hdf5'], 'absent.hdf5'),
        ('verify', [], 'name one data folder to verify'),
        ('verify', ['absent'], 'absent'),
    ],
)
def test_what_cannot_be_inspected_or_verified_is_one_sentence(command, arguments, sentence):
    assert_refused(fake_run.run(command, *arguments), sentence)


@pytest.mark.parametrize('name', ['inspect', 'verify'])
def test_inspect_and_verify_are_also_started_by_prepare(tmp_path, name):
    folder = fake_data.fake_data_folder(tmp_path, train=2)
    finished = prepare(name, folder)
    assert finished.returncode == 0, finished.stderr
    assert f'{folder}: ' in finished.stdout and 'train' in finished.stdout


def test_flags_that_would_be_ignored_are_refused(tmp_path):
    captions, videos = write_world(tmp_path)
    own = ['own', f'--annotations={captions}', '--out=x']
    pixels = [*own, f'--videos={videos}', '--extractor=pixels']
    assert_refused(
        prepare(*pixels, '--nodes=grid'), '--nodes has no meaning for --extractor=pixels'
    )
    assert_refused(prepare(*pixels, '--boxes=b.h5'), '--boxes has no meaning for --videos')
    features = [*own, '--appearance=a.hdf5', '--dtype=bfloat16']
    assert_refused(prepare(*features), '--dtype has no meaning for --appearance')
    work_dir = [*own, '--appearance=a.hdf5', '--work_dir=w']
    assert_refused(
        prepare(*work_dir), '--work_dir has no meaning for --appearance without --runner'
    )
    grid = [*own, f'--videos={videos}', '--nodes=grid', '--num_objects=5']
    assert_refused(prepare(*grid), 'a grid needs a square number of objects')


def test_a_dtype_that_reaches_no_model_is_said(tmp_path):
    captions, videos = write_world(tmp_path)
    model = tmp_path / 'm.onnx'
    model.write_bytes(b'')
    flags = ['own', f'--annotations={captions}', f'--videos={videos}', f'--out={tmp_path / "out"}']
    flags += [f'--detector=onnx:{model}', f'--frame_encoder=onnx:{model}', '--dry_run']
    said = '--dtype=bfloat16 changes nothing'
    assert said in prepared(*flags, '--dtype=bfloat16').stdout
    assert said not in prepared(*flags).stdout


def test_videos_that_do_not_fit_are_one_sentence(tmp_path):
    captions, videos = write_world(tmp_path)
    flags = ['own', f'--annotations={captions}', '--extractor=pixels', f'--out={tmp_path / "out"}']
    shutil.copy(videos / 'train' / 'train00000.mp4', videos / 'val')
    assert_refused(prepare(*flags, f'--videos={videos}'), 'may both be clip train00000')
    assert_refused(prepare(*flags, f'--videos={videos / "absent"}'), 'does not exist')
    (tmp_path / 'empty').mkdir()
    assert_refused(prepare(*flags, f'--videos={tmp_path / "empty"}'), 'holds no video file')
    assert not (tmp_path / 'out').exists()


def test_equal_names_in_two_folders_are_told_apart_or_not_asked_for(tmp_path):
    captions, videos = write_world(tmp_path, num=2)
    names = 'cats/001', 'dogs/001', 'left/other', 'right/other'
    for name in names:
        (videos / name).parent.mkdir()
        shutil.copy(videos / 'train' / 'train00000.mp4', videos / f'{name}.mp4')
    captions.write_text('clip,caption,split\ncats/001,a cat,train\ndogs/001.mp4,a dog,train\n')
    out = tmp_path / 'out'
    flags = ['own', f'--annotations={captions}', f'--videos={videos}', '--extractor=pixels']
    run = prepared(*flags, f'--out={out}', '--dry_run')
    assert f'cats/001  {videos}/cats/001.mp4' in run.stdout
    assert f'{videos}/dogs/001.mp4' in run.stdout
    prepared(*flags, f'--out={out}')
    assert Manifest.load(out).splits['train']['clips'] == 2
    assert verify(out).returncode == 0
    captions.write_text('clip,caption,split\n001,a cat,train\n')
    ambiguous = prepare(*flags, f'--out={tmp_path / "two"}')
    assert_refused(ambiguous, f'{videos}/cats/001.mp4 and {videos}/dogs/001.mp4 may both be clip')


def test_msvd_files_that_do_not_fit_are_one_sentence(tmp_path):
    flags = msvd_flags(tmp_path, ['clip1', 'clip2'])
    out = tmp_path / 'data'
    assert_refused(prepare('msvd', *flags, f'--out={out}'), "keys are like 'clip1'")
    (tmp_path / 'm.hdf5').write_text('no')
    assert_refused(prepare('msvd', *flags, f'--out={out}'), 'm.hdf5')
    (tmp_path / 'm.hdf5').unlink()
    assert_refused(prepare('msvd', *flags, f'--out={out}'), 'm.hdf5')
    assert not out.exists()


def assert_refused(run, sentence):
    assert run.returncode == 2, run.stderr
    assert sentence in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr


def test_help_names_the_sources_and_their_flags():
    run = prepared('--help')
    for word in ('toy', 'msvd', 'msrvtt', 'own', '--annotations', '--num_frames', 'inspect'):
        assert word in run.stdout
