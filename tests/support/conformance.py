"""Compares the hart with Spike over many random programs.

`python -m tests.support.conformance --instructions 2000000`
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from . import spike
from .comparison import Mismatch, Tally, compare
from .hypervisor_programs import GuestRegisters, GuestTraps, TwoStage
from .privileged_programs import PageWalks, Protection, Registers, Traps
from .random_programs import Program, generate


def user_programs(seed: int) -> Iterator[Program]:
    """Endless."""
    while True:
        yield generate(seed)
        seed += 1


def privileged_programs(seed: int, count: int) -> Iterator[Program]:
    """`count` of each kind, and every CSR number once."""
    for i in range(seed, seed + count):
        yield PageWalks(i).build()
        yield Protection(i).build()
        yield Traps(i).build()
    for first in range(0, 0x1000, 256):
        yield Registers(seed).build(list(range(first, first + 256)))


def hypervisor_programs(seed: int, count: int) -> Iterator[Program]:
    """`count` of each kind, and every CSR number once."""
    for i in range(seed, seed + count):
        yield TwoStage(i).build()
        yield GuestTraps(i).build()
    for first in range(0, 0x1000, 128):
        yield GuestRegisters(seed).build(list(range(first, first + 128)))


def run(programs: Iterator[Program], limit: int | None, keep_going: bool) -> tuple[Tally, list[str]]:
    tally, differences = Tally(), []
    for program in programs:
        try:
            compare(program, tally)
        except Mismatch as difference:
            differences.append(str(difference))
            print(f"\n{difference}\n", file=sys.stderr)
            if not keep_going:
                break
        print(f"\r{tally.programs} programs, {tally.instructions} instructions", end="", file=sys.stderr, flush=True)
        if limit is not None and tally.instructions >= limit:
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
    parser.add_argument("--seed", type=int, default=1, help="of the first program; the others follow")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a difference")
    options = parser.parse_args()
    print(f"Spike {spike.version()}, --isa={spike.ISA}, seeds from {options.seed}")
    differences: list[str] = []
    for title, programs, limit in (
        ("random programs", user_programs(options.seed), options.instructions),
        ("privileged programs", privileged_programs(options.seed, options.privileged), None),
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
