"""Litmus tests: small programs on several harts at once, over and over, whose outcomes the memory model has to allow.

Each hart walks through an array of instances, every one with locations of its own, and leaves what it loaded beside
them. Before each instance a hart waits for the others to come to it, but not for long, since they may have no processor
at the time; then a drawn delay shifts them against each other. Barriers separate the rounds, and behind each hart 0
counts the outcomes. Programs are written as memory_model.py has it.
"""

from __future__ import annotations

import collections
import functools
from dataclasses import dataclass

import wirt
from wirt import isa

from .assembler import RAM_BASE, Assembler, encode
from .memory_model import LOCATIONS, SIZES, Model, Operation, Outcome

ISA = isa.DEFAULT + "_zabha_zacas"
POWER_OFF = 0x10_0000
CELLS = RAM_BASE + 0x1_0000  # the barrier's count; a line behind it, bits that no value should have had
FOREIGN = CELLS + 256
PROGRESS, PROGRESS_OF_HART = 512, 128  # from CELLS on: where each hart is
PATIENCE = 400  # looks at another hart's progress
COUNTS = RAM_BASE + 0x10_0000
INSTANCES = RAM_BASE + 0x40_0000
INSTANCE, LOCATION, RESULTS, RESULTS_OF_HART = 2048, 256, 1024, 128
ROUND = 128  # instances
MEMORY = 16 << 20

# Registers, by number.
ZERO, CELL, COUNT = 0, 3, 4
POINTER, END, ROUNDS, TARGET = 8, 9, 26, 27
VALUES = (18, 19, 20, 21, 22, 23, 24, 25)  # s2 to s9
ADDRESSES = (10, 11, 12, 13)
LOADED = (5, 6, 7, 28, 29)
RANDOM, SCRATCH, SECOND, THIRD = 14, 30, 31, 15


@dataclass(frozen=True)
class Litmus:
    """A program; what is final in memory is left out where sizes are mixed."""

    harts: tuple[str, ...]
    widths: str = "bhwd"  # sizes of accesses that have none of their own
    final: bool = True


