"""Read the text of an optimised HLO program: its cycles, and the collectives between chips.

The TPU compiler annotates every instruction that takes time, except collectives, with its own
"estimated_cycles". The body of a loop is counted once per iteration.
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
        """The compiler's estimate, 0 if it gives none."""
        return int(_attribute(self.rest, r'"estimated_cycles":"(\d+)"') or 0)

    @property
    def source(self) -> str:
        """Name of the operation of the JAX program that this came from."""
        return _attribute(self.rest, r'op_name="([^"]*)"') or self.name


@dataclasses.dataclass(frozen=True)
class Timed:
    """An instruction, and the number of times it runs."""

    instruction: Instruction
    times: int

    @property
    def cycles(self) -> int:
        """Cycles of all runs together."""
        return self.times * self.instruction.cycles


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations of a module by name, and the name of its entry."""

    computations: dict[str, list[Instruction]]
    entry: str

    @classmethod
    def parse(cls, text: str) -> 'Program':
        """Read the text of an optimised module."""
        computations, entry, current = {}, '', []
        for line in text.splitlines():
            # A regular expression per line is enough: the printer of HLO writes one instruction a
            # line.
            if head := _COMPUTATION.match(line):
                current = computations.setdefault(head[2], [])
                entry = head[2] if head[1] else entry
            elif found := _INSTRUCTION.match(line):
                current.append(Instruction(*found.groups()))
        return cls(computations, entry)

    def run(self, open_loops: int = 1) -> list[Timed]:
        """List all instructions that are run; a fusion counts as one.

        Args:
          open_loops: iterations to assume for loops whose number depends on the data.
        """
        return list(self._walk(self.entry, 1, open_loops))

    def rounds(self, loop: Instruction) -> int | None:
        """Number of iterations of a loop, None if it depends on the data."""
        if known := _attribute(loop.rest, r'"known_trip_count":\{"n":"(\d+)"\}'):
            return int(known)
        condition = self.computations[_required(loop.rest, r'condition=%?([\w.\-]+)')]
        limits = [
            int(value[1])
            for of in condition
            if of.opcode == 'constant' and (value := re.match(r'(\d+)\)', of.rest))
        ]
        # The condition of a scan only compares a counter, which starts at 0, with a constant.
        compared = [of for of in condition if of.opcode in ('compare', 'fusion', 'and', 'reduce')]
        # Anything else, such as a search that ends early, depends on the data.
        counts = len(compared) == 1 and 'direction=LT' in compared[0].rest
        return limits[0] if counts and len(limits) == 1 else None

    def _walk(self, name: str, times: int, open_loops: int) -> Iterator[Timed]:
        for instruction in self.computations[name]:
            yield Timed(instruction, times)
            rest = instruction.rest
            if instruction.opcode == 'while':
                rounds = self.rounds(instruction)
                inner = times * (open_loops if rounds is None else rounds)
                yield from self._walk(_required(rest, r'body=%?([\w.\-]+)'), inner, open_loops)
            elif instruction.opcode == 'call':
                called = _required(rest, r'to_apply=%?([\w.\-]+)')
                yield from self._walk(called, times, open_loops)
            elif instruction.opcode == 'conditional':
                # Which branch runs depends on the data; the slowest bounds the time.
                branches = (list(self._walk(b, times, open_loops)) for b in _branches(rest))
                yield from max(branches, key=total_cycles)  # the slowest branch


def total_cycles(run: list[Timed]) -> int:
    """Sum the cycles of all instructions, as if run one after another."""
    return sum(timed.cycles for timed in run)


def slowest(run: list[Timed], number: int) -> list[tuple[str, int]]:
    """List the operations of the JAX program that take the most cycles."""
    cycles = collections.Counter()
    for timed in run:
        cycles[timed.instruction.source] += timed.cycles
    return cycles.most_common(number)


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between chips: its kind, the bytes of its arrays, and how often it happens."""

    kind: str
    bytes: int
    times: int


def collectives(run: list[Timed]) -> list[Collective]:
    """List the collective operations of a program."""
    return [
        Collective(kind[1], num_bytes(timed.instruction.shape), timed.times)
        for timed in run
        if (kind := _COLLECTIVE.fullmatch(timed.instruction.opcode))
    ]


def num_bytes(shape: str) -> int:
    """Count the bytes of an array or a tuple, as in '(f32[2,3]{1,0}, bf16[])', unpadded."""
    bits = 0
    for dtype, width, dims in _ARRAY.findall(shape):
        size = math.prod(int(dim) for dim in dims.split(',') if dim)
        # Booleans take a byte each; all other names end in their number of bits.
        bits += size * (8 if dtype == 'pred' else int(width))
    return bits // 8


def _branches(rest: str) -> list[str]:
    if several := _attribute(rest, r'branch_computations=\{([^}]*)\}'):
        return [name.strip().lstrip('%') for name in several.split(',')]
    return re.findall(r'(?:true|false)_computation=%?([\w.\-]+)', rest)


def _required(rest: str, pattern: str) -> str:
    found = _attribute(rest, pattern)
    if found is None:
        raise ValueError(f'an instruction lacks {pattern}: {rest}')
    return found


def _attribute(rest: str, pattern: str) -> str | None:
    found = re.search(pattern, rest)
    return found[1] if found else None
