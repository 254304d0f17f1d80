"""Damaged files are read, or refused in one sentence: no traceback, no crash, no hang."""

import pytest

from tests.fuzz.harness import fuzz
from tests.fuzz.targets import TARGETS

_SHORT = 15  # cases of each format in `make test`
# Those of the slow test, 20,000 in all; a checkpoint takes seconds, a text a hundredth of one.
_LONG = {'checkpoint': 60, 'data_folder': 200}
_OTHERS = 1100
_ROOM_FOR_NEW_CASES = 10_000


@pytest.mark.parametrize('target', TARGETS)
def test_sound_files_are_read(target, tmp_path):
    folder = tmp_path / 'seeds'
    folder.mkdir()
    TARGETS[target].make(folder)
    assert 'Refused(' not in repr(TARGETS[target].read(folder))


@pytest.mark.parametrize('target', TARGETS)
def test_damaged_files_are_refused_in_one_sentence(target):
    assert not fuzz(target, range(_SHORT))


@pytest.mark.slow
@pytest.mark.parametrize('target', TARGETS)
def test_thousands_of_damaged_files_are_refused_in_one_sentence(target):
    first = _ROOM_FOR_NEW_CASES
    assert not fuzz(target, range(first, first + _LONG.get(target, _OTHERS)))
