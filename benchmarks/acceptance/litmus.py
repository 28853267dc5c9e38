"""Memory order, translations and code between harts that run in threads of the host, many times over.

    python benchmarks/acceptance/litmus.py [--rounds N] [--changes N] [--only TEXT]

Litmus tests of 2 to 4 harts (tests/support/litmus.py), each in every size of access: how often each kind of outcome
came that no interleaving of the harts has (relaxed), of how many that the memory model allows, and any that it forbids.
Then fences on other harts (tests/support/remote_fences.py), by IPI and by the SBI's RFENCE: changes, the accesses that
workers made meanwhile, and what did not hold. Ends with status 0 only when nothing was forbidden and all held. To see
relaxed outcomes at all, every hart needs a core of the host.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from support import litmus
from support.remote_fences import FENCES, RemoteFences


def litmus_tests(only: str, rounds: int) -> tuple[int, int]:
    """How many programs ran, and how many outcomes were forbidden."""
    print(f"{'test':32} {'size':4} {'instances':>10} {'outcomes':>8} {'relaxed':>8} {'kinds':>6}  forbidden")
    programs = forbidden = 0
    for name, test in litmus.TESTS.items():
        for width in test.widths if only in name else "":
            result = litmus.check(test, width, rounds)
            programs += 1
            forbidden += sum(result.forbidden.values())
            instances = sum(result.counts.values())
            print(
                f"{name:32} {width:4} {instances:10} {len(result.counts):8} {result.relaxed:8} {result.possible:6}"
                f"  {result.forbidden or 'none'}",
                flush=True,
            )
    return programs, forbidden


def remote_fences(only: str, changes: int) -> tuple[int, int]:
    """How many changes were made, and how often something did not hold."""
    print(f"\n{'fence':22} {'by':7} {'workers':>7} {'changes':>8} {'accesses':>13} {'faults':>11}  wrong")
    made = wrong = 0
    for fence in FENCES:
        for sbi in (False, True) if only in fence else ():
            for workers, near in ((1, False), (2, False), *([(1, True)] if fence == "fence.i" else [])):
                count = min(changes, 2000) if fence == "fence.i" else changes
                report = RemoteFences(fence, count, sbi=sbi, workers=workers, near=near).run(timeout=7200)
                made += report.changes
                wrong += sum(report.errors.values())
                print(
                    f"{fence + near * ', one page':22} {'RFENCE' if sbi else 'IPI':7} {workers:7} {report.changes:8}"
                    f" {report.accesses:13} {report.faults:11}  {report.errors or 'nothing'}",
                    flush=True,
                )
    return made, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000, help=f"of {litmus.ROUND} instances each")
    parser.add_argument(
        "--changes", type=int, default=2000, help="of an entry or an instruction; at most 2000 of the latter"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="tests and fences with this in their names")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    start = time.monotonic()
    programs, forbidden = litmus_tests(options.only, options.rounds)
    made, wrong = remote_fences(options.only, options.changes)
    print(
        f"\n{programs} litmus programs, {forbidden} forbidden outcomes; {made} fenced changes, {wrong} that did not"
        f" hold; {time.monotonic() - start:.0f} s"
    )
    sys.exit(1 if forbidden or wrong else 0)


if __name__ == "__main__":
    main()
