"""The harness reports what it is meant to find, and nothing else."""

import errno
import os
import random

import pytest

from stg_jax.errors import UserError
from tests.fuzz import harness, targets
from tests.fuzz.mutations import mutate


def run_case(monkeypatch, tmp_path, read, has_checksums=False):
    seeds = tmp_path / 'seeds'
    seeds.mkdir()
    (seeds / 'file').write_bytes(b'sound')
    target = targets.Target(make=None, read=read, has_checksums=has_checksums)
    monkeypatch.setitem(targets.TARGETS, 'fake', target)
    return harness._run_case('fake', 0, seeds, tmp_path / 'case', b'sound')


def raising(error):
    def read(folder):
        raise error

    return read


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'file')


@pytest.mark.parametrize('error', [UserError('a sentence'), MemoryError(), FULL])
def test_one_sentence_is_no_finding(monkeypatch, tmp_path, error):
    assert run_case(monkeypatch, tmp_path, raising(error)) == []


def test_a_traceback_is_a_finding(monkeypatch, tmp_path):
    (found,) = run_case(monkeypatch, tmp_path, raising(ValueError('what')))
    assert (found.target, found.file) == ('fake', 'file')
    assert found.problem.startswith('ValueError: what')


def test_another_value_is_a_finding_where_there_are_checksums(monkeypatch, tmp_path):
    def read(folder):
        return (folder / 'file').read_bytes()

    (found,) = run_case(monkeypatch, tmp_path, read, has_checksums=True)
    assert found.problem == 'silently read as something else'


def test_a_process_that_ends_is_a_finding_and_the_other_cases_are_run(monkeypatch):
    """The first case of each process has this fault: the target does not exist there."""
    monkeypatch.setitem(targets.TARGETS, 'absent', None)  # in this process only
    found = harness.fuzz('absent', range(3))
    assert [each.case for each in found] == [0, 1, 2]
    assert all('the process ended with 1' in each.problem for each in found)


def test_mutations_are_seeded_and_take_any_content():
    for content in (b'', b'a', b'{"key": [1, 2]}\n' * 50, bytes(300)):
        for seed in range(200):
            assert mutate(content, random.Random(seed)) == mutate(content, random.Random(seed))
