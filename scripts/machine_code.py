"""Reads what cuobjdump -sass prints: instructions, loops, and how many loads a thread has on their way.

A thread waits at the first instruction that reads what a load has not brought yet. What counts for a kernel that
memory bounds is therefore how many loads it issues before it reads the result of any of them: kernels_of() finds that
number in the loops that hold no other loop, where there are loads in one, and in the whole kernel otherwise.
"""
import re
import typing

LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?(U?P\w+)\s+)?([A-Z][A-Z0-9_.]*)\s*([^;]*);")
# LD: from a pointer of which the compiler does not know where it points.
GLOBAL_LOAD = re.compile(r"LDG?\.E(\.|$)")
GLOBAL_LOAD_16 = re.compile(r"LDG?\.E\.(\w+\.)*128")
REGISTER = re.compile(r"(?<![A-Z0-9])R(\d+)")


class Instruction(typing.NamedTuple):
    address: int
    opcode: str
    operands: str

    def registers(self):
        """The first one that it writes, or None, and those that it reads. Of a group the first one stands for all."""
        parts = re.split(r",\s*", self.operands.strip())
        written, kept = None, parts
        if "SETP" not in self.opcode:  # those write predicates alone
            for i, part in enumerate(parts):
                if re.fullmatch(r"!?U?P(T|\d)", part):
                    continue  # SHFL and some others name a predicate first
                if match := re.fullmatch(r"R(\d+)(\.reuse)?", part):
                    written, kept = int(match[1]), parts[:i] + parts[i + 1:]
                break
        if self.opcode.startswith(("BRX", "CALL", "RET", "WARPSYNC", "R2UR", "R2P")):
            written, kept = None, parts
        return written, {int(number) for part in kept for number in REGISTER.findall(part)}

    def width(self):
        """Registers that a load fills."""
        return next((n for suffix, n in ((".128", 4), (".64", 2)) if suffix in self.opcode), 1)


def parse(lines):
    """{symbol: [Instruction, …]} of all kernels."""
    kernels, current = {}, None
    for line in lines:
        if "Function :" in line:
            current = kernels.setdefault(line.split(":", 1)[1].strip(), [])
        elif current is not None and (match := LINE.search(line)):
            current.append(Instruction(int(match[1], 16), match[3], match[4]))
    return kernels


def loops_of(instructions):
    """Runs of instructions that a branch backward repeats, and that hold no other such run."""
    places = {instruction.address: i for i, instruction in enumerate(instructions)}
    spans = []
    for i, instruction in enumerate(instructions):
        target = re.search(r"0x([0-9a-f]+)", instruction.operands) if instruction.opcode.startswith("BRA") else None
        begin = places.get(int(target[1], 16)) if target else None
        if begin is not None and begin < i:  # a branch to itself ends a kernel
            spans.append((begin, i + 1))
    return [instructions[begin:end] for begin, end in spans
            if not any((b, e) != (begin, end) and begin <= b and e <= end for b, e in spans)]


def most_loads(instructions, load):
    """The most loads, by their opcode, that are issued before the result of one of them is read."""
    most, pending, count = 0, set(), 0
    for instruction in instructions:
        written, read = instruction.registers()
        if read & pending:
            pending, count = set(), 0
        if written is not None and load.match(instruction.opcode):
            pending |= set(range(written, written + instruction.width()))
            count += 1
            most = max(most, count)
        elif written is not None:
            pending.discard(written)
    return most


def loads_in_flight(instructions, load=GLOBAL_LOAD):
    # Twice through a loop: loads at its end are for the next turn.
    in_loops = max((most_loads(loop * 2, load) for loop in loops_of(instructions)), default=0)
    return in_loops or most_loads(instructions, load)


def kernels_of(lines):
    """For each kernel how often each opcode stands in it, its loads in flight, and those of 16 bytes."""
    kernels = {}
    for symbol, instructions in parse(lines).items():
        opcodes = {}
        for instruction in instructions:
            opcodes[instruction.opcode] = opcodes.get(instruction.opcode, 0) + 1
        kernels[symbol] = {"opcodes": opcodes, "loads": loads_in_flight(instructions),
                           "loads16": loads_in_flight(instructions, GLOBAL_LOAD_16)}
    return kernels
