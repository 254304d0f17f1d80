"""What the project may be installed with: bounded ranges, which hold the tested pins."""

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fakes.fake_run import ROOT
from tests.fakes.xla_flags import known_xla_flags

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())
NEEDED = list(map(Requirement, PROJECT['project']['dependencies']))
EXTRAS = {
    name: list(map(Requirement, wanted))
    for name, wanted in PROJECT['project']['optional-dependencies'].items()
}
BUILD = list(map(Requirement, PROJECT['build-system']['requires']))
PINS = [
    Requirement(line)
    for line in (ROOT / 'requirements.txt').read_text().splitlines()
    if line and not line.startswith(('#', '-'))
]
# Why a requirement has no upper bound.
UNBOUNDED = {
    'stg-jax': 'the project itself',
    'jax[tpu]': 'bounded by jax above',
}


def ranges():
    wanted = [*NEEDED, *BUILD, *(each for extra in EXTRAS.values() for each in extra)]
    return [each for each in wanted if not str(each).startswith(tuple(UNBOUNDED))]


@pytest.mark.parametrize('requirement', ranges(), ids=str)
def test_every_range_has_both_bounds(requirement):
    assert {each.operator for each in requirement.specifier} == {'>=', '<'}


def test_the_pins_are_within_the_ranges():
    range_of = {canonicalize_name(each.name): each.specifier for each in NEEDED}
    pinned = {canonicalize_name(each.name): next(iter(each.specifier)) for each in PINS}
    assert pinned.keys() == range_of.keys()
    for name, pin in pinned.items():
        assert pin.version in range_of[name], name


def test_a_flag_that_jaxlib_does_not_know_is_left_out():
    known = '--xla_backend_optimization_level=0'
    assert known_xla_flags([known, '--xla_no_such_flag=1']) == [known]
    assert known_xla_flags([known]) == [known]
