"""Numbers of a config that mean nothing are refused by name."""

import math

import pytest

from configs import ablations, common, msrvtt, msvd, own, toy
from stg_jax.errors import UserError
from stg_jax.run.config_checks import LIMITS, check_limits
from stg_jax.train.plan import make_plan


def config_with(key, value):
    config = common.get_config()
    config.update_from_flattened_dict({key: value})
    return config


def numbers_of(values, prefix=''):
    """Yield the dotted key of every number of nested dictionaries."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from numbers_of(value, f'{prefix}{name}.')
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f'{prefix}{name}'


def test_every_number_of_the_config_has_a_limit():
    assert set(numbers_of(common.get_config().to_dict())) == set(LIMITS)


@pytest.mark.parametrize('module', [common, toy, own, msvd, msrvtt])
def test_the_shipped_configs_keep_them(module):
    check_limits(module.get_config())


@pytest.mark.parametrize('name', ablations.ABLATIONS)
def test_ablations_keep_them(name):
    check_limits(ablations.get_config(name))


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('seed', -1),
        ('seed', 2**32),
        ('data.objects', 0),
        ('data.shuffle_buffer', 0),
        ('model.heads', 0),
        ('model.dropout', 1.0),
        ('model.dropout', -0.1),
        ('loss.kd_weight', math.nan),
        ('kd.temperature', 0.0),
        ('optim.lr', -1.0),
        ('optim.lr', math.inf),
        ('optim.clip', 0.0),
        ('optim.warmup', 1.5),
        ('train.batch_size', 0),
        ('train.accumulate', 0),
        ('decode.batch_size', 0),
        ('decode.length_penalty', math.nan),
    ],
)
def test_a_number_outside_is_refused_before_the_data_are_looked_at(key, value):
    with pytest.raises(UserError) as refusal:
        make_plan(config_with(key, value))
    assert str(refusal.value) == f'config.{key} is {value}; it must lie in {LIMITS[key]}'


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('seed', 2**32 - 1),
        ('model.dropout', 0.0),
        ('optim.warmup', 1.0),
        ('optim.clip', 1e-9),
        ('decode.length_penalty', -0.5),
        ('train.batch_size', 1),
    ],
)
def test_a_number_at_the_edge_is_taken(key, value):
    check_limits(config_with(key, value))
