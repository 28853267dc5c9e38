"""Random programs of every kind, on Wirt and on Spike, for as many instructions as asked.

    python benchmarks/acceptance/conformance.py [--instructions N] [--seed N] [--only CLASS ...] [--jobs N]

Each class of instructions has its generator (tests/support/*_programs.py) and its share of the N: of the tables of
its own where it has some, of everything that its programs execute where it has not. Every program is executed step by
step beside Spike's log, register by register, and once more in one go, whose memory is compared. Prints what was
executed of each class and each table, the entries of the tables that were not, and each difference with its seed. Ends
with status 0 only when every entry was executed and nothing differs.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from support import spike, vector_programs
from support.aia_programs import VirtualInterrupts
from support.comparison import Mismatch, Tally, compare
from support.hypervisor_programs import GuestRegisters, GuestTraps, TwoStage
from support.privileged_programs import PageWalks, Protection, Registers, Traps
from support.random_programs import SCALAR, Program, default_extensions, generate
from support.trigger_programs import TriggerHits
from wirt import isa

COMPRESSED = {"c", "zcb", "zcmop"}
FLOATING = {"f", "d", "zfh", "zfhmin", "zfhmin_d", "zfa", "zfa_d", "zfa_zfh"}
BASE = default_extensions() - COMPRESSED - FLOATING
FURTHER = SCALAR - COMPRESSED - FLOATING
# CSR numbers that one program goes through.
NUMBERS, GUEST_NUMBERS = 256, 128

Maker = Callable[[], Program]


def user(favoured: set[str], *, further: bool | None = None) -> Callable[[int], list[Maker]]:
    """Programs with more of some extensions; on harts with all scalar extensions, on others, or on both by turns."""

    def makers(seed: int) -> list[Maker]:
        scalar = seed % 2 == 1 if further is None else further
        return [lambda: generate(seed, scalar=scalar, favoured=favoured, chunks=16, items=250, iterations=6)]

    return makers


def vectors(seed: int) -> list[Maker]:
    vlen = vector_programs.VLENS[seed % len(vector_programs.VLENS)]
    return [lambda: vector_programs.generate(seed, vlen, chunks=8, items=150, iterations=6)]


def privileged(seed: int) -> list[Maker]:
    return [
        lambda: PageWalks(seed).build(),
        lambda: PageWalks(seed, scalar=True).build(),
        lambda: Traps(seed).build(),
        lambda: Traps(seed, scalar=True).build(),
        lambda: Protection(seed).build(),
        lambda: VirtualInterrupts(seed).build(),
    ]


def registers(seed: int) -> list[Maker]:
    """Every CSR number on three harts."""

    def some(kind: type[Registers], first: int, count: int, **options: bool) -> Maker:
        return lambda: kind(seed, **options).build(list(range(first, first + count)))

    makers = []
    for first in range(0, 0x1000, NUMBERS):
        makers += [some(Registers, first, NUMBERS), some(Registers, first, NUMBERS, scalar=True)]
    return makers + [some(GuestRegisters, first, GUEST_NUMBERS) for first in range(0, 0x1000, GUEST_NUMBERS)]


def guests(seed: int) -> list[Maker]:
    return [lambda: TwoStage(seed).build(), lambda: GuestTraps(seed).build()]


def triggers(seed: int) -> list[Maker]:
    return [lambda: TriggerHits(seed).build()]


@dataclass(frozen=True)
class Class:
    """A kind of programs: what a seed gives, how much of the whole it is, and which tables count."""

    makers: Callable[[int], list[Maker]]
    share: float
    tables: frozenset[str] | None = None  # None: all that is executed
    whole_seeds: bool = False  # not without all programs of the first seed

    def count(self, tally: Tally) -> int:
        if self.tables is None:
            return tally.instructions
        return sum(count for table, count in tally.by_extension().items() if table in self.tables)


CLASSES = {
    "scalar base": Class(user(BASE), 0.15, frozenset(BASE)),
    "scalar extensions": Class(user(FURTHER, further=True), 0.15, frozenset(FURTHER)),
    "floating point": Class(user(FLOATING), 0.15, frozenset(FLOATING)),
    "compressed": Class(user(COMPRESSED), 0.1, frozenset(COMPRESSED)),
    "vector": Class(vectors, 0.15, frozenset(vector_programs.EXTENSIONS)),
    "privileged": Class(privileged, 0.1),
    "CSR fields": Class(registers, 0.05, whole_seeds=True),
    "two-stage": Class(guests, 0.1),
    "triggers": Class(triggers, 0.05),
}


def compared(name: str, seed: int, index: int) -> tuple[Tally, str | None]:
    """One program, in a process of the pool; the difference, if there is one."""
    tally = Tally()
    try:
        compare(CLASSES[name].makers(seed)[index](), tally)
    except (Mismatch, spike.OracleError, OSError, ValueError) as difference:
        return tally, f"{name}, seed {seed}, program {index}: {difference}"
    return tally, None


def run(name: str, wanted: int, seed: int, pool: ProcessPoolExecutor, jobs: int) -> tuple[Tally, list[str]]:
    kind = CLASSES[name]
    tally, differences = Tally(), []
    first = len(kind.makers(seed)) if kind.whole_seeds else 0
    programs = ((s, index) for s in itertools.count(seed) for index in range(len(kind.makers(s))))
    pending: deque[Future[tuple[Tally, str | None]]] = deque()
    done = 0
    while done < first or kind.count(tally) < wanted:
        while len(pending) < 2 * jobs:
            pending.append(pool.submit(compared, name, *next(programs)))
        part, difference = pending.popleft().result()
        done += 1
        tally.add(part)
        if difference:
            differences.append(difference)
            print(f"\n{difference}\n", file=sys.stderr, flush=True)
        print(f"\r{name}: {done} programs, {kind.count(tally):,}", end="", file=sys.stderr, flush=True)
    for future in pending:
        future.cancel()
    print(file=sys.stderr)
    return tally, differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instructions", type=int, default=10_000_000, help="of all classes together")
    parser.add_argument("--seed", type=int, default=1, help="of each class's first program; the others follow")
    parser.add_argument("--only", nargs="+", choices=CLASSES, metavar="CLASS", help=f"of {', '.join(CLASSES)}")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    print(f"Spike {spike.version()}, seeds from {options.seed}")
    print(f"{'class':20} {'its own':>12} {'executed':>12} {'programs':>9} {'seconds':>8}  differences", flush=True)
    total, own, differences = Tally(), 0, []
    with ProcessPoolExecutor(options.jobs) as pool:
        for name, kind in CLASSES.items():
            if options.only and name not in options.only:
                continue
            start = time.monotonic()
            tally, found = run(name, round(kind.share * options.instructions), options.seed, pool, options.jobs)
            count, seconds = kind.count(tally), time.monotonic() - start
            print(
                f"{name:20} {count:12,} {tally.instructions:12,} {tally.programs:9} {seconds:8.0f}  {len(found)}",
                flush=True,
            )
            own += count
            total.add(tally)
            differences += found
    print(f"{'all':20} {own:12,} {total.instructions:12,} {total.programs:9} {'':8}  {len(differences)}")
    tables = Counter(total.by_extension())
    print("\n".join(f"  {table:14} {count:12,}" for table, count in tables.most_common()))
    rows = isa.instructions()
    never = [row.name for row in rows if not total.by_name[row.name]]
    print(f"never executed, of {len(rows)} entries: {', '.join(never) or 'none'}")
    for difference in differences:
        print(difference)
    sys.exit(1 if differences or (never and not options.only) else 0)


if __name__ == "__main__":
    main()
