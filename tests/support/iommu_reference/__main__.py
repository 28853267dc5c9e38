"""Plays random cases on the reference model and on Wirt, and says where they part."""

from __future__ import annotations

import argparse
import collections
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import vectors
from .cases import Case, Debug, PageRequest, Request
from .ours import Ours
from .play import Player, Record
from .reference import HOW_TO_BUILD, ReferenceModel


class Tally:
    """What was seen, by the kind of the request and by the cause of the fault."""

    def __init__(self) -> None:
        self.cases: collections.Counter[str] = collections.Counter()
        self.requests: collections.Counter[str] = collections.Counter()
        self.causes: collections.Counter[int] = collections.Counter()
        self.differences = 0

    def add(self, kind: str, case: Case, record: Record) -> None:
        self.cases[kind] += 1
        for operation, outcome in zip(case.operations, record.outcomes, strict=True):
            match operation:
                case Request():
                    self.requests[("untranslated", "ATS translation", "translated")[operation.kind]] += 1
                case PageRequest():
                    self.requests["page request"] += 1
                case Debug():
                    self.requests["debug"] += 1
            for fault in faults(outcome):
                self.causes[fault[1]] += 1

    def show(self) -> None:
        for title, counts in ("cases", self.cases), ("requests", self.requests), ("causes", self.causes):
            print(f"{title}: {sum(counts.values()):,}")
            for name, count in sorted(counts.items(), key=str):
                print(f"  {name!s:>16} {count:>10,}")
        print(f"differences: {self.differences:,}")


def faults(outcome: object) -> Iterator[tuple[object, int]]:
    """The fault records in an operation's outcome."""
    assert isinstance(outcome, tuple | list)
    yield from outcome[1]


def difference(case: Case, expected: Record, got: Record) -> str | None:
    """Where two records of a case part, in words."""
    for i, (operation, one, other) in enumerate(zip(case.operations, expected.outcomes, got.outcomes, strict=True)):
        if one != other:
            return f"operation {i}, {operation}:\n  model {one}\n  ours  {other}"
    if expected.registers != got.registers:
        return f"registers at the end:\n  model {expected.registers}\n  ours  {got.registers}"
    if expected.memory != got.memory:
        there, here = dict(expected.memory), dict(got.memory)
        words = [f"  {at:#x}: was {case.words.get(at, b'').hex()}, model {there.get(at)}, ours {here.get(at)}"
                 for at in sorted({*there, *here}) if there.get(at) != here.get(at)]  # fmt: skip
        return "memory at the end:\n" + "\n".join(words)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.iommu_reference",
        description=__doc__,
        epilog=HOW_TO_BUILD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=os.environ.get("WIRT_IOMMU_MODEL"), help="the library")
    parser.add_argument("--cases", type=int, default=10_000, help="walks (10,000); of the others fewer")
    parser.add_argument("--kinds", default=",".join(vectors.KINDS), help="which, of %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="the first case's (0)")
    parser.add_argument("--show", type=int, default=5, help="differences to print (5)")
    parser.add_argument("--vectors", type=Path, help="write what the model does to this file")
    parser.add_argument("--version", default="unknown", help="the model's commit, for the vectors' header")
    options = parser.parse_args()
    if options.model is None:
        parser.error("no reference model\n" + HOW_TO_BUILD)
    model = ReferenceModel(Path(options.model))
    players = Player(model), Player(Ours())
    tally, kept = Tally(), list[vectors.Vector]()
    began = time.monotonic()
    for kind in options.kinds.split(","):
        for seed in range(options.seed, options.seed + options.cases // vectors.SHARE[kind]):
            case = vectors.draw(kind, seed)
            expected, got = (player.play(case) for player in players)
            tally.add(kind, case, expected)
            found = difference(case, expected, got)
            if found is not None:
                tally.differences += 1
                if tally.differences <= options.show:
                    print(f"{kind} {seed}: {found}\n  damaged: {case.damage}\n")
            elif options.vectors:
                kept.append(vectors.Vector(kind, seed, vectors.checksum(case), vectors.flat(expected)))
    tally.show()
    print(f"{time.monotonic() - began:.0f} s")
    if options.vectors:
        command = (
            f"python -m tests.support.iommu_reference --cases {options.cases} --seed {options.seed} --vectors FILE"
        )
        header = vectors.Header(options.version, command)
        vectors.write(options.vectors, header, kept)
    return tally.differences != 0


if __name__ == "__main__":
    sys.exit(main())
