"""Values of a config that mean nothing are refused by name, whichever door they come through."""

import dataclasses
import math
import typing

import pytest

from configs import ablations, common, msrvtt, msvd, own, toy
from stg_jax.config import Config, flat, nested, parse_config
from stg_jax.errors import UserError


def config_with(key, value):
    config = common.get_config()
    config.update_from_flattened_dict({key: value})
    return config


def refusal(tree):
    with pytest.raises(UserError) as refused:
        parse_config(tree)
    return str(refused.value)


def test_every_value_comes_through_unchanged():
    tree = common.get_config().to_dict()
    config = parse_config(common.get_config())
    assert config.tree() == tree
    assert config.flat() == flat(tree)
    assert nested(flat(tree)) == tree
    assert (config.data.frames, config.loss.kind, config.seed) == (10, 'kl', 0)


def annotations(section):
    return typing.get_type_hints(section, include_extras=True)


def test_every_number_has_a_least_and_a_greatest_value():
    sections = [hint for hint in annotations(Config).values() if dataclasses.is_dataclass(hint)]
    hints = [hint for section in [Config, *sections] for hint in annotations(section).values()]
    numbers = [hint for hint in hints if hint in (int, float) or typing.get_origin(hint) is None]
    assert not {int, float} & set(numbers)
    ranges = [of for hint in hints for of in getattr(hint, '__metadata__', ())]
    assert len(ranges) == sum(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in flat(common.get_config().to_dict()).values()
    )
    assert all(math.isfinite(least) and least < most < math.inf for least, most in ranges)


@pytest.mark.parametrize('module', [common, toy, own, msvd, msrvtt])
def test_the_shipped_configs_are_valid(module):
    parse_config(module.get_config())


@pytest.mark.parametrize('name', ablations.ABLATIONS)
def test_ablations_are_valid(name):
    parse_config(ablations.get_config(name))


@pytest.mark.parametrize(
    ('key', 'value', 'range_'),
    [
        ('seed', -1, '[0, 4294967295]'),
        ('seed', 2**32, '[0, 4294967295]'),
        ('data.objects', 0, '[1, 1000]'),
        ('data.frames', 10**12, '[1, 10000]'),
        ('data.shuffle_buffer', 0, '[1, 1000000000]'),
        ('model.heads', 0, '[1, 10000]'),
        ('model.dropout', 1.0, '[0.0, 0.999]'),
        ('model.dropout', -0.1, '[0.0, 0.999]'),
        ('loss.kd_weight', math.nan, '[0.0, 1e+30]'),
        ('kd.temperature', 0.0, '[1e-06, 1000000.0]'),
        ('optim.lr', -1.0, '[0.0, 1e+30]'),
        ('optim.lr', math.inf, '[0.0, 1e+30]'),
        ('optim.clip', 0.0, '[1e-30, 1e+30]'),
        ('optim.warmup', 1.5, '[0.0, 1.0]'),
        ('train.batch_size', 0, '[1, 10000000]'),
        ('train.epochs', 10**30, '[1, 1000000]'),
        ('train.accumulate', 0, '[1, 10000]'),
        ('decode.batch_size', 0, '[1, 1000000]'),
        ('decode.length_penalty', math.nan, '[-10.0, 10.0]'),
    ],
)
def test_a_number_out_of_range_is_refused(key, value, range_):
    assert refusal(config_with(key, value)) == f'config.{key} is {value}; it must be in {range_}'


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
    assert parse_config(config_with(key, value)).flat()[key] == value


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('data.frames', 'ten', "config.data.frames is 'ten'; it must be a whole number"),
        ('data.frames', 10.5, 'config.data.frames is 10.5; it must be a whole number'),
        ('data.frames', True, 'config.data.frames is True; it must be a whole number'),
        ('optim.lr', None, 'config.optim.lr is None; it must be a number'),
        ('data.dir', 3, 'config.data.dir is 3; it must be text'),
        ('kd.detach_teacher', 1, 'config.kd.detach_teacher is 1; it must be true or false'),
        ('kd.kind', 'cosine', "config.kd.kind is 'cosine'; it can be kl, l2"),
        ('model.graph', ['full'], "config.model.graph is ['full']; it can be full, spatial"),
        ('model.width', 511, 'config.model.width is 511; it must be even'),
        ('model.depth', 3, 'config.model.depth is unknown'),
    ],
)
def test_what_json_can_hold_and_a_flag_cannot_is_refused(key, value, message):
    tree = flat(common.get_config().to_dict()) | {key: value}
    assert refusal(nested(tree)).startswith(message)


def test_a_missing_value_is_named():
    tree = common.get_config().to_dict()
    del tree['optim']['lr']
    assert refusal(tree) == 'config.optim.lr is missing'


def test_a_changed_config_is_checked_like_any_other():
    config = parse_config(common.get_config())
    assert config.changed(data__frames=3, seed=7).flat() == config.flat() | {
        'data.frames': 3,
        'seed': 7,
    }
    with pytest.raises(UserError, match=r'config\.data\.frames is 0'):
        config.changed(data__frames=0)
