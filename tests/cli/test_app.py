"""Flags as people spell them."""

import sys

import pytest
from absl import flags
from ml_collections import config_flags

from stg_jax.cli import app
from stg_jax.errors import UserError
from tests.fakes import fake_run


@pytest.fixture
def parse(monkeypatch):
    """Return a function from a command line to the values of its flags and its arguments."""
    values = flags.FlagValues()
    flags.DEFINE_bool('dry_run', False, '', flag_values=values)
    flags.DEFINE_bool('keep-going', False, '', flag_values=values)
    flags.DEFINE_string('work_dir', None, '', flag_values=values)
    flags.DEFINE_float('penalty', 0.6, '', 0.0, flag_values=values)
    flags.DEFINE_multi_string('beam', [], '', flag_values=values)
    config_flags.DEFINE_config_file('config', flag_values=values)
    monkeypatch.setattr(flags, 'FLAGS', values)

    def parsed(*args):
        monkeypatch.setattr(sys, 'argv', ['command', *args])
        return values, app._parse(sys.argv)

    return parsed


@pytest.mark.parametrize('args', [['--dry-run', 'a-b'], ['--dry_run', 'a-b'], ['-dry-run', 'a-b']])
def test_a_hyphen_is_as_good_as_an_underscore(parse, args):
    values, rest = parse(*args)
    assert values.dry_run and rest == ['a-b']


@pytest.mark.parametrize('arg', ['--keep-going', '--keep_going'])
def test_a_flag_defined_with_a_hyphen_has_both_spellings_too(parse, arg):
    assert parse(arg)[0]['keep-going'].value


def test_a_negated_flag_has_both_spellings(parse):
    assert not parse('--dry_run', '--nodry-run')[0].dry_run


@pytest.mark.parametrize('args', [['--work-dir=a-b/c-d=e'], ['--work-dir', 'a-b/c-d=e']])
def test_values_stay_as_they_are(parse, args):
    assert parse(*args)[0].work_dir == 'a-b/c-d=e'


def test_a_value_that_looks_like_a_flag_stays_as_it_is(parse):
    values, rest = parse('--beam', '--dry-run', '--beam=--work-dir=x', '--', '--dry-run')
    assert values.beam == ['--dry-run', '--work-dir=x']
    assert not values.dry_run and rest == ['--dry-run']


def test_config_overrides_stay_as_they_are(parse):
    values, _ = parse('--config=configs/toy.py', '--config.data.dir=my-data', '--dry-run')
    assert values.config.data.dir == 'my-data' and values.dry_run


@pytest.mark.parametrize('name', ['penalty', 'config.optim.lr'])
@pytest.mark.parametrize('value', ['nan', 'inf'])
def test_a_number_is_a_number(parse, name, value):
    with pytest.raises(UserError, match=f'--{name} is {value}: it must be a number'):
        parse('--config=configs/toy.py', f'--{name}={value}')


def test_an_unknown_flag_is_named_as_it_was_spelt():
    finished = fake_run.run('train', '--work-dri=x')
    assert finished.returncode == 2 and 'work-dri' in finished.stderr
