"""Read an optimised HLO program as text: how long it runs, and what the chips tell each other.

The TPU compiler writes its own "estimated_cycles" beside every instruction that takes time, other
than collectives. A body of a loop counts as often as the loop runs.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$')
_ARRAY = re.compile(r'\b(pred|[a-z]+?(\d+)\w*)\[([\d,]*)\]')
_COLLECTIVE = re.compile(
    r'(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|ragged-all-to-all)'
    r'(?:-start)?'
)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: unique in the program.
      shape: of the result, as text.
      opcode: such as 'fusion'.
      rest: operands and attributes, as text.
    """

    name: str
    shape: str
    opcode: str
    rest: str

    @property
    def cycles(self) -> int:
        """Return the compiler's estimate, 0 where it has none."""
        return int(_attribute(self.rest, r'"estimated_cycles":"(\d+)"') or 0)

    @property
    def source(self) -> str:
        """Return which operation of the JAX program this came from."""
        return _attribute(self.rest, r'op_name="([^"]*)"') or self.name


@dataclasses.dataclass(frozen=True)
class Timed:
    """An instruction and how often it runs."""

    instruction: Instruction
    times: int

    @property
    def cycles(self) -> int:
        """Return the cycles of all runs."""
        return self.times * self.instruction.cycles


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations of a module by name, and which one it starts with."""

    computations: dict[str, list[Instruction]]
    entry: str

    @classmethod
    def parse(cls, text: str) -> 'Program':
        """Read the text of an optimised module."""
        computations, entry, current = {}, '', []
        for line in text.splitlines():
            if head := _COMPUTATION.match(line):
                current = computations.setdefault(head[2], [])
                entry = head[2] if head[1] else entry
            elif found := _INSTRUCTION.match(line):
                current.append(Instruction(*found.groups()))
        return cls(computations, entry)

    def run(self, open_loops: int = 1) -> list[Timed]:
        """Return all instructions that are run, fusions as one each.

        Args:
          open_loops: how often a loop runs whose number of rounds depends on data.
        """
        return list(self._walk(self.entry, 1, open_loops))

    def rounds(self, loop: Instruction) -> int | None:
        """Return how often a loop runs, None if that depends on data."""
        if known := _attribute(loop.rest, r'"known_trip_count":\{"n":"(\d+)"\}'):
            return int(known)
        condition = self.computations[_attribute(loop.rest, r'condition=%?([\w.\-]+)')]
        limits = [
            int(value[1])
            for of in condition
            if of.opcode == 'constant' and (value := re.match(r'(\d+)\)', of.rest))
        ]
        # That of a scan: a counter from 0 is compared with a constant, and nothing else happens.
        compared = [of for of in condition if of.opcode in ('compare', 'fusion', 'and', 'reduce')]
        counts = len(compared) == 1 and 'direction=LT' in compared[0].rest
        return limits[0] if counts and len(limits) == 1 else None

    def _walk(self, name: str, times: int, open_loops: int) -> Iterator[Timed]:
        for instruction in self.computations[name]:
            yield Timed(instruction, times)
            rest = instruction.rest
            if instruction.opcode == 'while':
                rounds = self.rounds(instruction)
                inner = times * (open_loops if rounds is None else rounds)
                yield from self._walk(_attribute(rest, r'body=%?([\w.\-]+)'), inner, open_loops)
            elif instruction.opcode == 'call':
                called = _attribute(rest, r'to_apply=%?([\w.\-]+)')
                yield from self._walk(called, times, open_loops)
            elif instruction.opcode == 'conditional':
                branches = (list(self._walk(b, times, open_loops)) for b in _branches(rest))
                yield from max(branches, key=total_cycles)  # the longest of its ways


def total_cycles(run: list[Timed]) -> int:
    """Return the cycles of all instructions, one after the other."""
    return sum(timed.cycles for timed in run)


def slowest(run: list[Timed], number: int) -> list[tuple[str, int]]:
    """Return the operations of the JAX program that take most cycles, with these."""
    cycles = collections.Counter()
    for timed in run:
        cycles[timed.instruction.source] += timed.cycles
    return cycles.most_common(number)


def collectives(run: list[Timed]) -> list[dict[str, int | str]]:
    """Return what is exchanged: 'kind', 'bytes' of the arrays of one, 'times' it happens."""
    return [
        {'kind': kind[1], 'bytes': num_bytes(timed.instruction.shape), 'times': timed.times}
        for timed in run
        if (kind := _COLLECTIVE.fullmatch(timed.instruction.opcode))
    ]


def num_bytes(shape: str) -> int:
    """Return the bytes of an array or a tuple, as in '(f32[2,3]{1,0}, bf16[])', unpadded."""
    bits = 0
    for dtype, width, dims in _ARRAY.findall(shape):
        size = math.prod(int(dim) for dim in dims.split(',') if dim)
        bits += size * (8 if dtype == 'pred' else int(width))
    return bits // 8


def _branches(rest: str) -> list[str]:
    if several := _attribute(rest, r'branch_computations=\{([^}]*)\}'):
        return [name.strip().lstrip('%') for name in several.split(',')]
    return re.findall(r'(?:true|false)_computation=%?([\w.\-]+)', rest)


def _attribute(rest: str, pattern: str) -> str | None:
    found = re.search(pattern, rest)
    return found[1] if found else None
