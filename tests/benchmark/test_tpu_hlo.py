"""Reading optimised HLO: cycles, loops, branches and collectives of programs made by hand."""

import pytest

from stg_jax.benchmark.tpu import hlo

SCAN = """HloModule jit_step, is_scheduled=true

%fused (param: f32[8]) -> f32[8] {
  %param = f32[8]{0:T(128)} parameter(0)
  ROOT %twice = f32[8]{0:T(128)} add(%param, %param), backend_config={"estimated_cycles":"999"}
}

%condition (state: (s32[], f32[8])) -> pred[] {
  %state = (s32[]{:T(128)}, f32[8]{0:T(128)S(1)}) parameter(0)
  %limit = s32[]{:T(128)} constant(5), metadata={op_name="jit(step)/while"}
  %count = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %lt = pred[]{:T(512)} compare(%count, %limit), direction=LT
}

%body (state.1: (s32[], f32[8])) -> (s32[], f32[8]) {
  %state.1 = (s32[]{:T(128)}, f32[8]{0:T(128)S(1)}) parameter(0)
  %work = f32[8]{0:T(128)} fusion(%state.1), kind=kLoop, calls=%fused, \
metadata={op_name="jit(step)/add"}, backend_config={"estimated_cycles":"10","flags":[]}
  %sum = f32[8]{0} all-reduce-start(%work), replica_groups={{0,1}}, to_apply=%fused
  ROOT %next = (s32[]{:T(128)}, f32[8]{0:T(128)S(1)}) tuple(%state.1, %sum)
}

ENTRY %main (argument: f32[8]) -> f32[8] {
  %argument = f32[8]{0:T(128)} parameter(0)
  %first = (s32[]{:T(128)}, f32[8]{0:T(128)S(1)}) fusion(%argument), kind=kLoop, calls=%fused, \
metadata={op_name="jit(step)/mul"}, backend_config={"estimated_cycles":"7"}
  %loop = (s32[]{:T(128)}, f32[8]{0:T(128)S(1)}) while(%first), condition=%condition, body=%body
  %out = (f32[4,2]{1,0:T(8,128)(2,1)S(1)}, /*index=1*/bf16[3]{0}, pred[5]{0}, f32[]) \
all-reduce(%loop), to_apply=%fused
  ROOT %last = f32[8]{0} get-tuple-element(%loop), index=1
}
"""


def test_a_loop_counts_as_often_as_it_runs_and_a_fusion_once():
    run = hlo.Program.parse(SCAN).run()
    assert hlo.total_cycles(run) == 7 + 5 * 10
    assert hlo.slowest(run, 1) == [('jit(step)/add', 50)]


def test_collectives_come_with_their_bytes_and_how_often_they_happen():
    assert hlo.collectives(hlo.Program.parse(SCAN).run()) == [
        hlo.Collective('all-reduce', 32, times=5),
        hlo.Collective('all-reduce', 32 + 6 + 5 + 4, times=1),
    ]


@pytest.mark.parametrize(
    ('change', 'cycles'),
    [
        # Until something in the data is so: the caller knows how long that takes.
        (('compare(%count, %limit), direction=LT', 'compare(%count, %limit), direction=NE'), 37),
        (('constant(5)', 'add(%count, %count)'), 37),
        (('body=%body', 'body=%body, backend_config={"known_trip_count":{"n":"2"}}'), 27),
    ],
)
def test_rounds_are_those_the_program_tells_or_else_those_of_the_caller(change, cycles):
    program = hlo.Program.parse(SCAN.replace(*change))
    assert hlo.total_cycles(program.run(open_loops=3)) == cycles


def test_of_branches_the_longest_counts_and_calls_are_followed():
    text = """HloModule branches

%short (x: f32[]) -> f32[] {
  ROOT %a = f32[] negate(%x), backend_config={"estimated_cycles":"3"}
}

%long (x: f32[]) -> f32[] {
  ROOT %b = f32[] call(%x), to_apply=%longer
}

%longer (x: f32[]) -> f32[] {
  ROOT %c = f32[] negate(%x), backend_config={"estimated_cycles":"40"}
}

ENTRY %main (x: f32[], i: s32[]) -> f32[] {
  %one = f32[] conditional(%i, %x, %x), branch_computations={%short, %long}
  ROOT %two = f32[] conditional(%i, %x, %x), true_computation=%short, false_computation=%short
}
"""
    assert hlo.total_cycles(hlo.Program.parse(text).run()) == 40 + 3


@pytest.mark.parametrize(
    ('shape', 'size'),
    [
        ('f32[]', 4),
        ('bf16[3,5]{1,0:T(8,128)(2,1)S(1)}', 30),
        ('(s32[2], pred[3], u8[4], f8e4m3fn[6])', 8 + 3 + 4 + 6),
        ('s4[8]', 4),
        ('token[]', 0),
    ],
)
def test_bytes_follow_from_the_shape(shape, size):
    assert hlo.num_bytes(shape) == size
