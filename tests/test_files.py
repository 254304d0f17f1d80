"""Files and folders appear whole or not at all, whatever other processes do or left."""

import os
import subprocess
import sys

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
