"""Files and folders appear whole or not at all, whatever other processes do or left."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stg_jax import files
from stg_jax.errors import UserError

HOLD = """
import pathlib, sys, time
from stg_jax import files
with files.write_folder(sys.argv[1]) as folder:
    (folder / 'half').write_text('half')
    print(folder, flush=True)
    sys.stdin.read()
"""


def hold(path):
    """Start a process that is writing the folder `path`; return it and its temporary folder."""
    command = [sys.executable, '-c', HOLD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    (killed, abandoned), (alive, written) = hold(tmp_path / 'out'), hold(tmp_path / 'out')
    try:
        killed.kill()
        killed.wait()
        assert os.path.exists(abandoned)  # noqa: PTH110
        with files.write_folder(tmp_path / 'out') as folder:
            (folder / 'whole').write_text('whole')
            left = {str(path) for path in tmp_path.iterdir()}
            assert left == {written, str(folder)}
    finally:
        alive.communicate()
    assert [path.name for path in tmp_path.rglob('*')] == ['out', 'whole']


def test_folders_of_other_names_are_left_alone(tmp_path):
    others = ['.out.work', '.out.b.12ab.tmp', '.other.12ab.tmp', 'out.12ab.tmp']
    for name in others:
        (tmp_path / name).mkdir()
    with files.write_folder(tmp_path / 'out'):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, 'out'])


def test_two_processes_of_one_id_do_not_meet(tmp_path):
    # As in containers, where every first process has the id 1.
    with files.write_file(tmp_path / 'a') as one, files.write_file(tmp_path / 'a') as other:
        assert one != other
        one.write_text('one')
        other.write_text('other')
    first, second = files.write_folder(tmp_path / 'b'), files.write_folder(tmp_path / 'b')
    with pytest.raises(UserError, match='exists already'), first, second:
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'b']


def test_any_valid_name_can_be_written_however_long(tmp_path):
    name = 'é' * 125  # 250 of the 255 bytes that file systems allow
    files.check_writable(tmp_path / name)
    files.write_text(tmp_path / name, 'text')
    with files.write_folder(tmp_path / f'{name}1') as folder:
        (folder / 'file').touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f'{name}1']


def test_what_was_left_for_a_long_name_is_removed(tmp_path):
    name = 'x' * 250
    (killed, abandoned) = hold(tmp_path / name)
    killed.kill()
    killed.wait()
    with files.write_folder(tmp_path / name):
        assert not Path(abandoned).exists()


def test_a_link_to_nothing_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / 'out').symlink_to('nothing')
    with pytest.raises(UserError, match='exists already'), files.write_folder(tmp_path / 'out'):
        pass
    assert (tmp_path / 'out').is_symlink()


@pytest.mark.parametrize('text', ['[' * 100_000, '1' * 5000, '{"a": ', '\udcff', ''])
def test_what_is_no_json_is_one_sentence(tmp_path, text):
    (tmp_path / 'x.json').write_bytes(os.fsencode(text))
    with pytest.raises(UserError, match=r'x\.json is not valid JSON'):
        files.read_json(tmp_path / 'x.json')


def test_a_folder_is_no_json(tmp_path):
    with pytest.raises(UserError, match='cannot be read'):
        files.read_json(tmp_path)


def test_names_that_are_not_utf_8_are_kept_in_json(tmp_path):
    value = {'file': os.fsdecode(b'\xff.mp4'), 'text': 'é'}
    files.write_json(tmp_path / 'x.json', value)
    assert files.read_json(tmp_path / 'x.json') == value


def full_disk():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # without a name, as `write` raises it


def test_a_full_disk_leaves_nothing_and_names_what_was_written(tmp_path):
    for write in (files.write_file, files.write_folder):
        with pytest.raises(OSError, match='No space left') as raised, write(tmp_path / 'x'):
            full_disk()
        assert raised.value.filename == str(tmp_path / 'x')
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_too_long_are_refused_before_any_work(tmp_path):
    path = tmp_path / ('x' * 300)
    with pytest.raises(OSError, match='File name too long'), files.write_folder(path):
        raise AssertionError('the work has begun')
    with pytest.raises(UserError, match=r'cannot be written .*too long'):
        files.check_writable(path)
    assert list(tmp_path.iterdir()) == []
