import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_jax.datasets import own
from stg_jax.datasets.registry import read_annotations
from stg_jax.errors import UserError


def write(tmp_path, text, name='a.csv'):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads_csv_and_jsonl_alike(tmp_path):
    table = (
        '\ufeffclip,split,caption\r\n'
        'b/1.mp4,train,"A man, running\r\nfast"\r\n'
        'a,Validation,"She says ""café"""\r\n'
        'b/1.mp4,train,a man jogs\r\n'
        'c,test, two dogs \r\n'
    )
    lines = [
        {'clip': 'b/1.mp4', 'captions': ['A man, running\nfast', 'a man jogs'], 'split': 'train'},
        {'clip': 'a', 'caption': 'She says "café"', 'split': 'dev', 'url': 'x'},
        {'clip': 'c', 'caption': 'two dogs', 'split': 'test'},
    ]
    found = own.read(write(tmp_path, table))
    assert found.splits == {
        'train': {'b/1.mp4': ['a man running fast', 'a man jogs']},
        'val': {'a': ['she says café']},
        'test': {'c': ['two dogs']},
    }
    assert (found.number, found.source, found.notes) == ({}, {}, [])
    text = '\n\n'.join(json.dumps(line) for line in lines)
    assert read_annotations('own', write(tmp_path, text, 'a.jsonl')) == found


def test_reads_what_a_spreadsheet_writes(tmp_path):
    plain = own.read(write(tmp_path, 'clip,caption,split\na,"a man, a dog",train\nb,x,val\n'))
    for text in (
        'Clip, CAPTION,Split\na,"a man, a dog",train\nb,x,val\n',
        '\ufeffclip;caption;split\r\na;a man, a dog;train\r\nb;x;val\r\n',
        '\ufeff"Clip";"Caption";"Split"\r\n"a";"a man, a dog";train\r\nb;x;val\r\n',
    ):
        assert own.read(write(tmp_path, text)) == plain
    with pytest.raises(UserError, match=r"line 2 has not the 2 fields .* put captions with ';'"):
        own.read(write(tmp_path, 'clip;caption\na;a man; a dog\n'))


def test_a_line_separator_in_a_caption_does_not_end_a_line(tmp_path):
    line = json.dumps({'clip': 'a', 'caption': 'one\u2028two\x85three'}, ensure_ascii=False)
    found = own.read(write(tmp_path, line, 'a.jsonl'))
    assert found.splits['train'] == {'a': ['one two three']}


@pytest.mark.parametrize('name', ['val', 'valid', 'validation', 'validate', 'dev', ' VAL '])
def test_validation_has_many_names(tmp_path, name):
    found = own.read(write(tmp_path, f'clip,caption,split\na,a man,{name}\nb,a dog,train\n'))
    assert list(found.splits['val']) == ['a']


def test_one_clip_may_be_written_with_blanks_and_in_two_unicode_forms(tmp_path):
    composed, decomposed = 'caf\u00e9', 'cafe\u0301'
    table = f'clip,caption,note,note\n{composed} ,a man,,\n{decomposed},a dog,,\n"  b",a cat,,\n'
    lines = [(f' {composed}', 'a man'), (f'{decomposed}\t', 'a dog'), ('b ', 'a cat')]
    text = '\n'.join(json.dumps({'clip': clip, 'caption': caption}) for clip, caption in lines)
    for found in (own.read(write(tmp_path, table)), own.read(write(tmp_path, text, 'a.jsonl'))):
        assert found.splits['train'] == {composed: ['a man', 'a dog'], 'b': ['a cat']}


def test_wordless_captions_are_left_out_and_counted(tmp_path):
    text = 'clip,caption,split\na,a man,train\na,,train\na,?!,train\nb,,test\n'
    found = own.read(write(tmp_path, text))
    assert found.splits == {'train': {'a': ['a man']}, 'val': {}, 'test': {'b': []}}
    assert found.notes == ['3 captions without any word are left out']


def splits_of(tmp_path, clip_ids):
    found = own.read(write(tmp_path, 'clip,caption\n' + ''.join(f'{i},a man\n' for i in clip_ids)))
    assert 'SHA-256' in found.notes[-1]
    return {split: set(clips) for split, clips in found.splits.items()}


