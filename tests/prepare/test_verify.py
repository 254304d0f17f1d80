import dataclasses
import shutil

import cv2
import numpy as np
import pytest

from configs import toy
from stg_jax import files
from stg_jax.config import parse_config
from stg_jax.data import records
from stg_jax.data.manifest import KINDS
from stg_jax.errors import UserError
from stg_jax.prepare.toy import prepare_toy
from stg_jax.prepare.verify.contact_sheet import draw_row
from stg_jax.prepare.verify.verify import verify
from tests.fakes.fake_data import fake_clips, fake_data_folder

DEFAULTS = {'max_words': 20, 'min_count': 1}


def write(tmp_path, splits, *, monkeypatch=None, **options):
    """Write clips, with `monkeypatch` also broken ones."""
    if monkeypatch:
        monkeypatch.setattr(records, 'check_clip', lambda clip: None)
    folder = tmp_path / 'data'
    records.write_data_folder(folder, splits, data_set='x', extractor={'name': 'y'}, **options)
    return folder


def change_manifest(folder, change):
    manifest = files.read_json(folder / 'manifest.json')
    change(manifest)
    files.write_json(folder / 'manifest.json', manifest)


def remarks_of(card):
    """Return the remarks that do not hold for all these random clips without videos."""
    usual = ('contact sheet', 'frames have no object')
    return [text for text in card.remarks if not any(words in text for words in usual)]


def test_a_sound_folder_has_no_problem_and_its_card_counts_right(tmp_path):
    folder = fake_data_folder(tmp_path, train=7, val=3, test=2, shard_bytes=2000)
    card = verify(folder, **DEFAULTS)
    assert (card.problems, remarks_of(card)) == ([], [])
    for split, summary in card.splits.items():
        clips = list(records.read_clips(folder, split))
        captions = [clip.captions for clip in clips]
        lengths = [len(text.split()) for texts in captions for text in texts]
        assert (summary.clips, summary.captions) == (len(clips), len(lengths))
        counts = list(map(len, captions))
        assert summary.captions_per_clip == (min(counts), np.median(counts), max(counts))
        assert summary.words_per_caption == (min(lengths), np.median(lengths), max(lengths))
        assert summary.words == sum(lengths)
        objects = np.concatenate([clip.object_mask.sum(1) for clip in clips])
        assert list(summary.objects_per_frame) == np.bincount(objects).tolist()
        labels = np.concatenate([clip.label[clip.object_mask] for clip in clips])
        assert summary.different_labels == len(set(labels.tolist()))


def test_the_card_is_kept_as_json_and_fits_a_page(tmp_path):
    folder = fake_data_folder(tmp_path)
    card = verify(folder, **DEFAULTS)
    kept = files.read_json(folder / 'data_card.json')
    assert kept['splits']['val']['clips'] == 3
    assert kept['remarks'] == list(card.remarks)
    lines = card.text().replace(str(tmp_path), '').splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 100
    assert 'problems   none' in lines


def test_vocabulary_coverage_by_hand(tmp_path):
    train, val = fake_clips(2), fake_clips(1, prefix='val')
    train = [dataclasses.replace(clip, captions=('a dog runs', 'a dog')) for clip in train]
    val = [dataclasses.replace(val[0], captions=('a cat runs', 'a cat ' + 'sits ' * 4))]
    folder = write(tmp_path, {'train': train, 'val': val})
    summary = verify(folder, max_words=5, min_count=1).splits['val']
    assert summary.known_words == pytest.approx(3 / 9)  # a, runs, a
    assert summary.known_different_words == pytest.approx(2 / 4)
    assert list(summary.unknown_words.items()) == [('sits', 4), ('cat', 2)]
    assert summary.captions_cut == 1
    rarer = verify(folder, max_words=5, min_count=3)
    assert rarer.splits['val'].known_words == pytest.approx(2 / 9)  # runs is twice in train
    assert rarer.splits['train'].known_words == pytest.approx(8 / 10)


