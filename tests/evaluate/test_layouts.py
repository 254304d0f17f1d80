"""Files of captions in the layouts that other people's programs write: read right, or refused."""

import json
import time

import pytest

from stg_jax.errors import UserError
from stg_jax.evaluate.caption_files import read_predictions
from stg_jax.evaluate.reference_files import read_references, rename_clips

CAPTIONS = {'video7010': 'a man rides a horse', 'video7011': 'a dog runs'}


def write(path, value):
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding='utf-8', newline='')
    return path


def entries(key='image_id'):
    return [{key: clip, 'caption': caption} for clip, caption in CAPTIONS.items()]


def cells(make):
    """Return lines of a clip and a JSON cell of its caption."""
    lines = (f'{clip}\t{json.dumps(make(caption))}\n' for clip, caption in CAPTIONS.items())
    return ''.join(lines)


LAYOUTS = {
    'list.json': entries(),
    'video_id.json': entries('video_id'),
    'videoID.json': entries('videoID'),
    'plain.json': CAPTIONS,
    'lists.json': {clip: [caption] for clip, caption in CAPTIONS.items()},
    'wrapped_list.json': {'predictions': entries(), 'scores': {'CIDEr': 0.5}},
    'wrapped_object.json': {
        'predictions': {each['image_id']: [each] for each in entries()},
        'scores': {},
    },
    'rows.jsonl': '\n'.join(map(json.dumps, entries('video_id'))),
    'listed.jsonl': '\n'.join(
        json.dumps({'clip': clip, 'captions': [caption]}) for clip, caption in CAPTIONS.items()
    ),
    'cells.tsv': cells(lambda caption: [{'caption': caption, 'conf': 0.9}]),
    'object_cells.tsv': cells(lambda caption: {'caption': caption}),
    'list_cells.txt': cells(lambda caption: [caption]),
    'columns.csv': 'image_id,caption,score\n'
    + ''.join(f'{clip},"{caption}",1.5\n' for clip, caption in CAPTIONS.items()),
    'semicolons.csv': '\ufeffClip;Caption\r\n'
    + ''.join(f'{clip};{caption}\r\n' for clip, caption in CAPTIONS.items()),
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_predictions_of_every_layout_give_the_same_captions(tmp_path, name):
    assert read_predictions(write(tmp_path / name, LAYOUTS[name])) == CAPTIONS


@pytest.mark.parametrize('name', sorted(set(LAYOUTS) - {'semicolons.csv', 'listed.jsonl'}))
def test_references_are_read_in_the_layouts_of_predictions(tmp_path, name):
    found = read_references(write(tmp_path / name, LAYOUTS[name])).captions
    assert found == {clip: [caption] for clip, caption in CAPTIONS.items()}


def test_several_references_of_a_clip_are_in_a_cell_a_list_or_several_rows(tmp_path):
    two = ['a man rides', 'a person on a horse']
    for name, text in {
        'cell.tsv': f'a\t{json.dumps([{"caption": text} for text in two])}\n',
        'rows.tsv': ''.join(f'a\t{text}\n' for text in two),
        'rows.json': [{'image_id': 'a', 'caption': text} for text in two],
        'rows.jsonl': '\n'.join(json.dumps({'video_id': 'a', 'caption': text}) for text in two),
        'list.jsonl': json.dumps({'video_id': 'a', 'captions': two}),
        'rows.csv': 'video_id,caption\n' + ''.join(f'a,{text}\n' for text in two),
        'sentences.json': {'sentences': [{'video_id': 'a', 'caption': text} for text in two]},
        'mixed.json': {'a': two, 'b': 'a dog'},
    }.items():
        assert read_references(write(tmp_path / name, text)).captions['a'] == two, name


def test_a_caption_may_begin_as_json_does(tmp_path):
    lines = 'a\t[music] a man sings\nb\t{ a brace\nc\t[[[[[[\n'
    assert read_predictions(write(tmp_path / 'p.tsv', lines)) == {
        'a': '[music] a man sings',
        'b': '{ a brace',
        'c': '[[[[[[',
    }


@pytest.mark.parametrize(
    ('name', 'text', 'part'),
    [
        ('p.tsv', 'a\tx\nb\ta dog\t0.93\n', 'line 2: expected clip<TAB>caption, found 3 columns'),
        ('p.tsv', 'a\t[{"caption": "x"}, {"caption": "y"}]\n', 'list of 2 entries'),
        ('p.tsv', 'a\t[]\n', "'a' needs one caption"),
        ('p.tsv', 'a\t[{"text": "x"}]\n', "'a' needs one caption"),
        ('p.json', {'predictions': [{'caption': 'x'}]}, 'entry 0: expected an object'),
        ('p.json', {'predictions': {'a': ['x', 'y']}}, "'a' needs one caption"),
        ('p.csv', 'a,a dog\n', 'line 1 names 0 columns of clips'),
        ('p.csv', 'clip,video_id,caption\n1,2,x\n', 'names 2 columns of clips'),
        ('p.csv', 'clip,caption,caption\n1,x,y\n', 'names 2 columns of captions'),
        ('p.csv', 'clip,caption\na,one, two\n', 'line 2 has 3 fields and line 1 has 2'),
        ('p.csv', 'clip,caption\na,"one\n', 'is not valid CSV'),
        ('p.csv', 'clip,caption\n', 'holds no caption'),
        ('p.csv', '', 'names 0 columns'),
    ],
)
def test_files_that_are_not_one_caption_a_clip_are_refused(tmp_path, name, text, part):
    with pytest.raises(UserError) as error:
        read_predictions(write(tmp_path / name, text))
    assert part in str(error.value) and name in str(error.value)


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    for name in ('p.csv', 'p.tsv', 'p.jsonl', 'p.json'):
        (tmp_path / name).write_bytes(b'clip,caption\na,caf\xe9\n')
        with pytest.raises(UserError, match=name):
            read_predictions(tmp_path / name)


def test_references_with_a_third_column_are_refused(tmp_path):
    with pytest.raises(UserError, match='found 3 columns'):
        read_references(write(tmp_path / 'r.tsv', 'a\tx\t0.5\n'))


def test_sentences_that_are_numbered_are_those_of_msrvtt(tmp_path):
    sentence = {'video_id': 'video7010', 'sen_id': 0, 'caption': 'a man'}
    twice = [sentence, sentence | {'caption': 'a dog'}]
    with pytest.raises(UserError, match='two captions of video7010 with the sentence id 0'):
        read_references(write(tmp_path / 'r.json', {'sentences': twice}))


def test_vatex_references_are_english(tmp_path):
    clip = {'videoID': 'abc_000001_000011', 'enCap': ['A man runs.'], 'chCap': ['x']}
    path = write(tmp_path / 'vatex_test.json', [clip])
    assert read_references(path, 'test').captions == {'abc_000001_000011': ['A man runs.']}


def test_a_vatex_clip_with_half_of_a_character_in_its_name_is_refused(tmp_path):
    path = write(tmp_path / 'r.json', '[{"videoID": "a\\ud800_1_2", "enCap": ["x"]}]')
    with pytest.raises(UserError, match='holds a control character'):
        read_references(path)


@pytest.fixture
def msvd(tmp_path):
    """Return the references of three MSVD test clips, the corpus's clips 1301 to 1303."""
    folder = tmp_path / 'msvd'
    folder.mkdir()
    names = {f'clip{n}_1_2': f'vid{n}' for n in (1, 2, 3, 1301, 1302, 1303)}
    mapping = ''.join(f'{clip} {key}\n' for clip, key in names.items())
    write(folder / 'youtube_mapping.txt', mapping)
    for split, numbers in {'train': (1, 2, 3), 'test': (1301, 1302, 1303)}.items():
        lines = ''.join(f'vid{n}\ta man runs {n}\n' for n in numbers)
        write(folder / f'sents_{split}_lc_nopunc.txt', lines)
    return read_references(folder, 'test')


@pytest.mark.parametrize(
    ('keys', 'how'),
    [
        (['vid1301', 'vid1302', 'vid1303'], 'vidK'),
        (['1300', '1301', '1302'], 'index0'),
        (['1301', '1302', '1303'], 'index1'),
        (['vid1', 'vid2', 'vid3'], 'within the split, counted from 1'),
        (['3', '1', '2'], 'within the split, counted from 1'),
        (['0', '1', '2'], 'within the split, counted from 0'),
    ],
)
def test_clips_that_are_counted_in_any_way_get_their_own_captions(msvd, keys, how):
    order = sorted(keys, key=lambda key: int(key.removeprefix('vid')))
    renamed, notes = rename_clips({key: f'caption {order.index(key)}' for key in keys}, msvd)
    assert renamed == {f'clip{1301 + i}_1_2': f'caption {i}' for i in range(3)}
    assert how in notes[0]


def test_numbers_that_fit_no_way_of_counting_keep_their_first_reading(msvd):
    renamed, _ = rename_clips({'vid1': 'x', 'vid2': 'y'}, msvd)
    assert renamed.keys() == {'clip1_1_2', 'clip2_1_2'}  # of train: scores then name the clips


def test_a_duplicate_among_many_predictions_is_found_in_seconds(tmp_path):
    clips = [f'"clip{i}": "a dog"' for i in range(60_000)]
    path = write(tmp_path / 'p.json', '{' + ', '.join([*clips, '"clip59999": "a cat"']) + '}')
    began = time.perf_counter()
    with pytest.raises(UserError, match="'clip59999' twice"):
        read_predictions(path)
    assert time.perf_counter() - began < 10
