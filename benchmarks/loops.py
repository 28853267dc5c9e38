"""What single instructions cost the interpreter: loops of a hundred or so equal ones on a bare hart in M-mode.

    python benchmarks/loops.py [--turns 3]

Nanoseconds of host CPU time for each repetition, the least of the turns: what the host is capable of, not what it does
while others use it. Beside it cycles of the host, by a chain of multiplications that takes three cycles each on every
x86-64 and AArch64 processor of the last years.
"""

from __future__ import annotations

import argparse
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import wirt

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.assembler import Assembler

Body = Callable[[Assembler, int], None]
REPEATED, PASSES = 50, 300_000
COUNTER, DATA, PLACE = 5, 15, 16
CHAIN = """
int main(void) {
    unsigned long value = 3;
    for (unsigned long i = 0; i < 1000000000; i++) __asm__ volatile(MULTIPLY : "+r"(value));
    return (int)value;
}
"""


def cycles_a_nanosecond() -> float:
    """Of the host."""
    multiply = '"imulq %0, %0"' if platform.machine() == "x86_64" else '"mul %0, %0, %0"'
    with tempfile.TemporaryDirectory() as directory:
        source, program = Path(directory) / "chain.c", Path(directory) / "chain"
        source.write_text(CHAIN)
        subprocess.run(["gcc", "-O2", f"-DMULTIPLY={multiply}", "-o", str(program), str(source)], check=True)
        begin = time.perf_counter()
        subprocess.run([str(program)], check=False)
        return 3e9 / (time.perf_counter() - begin) / 1e9


def repeated(body: Body) -> tuple[bytes, int, int]:
    """An image, where it ends, and how many repetitions it makes."""
    asm = Assembler()
    asm.li(COUNTER, PASSES)
    asm.la(DATA, "data")
    asm.la(PLACE, "top")
    asm.label("top")
    for i in range(REPEATED):
        body(asm, i)
    asm.op("addi", COUNTER, COUNTER, imm=-1)
    asm.jump("top", "bne", rs1=COUNTER)
    end = asm.here
    asm.op("jal", 0, imm=0)
    asm.org(asm.here + 4095 & ~4095)
    asm.label("data")
    asm.org(asm.here + 4096)
    return asm.elf(), end, PASSES * REPEATED


def dispatched(targets: int, length: int) -> tuple[bytes, int, int]:
    """Jumps by a table, as an interpreter makes them, in an order that repeats after `length`."""
    rng = random.Random(length)
    sequence = [rng.randrange(targets) for _ in range(length)]
    rounds = 6_000_000 // length
    asm = Assembler()
    asm.li(COUNTER, rounds)
    asm.la(19, "table")
    asm.label("top")
    asm.la(18, "sequence")
    asm.jump("next")
    for i in range(targets):
        asm.label(f"target{i}")
        for j in range(1 + i % 3):
            asm.op(("sub", "sll", "srl", "sltu", "slt", "sra", "xor", "or", "and")[(i * 3 + j) % 9], 12 + i % 2, 11, 11)
        asm.jump("next")
    asm.label("last")
    asm.op("addi", COUNTER, COUNTER, imm=-1)
    asm.jump("top", "bne", rs1=COUNTER)
    end = asm.here
    asm.op("jal", 0, imm=0)
    asm.label("next")
    asm.op("lbu", 12, 18, imm=0)
    asm.op("addi", 18, 18, imm=1)
    asm.op("slli", 12, 12, imm=3)
    asm.op("add", 12, 12, 19)
    asm.op("ld", 12, 12, imm=0)
    asm.op("jalr", 0, 12, imm=0)
    asm.org(asm.here + 4095 & ~4095)
    asm.label("sequence")
    asm.content += bytes([*sequence, targets])
    asm.org(asm.here + 4095 & ~4095)
    asm.label("table")
    for name in [*(f"target{i}" for i in range(targets)), "last"]:
        asm.content += asm.labels[name].to_bytes(8, "little")
    return asm.elf(), end, rounds * length


def seconds(image: bytes, end: int) -> float:
    """Host CPU time until the program's end."""
    with wirt.Machine(firmware=image, memory="32M", deterministic=True) as vm:
        vm.add_breakpoint(end)
        begin = time.process_time()
        vm.run_for(1_000_000_000)
        assert vm.harts[0].pc == end
        return time.process_time() - begin


def step_over(asm: Assembler, i: int, name: str) -> None:
    asm.jump(f"over{i}", name, rs1=COUNTER if name == "bne" else 0)
    asm.op("sub", 12, 11, 11)
    asm.label(f"over{i}")
    asm.op("sub", 13, 11, 11)


def call(asm: Assembler, i: int) -> None:
    if i == 0:
        asm.jump("over")
        asm.label("function")
        asm.op("sub", 13, 11, 11)
        asm.op("jalr", 0, 1, imm=0)
        asm.label("over")
    asm.jump("function", rd=1)
    asm.op("sub", 12, 11, 11)


def element(asm: Assembler, _: int) -> None:
    asm.op("slli", 12, 0, imm=3)
    asm.op("add", 12, 12, DATA)
    asm.op("ld", 13, 12, imm=0)


PROGRAMS: dict[str, tuple[bytes, int, int]] = {
    "SUB, each on the result of the one before": repeated(lambda asm, _: asm.op("sub", 10, 10, 11)),
    "SUB, independent": repeated(lambda asm, i: asm.op("sub", 17 + i % 12, 11, 11)),
    "ADDI, two in a handler": repeated(lambda asm, _: asm.op("addi", 10, 10, imm=1)),
    "LHU": repeated(lambda asm, i: asm.op("lhu", 17 + i % 12, DATA, imm=i * 8)),
    "SH": repeated(lambda asm, i: asm.op("sh", 0, DATA, 17 + i % 12, imm=i * 8)),
    "SLLI, ADD, LD": repeated(element),
    "JAL, SUB": repeated(lambda asm, i: step_over(asm, i, "jal")),
    "BNE, taken, SUB": repeated(lambda asm, i: step_over(asm, i, "bne")),
    "call, SUB, return, SUB": repeated(call),
    "dispatch to 8 places, the order repeats after 8": dispatched(8, 8),
    "dispatch to 8 places, the order repeats after 1024": dispatched(8, 1024),
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    rate = cycles_a_nanosecond()
    print(f"the host makes {rate:.2f} cycles a nanosecond")
    for name, (image, end, repetitions) in PROGRAMS.items():
        least = min(seconds(image, end) for _ in range(turns)) * 1e9 / repetitions
        print(f"{name:52} {least:6.2f} ns {least * rate:6.1f} cycles")


if __name__ == "__main__":
    main()
