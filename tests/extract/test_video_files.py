"""Which files of a folder are videos, and what is said of the others."""

import json
import os

import pytest

from stg_jax.errors import UserError
from stg_jax.extract.video.files import find_videos, left_out_sentence, list_videos, printable


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


SUFFIXES = ['mts', 'M2TS', 'vob', 'f4v', 'ogg', 'divx', '3g2', 'mxf', 'y4m', 'h264', 'asf', 'rmvb']


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_unusual_videos_are_found(tmp_path, suffix):
    touch(tmp_path, f'a.{suffix}', 'sub/b.mp4')
    assert [path.name for path in find_videos(tmp_path)] == [f'a.{suffix}', 'b.mp4']


def test_hidden_files_are_no_videos(tmp_path):
    touch(tmp_path, '._a.mp4', '.b.mp4', 'c.mp4')
    assert [path.name for path in find_videos(tmp_path)] == ['c.mp4']


def test_files_that_may_be_videos_are_reported_by_name(tmp_path):
    touch(tmp_path, 'a.mp4', 'b.xyz', 'c', 'notes.txt', 'a.srt', 'a.jpg', '.hidden')
    sentence = left_out_sentence(tmp_path)
    assert '2 files' in sentence and 'b.xyz, c' in sentence
    (tmp_path / 'b.xyz').unlink()
    (tmp_path / 'c').unlink()
    assert left_out_sentence(tmp_path) == ''


def test_a_folder_of_unknown_files_names_them(tmp_path):
    touch(tmp_path, 'a.dat')
    with pytest.raises(UserError, match=r'holds no video file .*a\.dat'):
        find_videos(tmp_path)
    with pytest.raises(UserError, match='does not exist'):
        find_videos(tmp_path / 'none')


def test_a_named_file_is_taken_whatever_its_suffix(tmp_path):
    touch(tmp_path, 'a.xyz')
    assert list_videos([str(tmp_path / 'a.xyz')] * 2) == [tmp_path / 'a.xyz']


def test_names_of_other_encodings_become_text():
    name = os.fsdecode(b'caf\xe9.mp4')
    assert printable(name) == 'caf\\xe9.mp4'
    assert printable('café.mp4') == 'café.mp4'
    json.dumps(printable(name)).encode()
