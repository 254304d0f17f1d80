"""Which steps are executed together."""

import itertools

import pytest

from stg_jax.train.multistep import group_steps


@pytest.mark.parametrize('at_once', [1, 2, 3, 8])
def test_executions_are_all_steps_in_order_whole_or_single(at_once):
    for first, end in itertools.combinations_with_replacement(range(9), 2):
        executions = group_steps(first, end, at_once)
        assert [step for steps in executions for step in steps] == list(range(first, end))
        assert {len(steps) for steps in executions} <= {1, at_once}


def test_only_steps_before_and_after_whole_executions_are_single():
    assert [len(steps) for steps in group_steps(1, 15, 4)] == [1, 1, 1, 4, 4, 1, 1, 1]


def test_what_is_left_after_an_execution_are_the_other_executions():
    whole = group_steps(0, 23, 5)
    for index, steps in enumerate(whole):
        assert group_steps(steps.stop, 23, 5) == whole[index + 1 :]