def test_a_damaged_shard_is_named_and_the_other_splits_are_read(tmp_path):
    folder = fake_data_folder(tmp_path, train=8, shard_bytes=2000)
    shard = folder / 'clips-train.tfrecord-00001'
    data = bytearray(shard.read_bytes())
    data[500] ^= 1
    shard.write_bytes(data)
    (folder / 'clips-val.tfrecord-00000').unlink()
    card = verify(folder, **DEFAULTS)
    assert len(card.problems) == 2
    assert 'tfrecord-00001 is damaged at record 1 of 3' in card.problems[0]
    assert 'clips-val.tfrecord-00000 is missing' in card.problems[1]
    assert 0 < card.splits['train'].clips < 8
    assert card.splits['test'].clips == 2


def test_damaged_captions_keep_no_record_from_being_read(tmp_path):
    folder = fake_data_folder(tmp_path)
    (folder / 'captions-train.jsonl').write_text('["train_0", [')
    card = verify(folder, **DEFAULTS)
    assert len(card.problems) == 1
    assert 'captions-train.jsonl is damaged' in card.problems[0]
    assert card.splits['train'].clips == 7


def change(clip, **arrays):
    """Return `clip` with some entries of its arrays set: kind=(index, value)."""
    changed = {kind: getattr(clip, kind).copy() for kind in arrays}
    for kind, (index, value) in arrays.items():
        changed[kind][index] = value
    return dataclasses.replace(clip, **changed)


@pytest.mark.parametrize(
    ('changes', 'problem'),
    [
        ({'motion': ((0, 0), np.nan)}, 'motion features hold NaN'),
        ({'object': ((0, 0, 0), np.inf)}, 'object features hold NaN or infinity'),
        ({'box': ((0, 0, 2), 1.5)}, 'box leaves [0, 1]'),
        ({'box': ((0, 0), (0.5, 0, 0.1, 1))}, 'x1 <= x2'),
        ({'score': ((0, 0), -1)}, 'score leaves [0, 1]'),
        ({'appearance': ((), 0)}, 'all appearance features are zero'),
        ({'object': ((), 0)}, 'all object features are zero'),
    ],
)
def test_broken_clips_are_named_once_with_their_number(tmp_path, monkeypatch, changes, problem):
    clips = fake_clips(6)
    for i in (2, 4, 5):
        clips[i] = change(clips[i], **changes)
    splits = {'train': fake_clips(2, prefix='train'), 'val': clips}
    card = verify(write(tmp_path, splits, monkeypatch=monkeypatch), **DEFAULTS)
    assert len(card.problems) == 1
    assert card.problems[0].startswith('3 clips, the first clip2: ')
    assert problem in card.problems[0]


def test_listed_zeros_are_no_problem_but_unlisted_ones_are(tmp_path):
    clips = fake_clips(4)
    clips[2] = change(clips[2], appearance=((), 0), motion=((), 0))
    clips[3] = change(clips[3], motion=((), 0))
    missing = {'appearance': ['clip2'], 'motion': ['clip2', 'clip0']}
    card = verify(write(tmp_path, {'train': clips}, missing=missing), **DEFAULTS)
    assert card.problems == [
        'clip clip0: the manifest lists the motion features as missing, but there are some'
    ]
    assert any(text.startswith('clip clip3: all motion features are zero') for text in card.remarks)


def test_an_id_that_occurs_twice_is_a_problem(tmp_path):
    folder = fake_data_folder(tmp_path, train=3, val=2)
    (tmp_path / 'b').mkdir()
    other = write(tmp_path / 'b', {'val': fake_clips(2, seed=1, prefix='train_')})
    for path in other.glob('*val*'):
        shutil.copy(path, folder)
    info = files.read_json(folder / 'dataset_info.json')
    stated = files.read_json(other / 'dataset_info.json')['splits'][0]
    info['splits'] = [stated if split['name'] == 'val' else split for split in info['splits']]
    files.write_json(folder / 'dataset_info.json', info)
    captions = files.read_json(other / 'manifest.json')['splits']['val']
    change_manifest(folder, lambda manifest: manifest['splits'].update(val=captions))
    card = verify(folder, **DEFAULTS)
    assert card.problems == ['2 clips, the first train_0: the id occurs twice, in train and val']


