"""Compares the hart with Spike over many random programs.

`python -m tests.support.conformance --instructions 2000000`
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from wirt import isa

from . import spike
from .comparison import Mismatch, Tally, compare
from .hypervisor_programs import GuestRegisters, GuestTraps, TwoStage
from .privileged_programs import PageWalks, Protection, Registers, Traps
from .random_programs import Program, generate
from .trigger_programs import TriggerHits
from .vector_programs import EXTENSIONS, VLENS
from .vector_programs import generate as generate_vector


def user_programs(seed: int, scalar: bool = False) -> Iterator[Program]:
    """Endless."""
    while True:
        yield generate(seed, scalar=scalar)
        seed += 1


def vector_programs(seed: int) -> Iterator[Program]:
    """Endless, of every VLEN in turn."""
    while True:
        yield generate_vector(seed, VLENS[seed % len(VLENS)], items=80)
        seed += 1


def privileged_programs(seed: int, count: int, scalar: bool = False) -> Iterator[Program]:
    """`count` of each kind, and every CSR number once."""
    for i in range(seed, seed + count):
        yield PageWalks(i, scalar=scalar).build()
        yield Traps(i, scalar=scalar).build()
        yield TriggerHits(i).build() if scalar else Protection(i).build()
    for first in range(0, 0x1000, 256):
        yield Registers(seed, scalar=scalar).build(list(range(first, first + 256)))


def hypervisor_programs(seed: int, count: int) -> Iterator[Program]:
    """`count` of each kind, and every CSR number once."""
    for i in range(seed, seed + count):
        yield TwoStage(i).build()
        yield GuestTraps(i).build()
    for first in range(0, 0x1000, 128):
        yield GuestRegisters(seed).build(list(range(first, first + 128)))


def run(
    programs: Iterator[Program], limit: int | None, keep_going: bool, *, vector: bool = False
) -> tuple[Tally, list[str]]:
    """With `vector`, memory alone is compared, and the limit is of vector instructions."""
    tally, differences = Tally(), []
    for program in programs:
        try:
            compare(program, tally, trace=not vector)
        except Mismatch as difference:
            differences.append(str(difference))
            print(f"\n{difference}\n", file=sys.stderr)
            if not keep_going:
                break
        count = tally.instructions
        if vector:
            by_extension = tally.by_extension()
            count = sum(by_extension.get(extension, 0) for extension in EXTENSIONS)
        print(f"\r{tally.programs} programs, {count} instructions", end="", file=sys.stderr, flush=True)
        if limit is not None and count >= limit:
            break
    print(file=sys.stderr)
    return tally, differences


def report(title: str, tally: Tally, seconds: float) -> None:
    print(f"{title}: {tally.instructions} instructions in {tally.programs} programs, {seconds:.0f} s")
    for extension, count in sorted(tally.by_extension().items(), key=lambda item: -item[1]):
        print(f"  {extension:12} {count:9}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.conformance", description=__doc__)
    parser.add_argument(
        "--instructions", type=int, default=1_000_000, help="at least so many in random programs of all modes"
    )
    parser.add_argument("--privileged", type=int, default=5, help="so many programs of each privileged kind")
    parser.add_argument("--hypervisor", type=int, default=5, help="so many programs of each kind with guests")
    parser.add_argument("--vector", type=int, default=0, help="at least so many vector instructions, and nothing else")
    parser.add_argument("--seed", type=int, default=1, help="of the first program; the others follow")
    parser.add_argument("--scalar", action="store_true", help="on harts with all scalar extensions")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a difference")
    options = parser.parse_args()
    print(
        f"Spike {spike.version()}, --isa={spike.ISA_SCALAR if options.scalar else spike.ISA}, seeds from {options.seed}"
    )
    differences: list[str] = []
    if options.vector:
        start = time.monotonic()
        tally, differences = run(vector_programs(options.seed), options.vector, options.keep_going, vector=True)
        report("vector programs", tally, time.monotonic() - start)
        never = [row.name for row in isa.instructions() if row.extension in EXTENSIONS and not tally.by_name[row.name]]
        print(f"never executed: {', '.join(never) or 'none'}\n{len(differences)} differences")
        return 1 if differences else 0
    for title, programs, limit in (
        ("random programs", user_programs(options.seed, options.scalar), options.instructions),
        ("privileged programs", privileged_programs(options.seed, options.privileged, options.scalar), None),
        ("programs of hypervisors", hypervisor_programs(options.seed, options.hypervisor), None),
    ):
        start = time.monotonic()
        tally, found = run(programs, limit, options.keep_going)
        report(title, tally, time.monotonic() - start)
        differences += found
    print(f"{len(differences)} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