def test_splits_by_hash_80_10_10_whatever_the_order(tmp_path):
    clip_ids = [f'clip{i}' for i in range(100)]
    splits = splits_of(tmp_path, clip_ids)
    assert {split: len(clips) for split, clips in splits.items()} == {
        'train': 80, 'val': 10, 'test': 10,
    }  # fmt: skip
    assert splits_of(tmp_path, clip_ids[::-1]) == splits
    # Fixed for all times: the same file must never give another split.
    assert sorted(splits['val'])[:3] == ['clip10', 'clip15', 'clip17']


@given(st.integers(1, 40))
def test_three_clips_are_enough_for_every_split(tmp_path_factory, num):
    splits = splits_of(tmp_path_factory.mktemp('own'), map(str, range(num)))
    assert sum(map(len, splits.values())) == num
    assert splits['train']
    assert bool(splits['val']) == bool(splits['test']) == (num >= 3)


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('', "line 1 must name the column 'clip'"),
        ('clip,text\na,b\n', "line 1 must name the column 'caption'"),
        ('clip,caption\n', 'holds no caption'),
        ('clip,caption\na,!\n', 'holds no caption'),
        ('clip,caption\na,one, two\n', 'line 2 has not the 2 fields'),
        ('clip,caption\na\n', 'line 2 has not the 2 fields'),
        ('clip,caption\na,"one\n', 'line 2 is no CSV'),
        ('clip,caption\na,' + 'x' * 200_000, 'line 2 is no CSV'),
        ('clip,caption,caption\na,one,two\n', "names two columns 'caption'"),
        ('clip,Caption, CAPTION\na,one,two\n', "names two columns 'caption'"),
        ('clip,caption,split,split\na,one,val,test\n', "names two columns 'split'"),
        ('<!doctype html>\n<html>', 'is a web page, not data'),
        ('clip,caption\n ,one\n', 'line 2: the clip has no name'),
        ('clip,caption\n"a\nb",one\n', 'holds a control character'),
        ('clip,caption\na\x00b,one\n', r'(control character|is no CSV)'),
        ('clip,caption\na\x1b[2J,one\n', r"'a\\x1b\[2J' holds a control character"),
        ('clip,caption,split\na,one,dev2\n', "line 2: the split is 'dev2', expected train, val"),
        ('clip,caption,split\na,one,val\na,two,test\n', 'line 3: clip a is in two splits, val and'),
        ('clip,caption,split\na,one,val\nb,two,\n', 'no split of clip b'),
        ('clip,caption,split\na,!,train\nb,two,val\n', 'train clip a has no caption'),
        (b'clip,caption\na,\xe9t\xe9\n', 'not UTF-8'),
    ],
)
def test_refuses_broken_csv(tmp_path, text, sentence):
    with pytest.raises(UserError, match=sentence):
        own.read(write(tmp_path, text))


@pytest.mark.parametrize(
    ('line', 'sentence'),
    [
        ('{"clip": "a", ', 'not valid JSON'),
        ('[' * 100_000, 'not valid JSON'),
        ('["a", "b"]', 'expected an object'),
        ('{"clip": "a", "caption": "x", "caption": "y"}', "has 'caption' twice"),
        ('{"clip": "a"}', 'either caption or captions'),
        ('{"clip": "a", "caption": "x", "captions": []}', 'either caption or captions'),
        ('{"clip": 7, "caption": "x"}', 'must be text'),
        ('{"clip": "a", "captions": "x"}', 'must be text'),
        ('{"clip": "a", "captions": ["x", 1]}', 'must be text'),
        ('{"clip": "a", "caption": "x", "split": 1}', 'must be text'),
        ('{"clip": "\\ud800", "caption": "x"}', 'holds a control character'),
    ],
)
def test_refuses_broken_jsonl(tmp_path, line, sentence):
    with pytest.raises(UserError, match=f'line 2.*{sentence}'):
        own.read(write(tmp_path, f'{{"clip": "z", "caption": "y"}}\n{line}\n', 'a.jsonl'))


def test_refuses_other_files_and_data_sets(tmp_path):
    with pytest.raises(UserError, match=r'must end in .csv or .jsonl'):
        own.read(write(tmp_path, 'x', 'a.txt'))
    with pytest.raises(UserError, match='missing or no file'):
        own.read(tmp_path)
    with pytest.raises(UserError, match="no annotations of 'coco': use msvd, vatex, msrvtt, own"):
        read_annotations('coco', tmp_path)
