import json
import zipfile

import pytest

from stg_jax.datasets import msrvtt, text_files
from stg_jax.datasets.registry import read_annotations
from stg_jax.errors import UserError
from tests.fakes.real_data import real_data


def document(captions, *, splits=None, first=0):
    """Return a videodatainfo with one sentence for each (clip, caption)."""
    clips = dict.fromkeys(clip for clip, _ in captions)
    return {
        'info': {},
        'videos': [
            {
                'video_id': clip,
                'url': f'https://www.youtube.com/watch?t=3&v=id_{clip}',
                **({'split': splits[clip]} if splits else {}),
            }
            for clip in clips
        ],
        'sentences': [
            {'video_id': clip, 'caption': caption, 'sen_id': first + i}
            for i, (clip, caption) in enumerate(captions)
        ],
    }


def write_zip(path, **documents):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('category.txt', 'music 0')
        archive.writestr('__MACOSX/._train.json', b'\x00\x05\x16\x07')
        for name, each in documents.items():
            archive.writestr(f'inside/{name}.json', json.dumps(each))


TRAIN_VAL = document(
    [('video6513', 'A man RUNS.'), ('video7', "it's a dog"), ('video6512', 'x'), ('video7', 'y')]
)
TEST = document([('video9999', 'a cat'), ('video7010', 'two cats')], first=4)
SPLITS = {
    'train': {'video7': ['it s a dog', 'y'], 'video6512': ['x']},
    'val': {'video6513': ['a man runs']},
    'test': {'video7010': ['two cats'], 'video9999': ['a cat']},
}


def test_reads_plain_zipped_one_file_and_two_alike(tmp_path):
    both = {kind: TRAIN_VAL[kind] + TEST[kind] for kind in ('videos', 'sentences')}
    (tmp_path / 'all.json').write_text(json.dumps(both))
    folder = tmp_path / 'two'
    folder.mkdir()
    write_zip(folder / 'train_val.zip', train=TRAIN_VAL)
    (folder / 'test_videodatainfo.json').write_text(json.dumps(TEST))
    (folder / 'readme.txt').write_text('x')
    write_zip(tmp_path / 'all.zip', train=TRAIN_VAL, test=TEST)
    found = [msrvtt.read(tmp_path / name) for name in ('all.json', 'two', 'all.zip')]
    assert found[0] == found[1] == found[2]
    assert found[0].splits == SPLITS
    assert [list(clips) for clips in found[0].splits.values()] == [
        ['video7', 'video6512'], ['video6513'], ['video7010', 'video9999'],
    ]  # fmt: skip
    assert found[0].source['video7'] == 'id_video7'
    assert found[0].number['video0'] == 0 and found[0].number['video9999'] == 9999
    assert found[0].notes[1] == ('val: 1 clips with 1 captions, but 497 with 9,940 are published')


def test_a_sentence_in_two_files_counts_once(tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps(TRAIN_VAL))
    write_zip(tmp_path / 'a.zip', train=TRAIN_VAL)
    assert msrvtt.read(tmp_path) == msrvtt.read(tmp_path / 'a.json')
    other = document([('video6513', 'Something else')])
    (tmp_path / 'b.json').write_text(json.dumps(other))
    with pytest.raises(UserError, match='disagree about sentence 0 of video6513'):
        msrvtt.read(tmp_path)


def test_reads_captions_by_sentence_id(tmp_path):
    path = tmp_path / 'train.json'
    path.write_text(json.dumps({'video7': {'1': "it's a dog", '3': 'y'}, 'video0': {'5': '!'}}))
    found = read_annotations('msrvtt', path)
    assert found.splits['train'] == {'video0': [], 'video7': ['it s a dog', 'y']}
    assert found.source == {}
    assert found.notes[-1] == '1 captions without any word are left out'


def sentences(*rows):
    """Return a document of (clip, sentence id, caption)."""
    keys = ('video_id', 'sen_id', 'caption')
    return json.dumps({'sentences': [dict(zip(keys, row, strict=True)) for row in rows]})


def test_a_sentence_id_twice_in_one_file_is_refused_for_what_it_is(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(sentences(('video0', 0, 'a man'), ('video0', 0, 'a dog')))
    with pytest.raises(UserError, match='two captions of video0 with the sentence id 0'):
        msrvtt.read(path)
    # The ids of other clips are others, and an exact copy loses nothing.
    rows = [('video0', 0, 'a man'), ('video1', 0, 'a dog'), ('video0 ', 0, 'A man.')]
    path.write_text(sentences(*rows))
    assert msrvtt.read(path).splits['train'] == {'video0': ['a man'], 'video1': ['a dog']}


@pytest.mark.parametrize(
    'images',
    [
        [{'id': 'video7'}, {'id': 'video6513'}],
        [{'id': 7, 'file_name': 'all/video7.mp4'}, {'id': 6513, 'file_name': 'video6513.mp4'}],
        [{'id': 7}, {'id': 6513}],
        [{'id': 0, 'file_name': 'video7'}, {'id': 1, 'file_name': 'video6513'}],
    ],
)
def test_reads_coco_style_annotations(tmp_path, images):
    texts = [(0, 'A man RUNS.'), (1, 'a dog'), (0, 'two men')]
    rows = [
        {'id': i, 'image_id': images[image]['id'], 'caption': text}
        for i, (image, text) in enumerate(texts)
    ]
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps({'images': images, 'annotations': rows, 'type': 'captions'}))
    found = msrvtt.read(path)
    assert found.splits == {
        'train': {'video7': ['a man runs', 'two men']},
        'val': {'video6513': ['a dog']},
        'test': {},
    }