def test_source_videos_in_two_splits_are_told(tmp_path):
    def cut_from(prefix, *sources):
        clips = fake_clips(len(sources), prefix=prefix)
        return [dataclasses.replace(c, source=s) for c, s in zip(clips, sources, strict=True)]

    splits = {
        'train': cut_from('train', 'one', 'two', 'two', ''),
        'val': cut_from('val', 'three', ''),
        'test': cut_from('test', 'two', 'three', 'four'),
    }
    card = verify(write(tmp_path, splits), **DEFAULTS)
    assert [text.partition(':')[0] for text in remarks_of(card)] == [
        '1 source videos have clips in train and in test, such as two',
        '1 source videos have clips in val and in test, such as three',
    ]
    assert [summary.sources for summary in card.splits.values()] == [2, 1, 3]


@pytest.mark.parametrize(
    ('damage', 'sentence'),
    [
        ({'splits': {'train': 5}}, 'splits must be clips and captions for each split, found'),
        ({'splits': {'train': {'clips': 5}}}, 'splits must be'),
        ({'widths': {'appearance': 8, 'motion': 6}}, 'widths must be numbers for appearance, mo'),
        ({'scale': {}}, 'scale must be numbers above 0 for appearance, motion, object, found'),
        ({'scale': dict.fromkeys(KINDS, 0)}, 'scale must be'),
        ({'missing': None}, "missing must be lists of clips, found 'None': prepare the data again"),
        ({'missing': {'motion': 'clip'}}, 'missing must be'),
        ({'frames': True}, 'frames must be a number'),
        ({'data_set': 3}, 'data_set must be text'),
        ({'sources': []}, 'sources must be an object'),
        ({'extractor': 'x'}, 'extractor must be an object'),
    ],
)
def test_a_damaged_manifest_is_one_sentence(tmp_path, damage, sentence):
    folder = fake_data_folder(tmp_path)
    change_manifest(folder, lambda manifest: manifest.update(damage))
    with pytest.raises(UserError, match=rf'manifest\.json is damaged: {sentence}'):
        verify(folder, **DEFAULTS)


def test_manifest_and_captions_file_must_agree_with_the_shards(tmp_path):
    folder = fake_data_folder(tmp_path)

    def change(manifest):
        manifest['splits']['train']['captions'] += 1
        manifest['widths']['motion'] = 7
        manifest['frames'] = 5

    change_manifest(folder, change)
    path = folder / 'captions-val.jsonl'
    path.write_text(path.read_text().replace('val_1", ["', 'val_1", ["other '))
    problems = verify(folder, **DEFAULTS).problems
    assert '12 clips, the first train_0: the manifest says 7 channels of motion' in problems[1]
    assert '(5, 3) frames and objects, but there are (4, 3)' in problems[0]
    assert problems[2].startswith('train: the manifest says 7 clips with')
    assert problems[3] == ('clip val_1: captions-val.jsonl has other captions than the shards')
    assert len(problems) == 4


def test_what_is_unusual_is_remarked(tmp_path):
    clips = fake_clips(3)
    clips[2] = change(clips[2], box=((0, 0), (0.1, 0.2, 0.1, 0.4)))
    val = [
        dataclasses.replace(fake_clips(2, prefix='v')[1], captions=()),
    ]
    folder = write(tmp_path, {'train': clips, 'val': val})
    failure = {'clip': 'x7', 'file': 'x7.avi', 'reason': 'x7.avi is no readable video'}
    files.write_json(folder / 'failures.json', [failure])
    card = verify(folder, **DEFAULTS)
    assert card.problems == []
    assert 'val: 100% of the frames have no object' in card.remarks
    assert remarks_of(card) == [
        'there is no test split',
        'clip clip2: an object has a box without area',
        'clip v1: there is no caption',
        '1 clips could not be made and are left out, see failures.json, such as x7: '
        'x7.avi is no readable video',
    ]
    for text in ('[', '[1]', '[{"clip": "x"}]', '3'):
        (folder / 'failures.json').write_text(text)
        assert 'failures.json is damaged' in verify(folder, **DEFAULTS).problems[0]