def _variants() -> dict[str, Litmus]:
    """The classic shapes, each with nothing, and with what forbids or nearly forbids what is relaxed about it."""
    full, one, two = "fence rw,rw", "w x 1", "w y 1"
    programs: dict[str, tuple[str, ...]] = {
        "MP": ("w x 1; w y 1", "r y; r x"),
        "MP+fences": (f"w x 1; {full}; w y 1", f"r y; {full}; r x"),
        "MP+fence.w.w+fence.r.r": ("w x 1; fence w,w; w y 1", "r y; fence r,r; r x"),
        "MP+fence.tso": ("w x 1; fence.tso; w y 1", "r y; fence.tso; r x"),
        "MP+fence.w.w+addr": ("w x 1; fence w,w; w y 1", "r y; r x addr:0"),
        "MP+fence.w.w+ctrl": ("w x 1; fence w,w; w y 1", "r y; r x ctrl:0"),
        "MP+rl+aq": ("w x 1; amoswap.rl y 1", "amoadd.aq y 0; r x"),
        "MP+rl+lr.aq": ("w x 1; amoswap.rl y 1", "lr.aq y; r x"),
        "MP+amo+amo": ("amoswap x 1; amoswap.rl y 1", "amoadd.aq y 0; amoadd x 0"),
        "MP+fence+forwarded": (f"w x 1; {full}; w y 1", "r y; w z 1 data:0; r z; r x addr:1"),
        "MP+fence+guessed": (f"w x 1; {full}; w y 1", "r y; w z 1 ctrl:0; r z; r x addr:1"),
        "MP+sc": ("w x 1; lr y; sc.rl y 1", "r y; fence r,r; r x"),
        "SB": ("w x 1; r y", "w y 1; r x"),
        "SB+fences": (f"w x 1; {full}; r y", f"w y 1; {full}; r x"),
        "SB+fence.w.r": ("w x 1; fence w,r; r y", "w y 1; fence w,r; r x"),
        "SB+fence.tso": ("w x 1; fence.tso; r y", "w y 1; fence.tso; r x"),
        "SB+amo.aqrl": ("amoswap.aqrl x 1; r y", "amoswap.aqrl y 1; r x"),
        "SB+amo.rl+lr.aq": ("amoswap.rl x 1; lr.aq y", "amoswap.rl y 1; lr.aq x"),
        "SB+amo": ("amoswap x 1; amoadd y 0", "amoswap y 1; amoadd x 0"),
        "SB+forwarded": ("w x 1; r x; r y", "w y 1; r y; r x"),
        "LB": ("r x; w y 1", "r y; w x 1"),
        "LB+fences": ("r x; fence r,w; w y 1", "r y; fence r,w; w x 1"),
        "LB+data": ("r x; w y 1 data:0", "r y; w x 1 data:0"),
        "LB+ctrl": ("r x; w y 1 ctrl:0", "r y; w x 1 ctrl:0"),
        "LB+addr": ("r x; w y 1 addr:0", "r y; w x 1 addr:0"),
        "LB+amo": ("amoadd.aq x 0; w y 1", "amoadd.aq y 0; w x 1"),
        "CoRR": (one, "r x; r x"),
        "CoRR2": ("w x 1; w x 2", "r x; r x; r x"),
        "CoWW": ("w x 1; w x 2", "r x; r x"),
        "CoWR": ("w x 1; r x", "w x 2; r x"),
        "CoRW": ("r x; w x 1", "w x 2; r x"),
        "CoRR+two": ("w x 1", "w x 2", "r x; r x", "r x; r x"),
        "S": ("w x 2; w y 1", "r y; w x 1"),
        "S+fence+data": ("w x 2; fence w,w; w y 1", "r y; w x 1 data:0"),
        "S+fence+ctrl": ("w x 2; fence w,w; w y 1", "r y; w x 1 ctrl:0"),
        "R": ("w x 1; w y 1", "w y 2; r x"),
        "R+fences": (f"w x 1; {full}; w y 1", f"w y 2; {full}; r x"),
        "R+fence.tso": ("w x 1; fence.tso; w y 1", "w y 2; fence.tso; r x"),
        "2+2W": ("w x 1; w y 2", "w y 1; w x 2"),
        "2+2W+fences": ("w x 1; fence w,w; w y 2", "w y 1; fence w,w; w x 2"),
        "2+2W+rl": ("w x 1; amoswap.rl y 2", "w y 1; amoswap.rl x 2"),
        "WRC": (one, "r x; w y 1", "r y; r x"),
        "WRC+fences": (one, f"r x; {full}; w y 1", "r y; fence r,r; r x"),
        "WRC+data+addr": (one, "r x; w y 1 data:0", "r y; r x addr:0"),
        "WRC+rl+aq": (one, "r x; amoswap.rl y 1", "lr.aq y; r x"),
        "RWC": (one, "r x; r y", "w y 1; r x"),
        "RWC+fences": (one, f"r x; {full}; r y", f"w y 1; {full}; r x"),
        "ISA2": ("w x 1; w y 1", "r y; w z 1", "r z; r x"),
        "ISA2+fences": (f"w x 1; {full}; w y 1", f"r y; {full}; w z 1", f"r z; {full}; r x"),
        "ISA2+fence+data+addr": ("w x 1; fence w,w; w y 1", "r y; w z 1 data:0", "r z; r x addr:0"),
        "IRIW": (one, two, "r x; r y", "r y; r x"),
        "IRIW+fences": (one, two, f"r x; {full}; r y", f"r y; {full}; r x"),
        "IRIW+addr": (one, two, "r x; r y addr:0", "r y; r x addr:0"),
        "IRIW+amo": (one, two, "amoadd.aq x 0; amoadd y 0", "amoadd.aq y 0; amoadd x 0"),
        "amoadd": ("amoadd x 1", "amoadd x 1", "amoadd x 1"),
        "amoswap+w": ("amoswap x 1", "w x 2", "amoadd x 0"),
        "LR/SC": ("lr x; sc x 1", "lr x; sc x 2"),
        "LR/SC+w": ("lr x; sc x 1", "w x 2; r x"),
        "LR/SC+amo": ("lr x; sc x 2", "amoadd x 1; r x"),
        "LR/SC+three": ("lr x; sc x 1", "lr x; sc x 2", "lr x; sc x 3"),
    }  # fmt: skip
    tests = {}
    for name, harts in programs.items():
        text = ";".join(harts)
        widths = "wd" if "lr" in text else "bhwd"
        tests[name] = Litmus(harts, widths)
    mixed = {
        "mixed: one store, two loads": ("w.d x 0x100000001", "r.w x; r.w x+4"),
        "mixed: one store, halves behind": ("w.d x 0x100000001", "r.w x+4; fence r,r; r.w x"),
        "mixed: two stores, one load": ("w.w x 1; w.w x+4 1", "r.d x; r.d x"),
        "mixed: two stores with a fence": ("w.w x 1; fence w,w; w.w x+4 1", "r.d x; fence r,r; r.d x"),
        "mixed: forwarded in part": ("w.w x 1; r.d x", "w.w x+4 1; r.d x"),
        "mixed: halves of a word": ("w.h x 1; r.w x", "w.h x+2 1; r.w x"),
        "mixed: message": ("w.d x 0x100000001; fence w,w; w.w y 1", "r.w y; fence r,r; r.w x+4"),
        "mixed: AMO over a store": ("amoswap.d x 0x100000001", "w.w x+4 2; r.d x"),
        "mixed: AMO over a half": ("amoadd.w x+4 1; r.d x", "w.d x 0x200000002; r.d x"),
        "mixed: narrow AMOs": ("amoadd.h x 1; r.w x", "amoswap.h x+2 2; r.w x"),
        "mixed: LR/SC over a half": ("lr.d x; sc.d x 0x100000001", "w.w x+4 2; r.d x"),
    }
    return tests | {name: Litmus(harts, "d", final=False) for name, harts in mixed.items()}