def test_hidden_files_and_a_zip_that_unpacks_to_too_much(tmp_path, monkeypatch):
    (tmp_path / 'a.json').write_text(json.dumps(TRAIN_VAL))
    (tmp_path / '._a.json').write_bytes(b'\x00\x05\x16\x07')
    (tmp_path / '._b.zip').write_bytes(b'\x00\x05\x16\x07')
    assert msrvtt.read(tmp_path) == msrvtt.read(tmp_path / 'a.json')
    monkeypatch.setattr(text_files, '_MAX_BYTES', 1000)
    bomb = tmp_path / 'bomb.zip'
    with zipfile.ZipFile(bomb, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in 'ab':  # neither alone is too large
            archive.writestr(f'{name}.json', '{"video1": {"0": "a man"}}' + ' ' * 700)
    with pytest.raises(UserError, match='unpacks to 1,452 bytes'):
        msrvtt.read(bomb)


def test_the_official_split_wins_and_the_difference_is_told(tmp_path):
    splits = {'video6513': 'validate', 'video7': 'test', 'video6512': 'train'}
    each = document([(clip, 'a man') for clip in splits], splits=splits)
    (tmp_path / 'a.json').write_text(json.dumps(each))
    found = msrvtt.read(tmp_path / 'a.json')
    assert list(found.splits['train']) == ['video7', 'video6512']
    assert found.notes[-1] == (
        '1 clips are in another split than the official, such as video7 in test instead of train'
    )


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('{"sentences": [', 'not valid JSON'),
        ('[' * 100_000, 'not valid JSON'),
        ('[]', 'is a JSON list'),
        ('{"info": 1}', 'is neither videodatainfo'),
        ('{"sentences": [{"video_id": "video1"}]}', 'caption 1 has no sen_id'),
        ('{"sentences": [{"video_id": "video1", "sen_id": 0}]}', 'caption 1 has no caption'),
        ('{"sentences": [{"sen_id": 0, "caption": "a man"}]}', 'caption 1 has no video_id'),
        ('{"sentences": [5]}', 'caption 1 is no object with video_id, sen_id, caption'),
        ('{"sentences": 3}', 'has no list of captions'),
        ('{"sentences": [], "videos": [3]}', "'videos' is no list of objects"),
        ('{"annotations": [], "images": 3}', "'images' is no list of objects"),
        ('{"annotations": [{"image_id": "video1", "caption": "x"}]}', 'caption 1 has no id'),
        ('{"video1": {"0": "a man"}, "video1": {"1": "a dog"}}', "has 'video1' twice in one"),
        ('<!DOCTYPE html><html>', 'is a web page, not data'),
        ('version https://git-lfs.github.com/spec/v1\noid sha256:1', 'is a pointer of Git LFS'),
        ('{"clip1": {"0": "a man"}}', "a clip is called 'clip1', expected videoN"),
        ('{"video1": {"0": 5}}', 'caption 0 of video1 is not text'),
        (json.dumps(document([('video10000', 'a man')])), '2017 challenge'),
        ('{"sentences": [], "videos": [{"video_id": "video12999"}]}', '2017 challenge'),
    ],
)
def test_refuses_broken_annotations(tmp_path, text, sentence):
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(UserError, match=sentence) as error:
        msrvtt.read(tmp_path)
    assert 'a.json' in str(error.value)


def test_refuses_broken_zips_and_empty_folders(tmp_path):
    with pytest.raises(UserError, match='holds no JSON file'):
        msrvtt.read(tmp_path)
    with pytest.raises(UserError, match='do not exist'):
        msrvtt.read(tmp_path / 'nowhere')
    write_zip(tmp_path / 'a.zip', train=TRAIN_VAL)
    data = bytearray((tmp_path / 'a.zip').read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / 'a.zip').write_bytes(data)
    with pytest.raises(UserError, match=r'a.zip cannot be unpacked'):
        msrvtt.read(tmp_path / 'a.zip')
    (tmp_path / 'a.zip').write_bytes(b'PK')
    with pytest.raises(UserError, match=r'a.zip cannot be unpacked'):
        msrvtt.read(tmp_path)


def test_the_real_annotations_are_complete():
    found = msrvtt.read(real_data('msrvtt'))
    assert found.notes == []
    assert {split: len(clips) for split, clips in found.splits.items()} == {
        'train': 6513, 'val': 497, 'test': 2990,
    }  # fmt: skip
    counts = {len(captions) for clips in found.splits.values() for captions in clips.values()}
    assert counts == {20}
    assert len(found.source) == 10_000
    assert found.source['video0'] == '9lZi22qLlEo'