def test_ids_cannot_reach_the_terminal_as_commands(tmp_path, monkeypatch):
    clip = dataclasses.replace(fake_clips(1)[0], id='a\x1b[2J\u202e')
    clip = change(clip, appearance=((), 0))
    card = verify(write(tmp_path, {'train': [clip]}), **DEFAULTS)
    assert 'clip a\\x1b[2J\\u202e: all appearance' in card.text()


def test_a_folder_that_cannot_be_written_still_gets_its_card(tmp_path):
    folder = fake_data_folder(tmp_path)
    (folder / 'data_card.json').mkdir()
    card = verify(folder, **DEFAULTS)
    assert 'the card is not kept' in card.remarks[-1]
    assert card.splits['train'].clips == 7
    assert not list(folder.glob('.*.tmp'))


def test_refuses_what_is_no_data_folder(tmp_path):
    with pytest.raises(UserError, match=r'manifest.json does not exist'):
        verify(tmp_path / 'nowhere', **DEFAULTS)
    folder = fake_data_folder(tmp_path)
    with pytest.raises(UserError, match='holds no video file'):
        verify(folder, tmp_path, **DEFAULTS)


@pytest.fixture(scope='module')
def toy_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy') / 'data'
    clips = {'train': 3, 'val': 2, 'test': 1}
    prepare_toy(
        folder,
        num_clips=clips,
        world=parse_config(toy.get_config()).toy,
        num_frames=4,
        num_objects=5,
        workers=1,
    )
    return folder


def test_the_sheet_shows_clips_of_every_split_from_the_videos_at_hand(toy_folder, tmp_path):
    card = verify(toy_folder, **DEFAULTS)
    assert (card.problems, card.remarks) == ([], [])
    sheet = cv2.imread(card.contact_sheet)
    five_rows = sheet.shape[0]
    assert sheet.shape[1] == 4 * 124
    moved = tmp_path / 'moved'
    shutil.copytree(toy_folder, moved)
    (moved / 'videos').rename(tmp_path / 'videos')
    (moved / 'contact_sheet.png').unlink()
    card = verify(moved, **DEFAULTS)
    assert card.remarks == ['no video is at hand for a contact sheet']
    assert not card.contact_sheet and not (moved / 'contact_sheet.png').exists()
    broken = next((tmp_path / 'videos' / 'test').iterdir())
    broken.write_bytes(b'')
    card = verify(moved, tmp_path / 'videos', **DEFAULTS)
    assert 'clip test00000 is not on the contact sheet' in card.remarks[0]
    assert cv2.imread(card.contact_sheet).shape[0] == five_rows * 4 // 5


def test_a_row_draws_boxes_where_they_are_and_any_text():
    clip = fake_clips(2)[1]
    clip = change(
        clip,
        object_mask=((0, 0), True),
        box=((0, 0), (0.25, 0.5, 0.75, 1)),
        score=((0, 0), 1),
    )
    frames = np.full((4, 60, 80, 3), 255, np.uint8)
    row = draw_row(frames, clip, 'ok', side=120)
    drawn = np.argwhere((row[:120] < 250).any(axis=-1))
    np.testing.assert_allclose(drawn.min(0), (60, 40), atol=1)
    np.testing.assert_allclose(drawn.max(0), (119, 120), atol=1)
    for title in ('', 'caf\u00e9 \u4eba \ud800 \x00\n', 'word ' * 500):
        assert draw_row(frames, clip, title).shape == row.shape
    long = dataclasses.replace(
        clip,
        **{
            name: np.repeat(getattr(clip, name), 10, axis=0)
            for name in ('object_mask', 'box', 'score')
        },
    )
    assert draw_row(np.repeat(frames, 10, axis=0), long, '').shape[1] == 10 * 164
    for shape in ((4, 1, 1, 3), (4, 1, 5000, 3), (4, 3000, 1, 3)):
        assert max(draw_row(np.zeros(shape, np.uint8), clip, 'x').shape) < 1000