TESTS = _variants()


@dataclass(frozen=True)
class Field:
    """Two bits of the number of an outcome: a part of what one load got, or of what one location holds."""

    place: int  # in the outcome
    shift: int


class LitmusProgram:
    """The machine code of a test, and what its counts mean."""

    def __init__(self, test: Litmus, width: str, rounds: int) -> None:
        self.test, self.rounds = test, rounds
        self.model = model_of(test, width)
        self.asm = Assembler()
        loads = [operation for operation in self.model.operations if operation.number is not None]
        granule = min(operation.size for operation in self.model.operations if operation.size)
        self.fields: list[Field] = []
        self.masks: list[int] = []  # of the bits that the values of each place have
        for place, operation in enumerate(loads):
            size = 1 if operation.name == "sc" else operation.size
            shifts = range(0, 8 * size, 8 * granule)
            self.fields += [Field(place, shift) for shift in shifts]
            self.masks.append(sum(3 << shift for shift in shifts))
        if test.final:
            for place in range(len(loads), len(loads) + len(self.model.locations)):
                self.fields.append(Field(place, 0))
                self.masks.append(3)
        self.loads = loads
        if len(self.fields) > 8:
            raise ValueError("too many outcomes")
        self._build()

    # --- code ---

    def _build(self) -> None:
        asm = self.asm
        asm.csrr(SCRATCH, "mhartid")
        for hart in range(len(self.model.harts)):
            asm.op("addi", SECOND, SCRATCH, imm=-hart)
            asm.jump(f"hart{hart}", "beq", rs1=SECOND)
        asm.label("park")
        asm.op("wfi")
        asm.jump("park")
        for hart in range(len(self.model.harts)):
            self._hart(hart)
        if asm.here > CELLS:
            raise ValueError("too long")

    def _hart(self, hart: int) -> None:
        asm, operations = self.asm, self.model.harts[hart]
        asm.label(f"hart{hart}")
        asm.li(CELL, CELLS)
        asm.li(TARGET, 0)
        asm.li(COUNT, 0)
        asm.li(ROUNDS, self.rounds)
        asm.li(RANDOM, 0x1234_5678_9ABC_DEF1)
        constants = {}
        for operation in operations:
            if operation.stores and operation.value and operation.value not in constants:
                constants[operation.value] = VALUES[len(constants)]
                asm.li(constants[operation.value], operation.value)
        constants[0] = ZERO
        asm.label(f"round{hart}")
        self._barrier()
        asm.li(POINTER, INSTANCES)
        asm.li(END, INSTANCES + ROUND * INSTANCE)
        asm.label(f"instance{hart}")
        self._meet(hart)
        self._delay(hart)
        for i, address in enumerate(ADDRESSES):
            if LOCATIONS[i] in self.model.locations:
                asm.op("addi", address, POINTER, imm=LOCATION * i)
        for operation in operations:
            self._operation(operation, constants)
        for operation in operations:
            if operation.number is not None:
                asm.op("sd", 0, POINTER, LOADED[operation.number], imm=self._result(operation))
        asm.op("addi", POINTER, POINTER, imm=INSTANCE // 2)
        asm.op("addi", POINTER, POINTER, imm=INSTANCE // 2)
        asm.jump(f"instance{hart}", "bne", rs1=POINTER, rs2=END)
        self._barrier()
        if hart == 0:
            self._count()
        asm.op("addi", ROUNDS, ROUNDS, imm=-1)
        asm.jump(f"round{hart}", "bne", rs1=ROUNDS)
        if hart == 0:
            asm.li(SCRATCH, POWER_OFF)
            asm.li(SECOND, 0x5555)
            asm.op("sw", 0, SCRATCH, SECOND)
        asm.jump("park")

    @staticmethod
    def _result(operation: Operation) -> int:
        assert operation.number is not None
        return RESULTS + RESULTS_OF_HART * operation.hart + 8 * operation.number

    def _barrier(self) -> None:
        """Until all harts are here, this many times."""
        asm = self.asm
        asm.op("addi", TARGET, TARGET, imm=len(self.model.harts))
        asm.op("addi", SECOND, 0, imm=1)
        asm.op("fence", imm=0x33)
        asm.op("amoadd.d", 0, CELL, SECOND)
        label = asm.here
        asm.op("ld", SECOND, CELL)
        asm.op("bge", 0, SECOND, TARGET, imm=12)
        asm.op("pause")
        asm.op("jal", 0, imm=label - asm.here)
        asm.op("fence", imm=0x33)

    def _meet(self, hart: int) -> None:
        """Waits a little until the others are at this instance."""
        asm = self.asm
        asm.op("addi", COUNT, COUNT, imm=1)
        asm.op("sd", 0, CELL, COUNT, imm=PROGRESS + PROGRESS_OF_HART * hart)
        asm.op("addi", THIRD, 0, imm=PATIENCE)
        for other in range(len(self.model.harts)):
            if other != hart:
                asm.op("addi", THIRD, THIRD, imm=-1)
                asm.op("bge", 0, 0, THIRD, imm=12)
                asm.op("ld", SCRATCH, CELL, imm=PROGRESS + PROGRESS_OF_HART * other)
                asm.op("blt", 0, SCRATCH, COUNT, imm=-12)

    def _delay(self, hart: int) -> None:
        """As long as a random number says, which is the same in every hart; each takes other bits of it."""
        asm = self.asm
        for name, shift in (("slli", 13), ("srli", 7), ("slli", 17)):
            asm.op(name, SCRATCH, RANDOM, imm=shift)
            asm.op("xor", RANDOM, RANDOM, SCRATCH)
        asm.op("srli", SCRATCH, RANDOM, imm=9 * hart)
        asm.op("andi", SCRATCH, SCRATCH, imm=15)
        asm.op("beq", 0, SCRATCH, 0, imm=12)
        asm.op("addi", SCRATCH, SCRATCH, imm=-1)
        asm.op("bne", 0, SCRATCH, 0, imm=-4)

    def _operation(self, operation: Operation, constants: dict[int, int]) -> None:
        asm = self.asm
        for load in sorted(operation.control):
            asm.op("bne", 0, LOADED[load], LOADED[load], imm=4)
        if operation.name == "fence":
            asm.word(fence(operation))
            return
        letter = "bhwd"[[1, 2, 4, 8].index(operation.size)]
        address = ADDRESSES[LOCATIONS.index(operation.location)]
        value = constants[operation.value] if operation.stores else ZERO
        offset = operation.offset
        for load in sorted(operation.address):
            asm.op("xor", SCRATCH, LOADED[load], LOADED[load])
            asm.op("add", SCRATCH, SCRATCH, address)
            address = SCRATCH
        for load in sorted(operation.data):
            asm.op("xor", SECOND, LOADED[load], LOADED[load])
            asm.op("add", SECOND, SECOND, value)
            value = SECOND
        target = LOADED[operation.number] if operation.number is not None else ZERO
        order = operation.acquire << 26 | operation.release << 25
        if operation.name == "r":
            asm.op(f"l{letter}" if letter == "d" else f"l{letter}u", target, address, imm=offset)
            return
        if operation.name == "w":
            asm.op(f"s{letter}", 0, address, value, imm=offset)
            return
        if offset:
            asm.op("addi", THIRD, address, imm=offset)
            address = THIRD
        asm.word(encode(f"{operation.name}.{letter}", target, address, value) | order)

    def _count(self) -> None:
        """Counts the outcomes of the round, and clears the locations."""
        asm = self.asm
        asm.li(POINTER, INSTANCES)
        asm.li(END, INSTANCES + ROUND * INSTANCE)
        asm.label("count")
        asm.op("addi", THIRD, 0, imm=0)  # the number of the outcome
        for place, mask in enumerate(self.masks):
            if place < len(self.loads):
                offset = self._result(self.loads[place])
            else:
                offset = LOCATION * LOCATIONS.index(self.model.locations[place - len(self.loads)])
            asm.op("ld", SCRATCH, POINTER, imm=offset)
            asm.li(SECOND, ~mask)
            asm.op("and", SECOND, SECOND, SCRATCH)
            asm.op("beq", 0, SECOND, 0, imm=8)
            asm.op("sd", 0, CELL, SECOND, imm=FOREIGN - CELLS)
            for field in (field for field in self.fields if field.place == place):
                asm.op("srli", SECOND, SCRATCH, imm=field.shift)
                asm.op("andi", SECOND, SECOND, imm=3)
                asm.op("slli", THIRD, THIRD, imm=2)
                asm.op("or", THIRD, THIRD, SECOND)
        asm.li(SCRATCH, COUNTS)
        asm.op("sh3add", SCRATCH, THIRD, SCRATCH)
        asm.op("ld", SECOND, SCRATCH)
        asm.op("addi", SECOND, SECOND, imm=1)
        asm.op("sd", 0, SCRATCH, SECOND)
        for location in self.model.locations:
            asm.op("sd", 0, POINTER, 0, imm=LOCATION * LOCATIONS.index(location))
        asm.op("addi", POINTER, POINTER, imm=INSTANCE // 2)
        asm.op("addi", POINTER, POINTER, imm=INSTANCE // 2)
        asm.jump("count", "bne", rs1=POINTER, rs2=END)

    # --- outcomes ---

    def project(self, outcomes: set[Outcome]) -> set[Outcome]:
        """The places that are counted."""
        return {outcome[: len(self.masks)] for outcome in outcomes}

    def outcome(self, number: int) -> Outcome:
        values = [0] * len(self.masks)
        for i, part in enumerate(reversed(self.fields)):
            values[part.place] |= (number >> 2 * i & 3) << part.shift
        return tuple(values)

    def run(self, *, deterministic: bool = False) -> collections.Counter[Outcome]:
        """Runs it to its end; how often each outcome came."""
        with wirt.Machine(
            firmware=self.asm.elf(), memory=MEMORY, cpus=len(self.model.harts), isa=ISA, deterministic=deterministic
        ) as vm:
            vm.start()
            if not vm.wait(600):
                raise TimeoutError("the harts did not reach the end")
            foreign = int.from_bytes(vm.memory[FOREIGN : FOREIGN + 8], "little")
            if foreign:
                raise AssertionError(f"a value has bits that nobody stored: {foreign:#x}")
            size = 4 ** len(self.fields)
            counts = memoryview(bytes(vm.memory[COUNTS : COUNTS + 8 * size])).cast("Q")
        return collections.Counter({self.outcome(i): count for i, count in enumerate(counts) if count})


@functools.cache
def model_of(test: Litmus, width: str) -> Model:
    return Model(test.harts, SIZES[width])


@functools.cache
def outcomes_of(test: Litmus, width: str) -> tuple[frozenset[Outcome], frozenset[Outcome]]:
    """What the memory model allows, and what would be there without it, with merely interleaved harts."""
    model = model_of(test, width)
    return frozenset(model.allowed()), frozenset(model.sequential())


def fence(operation: Operation) -> int:
    """The encoding of a fence."""
    if len(operation.fences) == 2:
        return encode("fence", imm=0x833)
    bits = {"r": 2, "w": 1}
    before, behind = (sum(bits[kind] for kind in kinds) for kinds in operation.fences[0])
    return encode("fence", imm=before << 4 | behind)


@dataclass(frozen=True)
class Result:
    """What a run showed."""

    counts: collections.Counter[Outcome]
    forbidden: dict[Outcome, int]
    relaxed: int  # how often an outcome came that no interleaving has
    possible: int  # how many such outcomes there are


def check(test: Litmus, width: str, rounds: int, *, deterministic: bool = False) -> Result:
    """Runs a test; what came of it, against the memory model."""
    program = LitmusProgram(test, width, rounds)
    allowed, sequential = (program.project(set(outcomes)) for outcomes in outcomes_of(test, width))
    counts = program.run(deterministic=deterministic)
    return Result(
        counts,
        {outcome: count for outcome, count in counts.items() if outcome not in allowed},
        sum(count for outcome, count in counts.items() if outcome in allowed - sequential),
        len(allowed - sequential),
    )
