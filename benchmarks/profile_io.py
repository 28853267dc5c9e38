"""Where the CPU time of one section of ``wirt bench io`` goes, by perf(1): on harts, and on devices' threads.

    cmake --preset release -B build/profile -DCMAKE_BUILD_TYPE=RelWithDebInfo && cmake --build build/profile
    PYTHONPATH=build/profile/python python benchmarks/profile_io.py network/e1000e/send/1500 --operations 300000
    PYTHONPATH=build/profile/python python benchmarks/profile_io.py disk/virtio-blk/rand-read/4096/qd1

The release preset strips the extension, hence a build of its own with the same optimisation. A sample is attributed by
its innermost function, and within the kernel by the system call it is in. perf samples what runs: a thread that sleeps
has no share, what it takes to put it to sleep and to wake it has. Python's own thread, which starts the machines, is
left out.
"""

from __future__ import annotations

import argparse
import collections
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import wirt
from wirt.bench.network import _MODELS as MODELS
from wirt.guest_image import guest_image

_RATE_HZ = 1500
_TIMEOUT_S = 900
_FRAME = re.compile(r"\s*[0-9a-f]+ (.*) \(([^()]*|\[.*\])\)$")
# By what the innermost function's name or library holds; the first that fits.
_USER = (
    ("interpreter", r"Hart::interpret"),
    ("hart, out of line: page walks, CSRs, traps, block look-up", r"wirt::riscv"),
    ("copies", r"^__mem(move|set|cpy)"),
    ("checksums", r"network::sum|checksum"),
    ("allocation", r"malloc|free|operator (new|delete)"),
    ("device: e1000e", r"e1000e"),
    ("device: virtio", r"virtio"),
    ("device: AHCI", r"ahci|Ahci"),
    ("bus mastering and PCI", r"Pci"),
    ("address space and DMA", r"wirt::memory::"),
    ("interrupt controller", r"Plic|Aplic|Imsic"),
    ("switch", r"wirt::network::"),
    ("hand-over: locks and condition variables", r"mutex|lll_lock|futex|cond|ThreadExecutor|park"),
    ("clock", r"clock_gettime|steady_clock|Clock::"),
)
_KERNEL = (
    ("hand-over: waking a thread", r"futex_wake"),
    ("hand-over: going to sleep and coming back", r"futex_(do_)?wait|futex_unqueue"),
    ("hand-over: yielding", r"sched_yield"),
    ("page faults", r"exc_page_fault"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", help="as the guest names it, e.g. network/e1000e/send/1500")
    parser.add_argument("--operations", type=int, default=150_000, metavar="N", help="of it [150000]")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.section, options.operations)
        return
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "perf.data"
        record = ["perf", "record", "-q", "-F", str(_RATE_HZ), "-e", "cpu-clock", "-g", "-o", str(data)]
        myself = [sys.executable, __file__, options.section, "--operations", str(options.operations), "--work"]
        subprocess.run([*record, *myself], check=True)
        report(list(samples(data)))


def work(section: str, operations: int) -> None:
    """Runs the section, and says how often and how fast."""
    kind, device, _ = section.split("/", 2)
    with ExitStack() as stack:
        if kind == "network":
            lan = wirt.Switch()
            roles = (
                f"bench=netserve bench.only=network/{device}/ ip=10.0.0.2",
                f"bench=net bench.only={section} ip=10.0.0.1 to=10.0.0.2 bench.ops={operations}",
            )
            machines = [
                wirt.Machine(
                    guest_image(), cmdline=f"net.large {role}", memory="64M", nets=[lan.port(model=MODELS[device])]
                )
                for role in roles
            ]
        else:
            disks = [wirt.Disk.memory("32M", bus) for bus in ("virtio-mmio", "virtio-pci", "ahci")]
            words = f"bench=io bench.only={section} bench.mb=32 bench.ops={operations}"
            machines = [wirt.Machine(guest_image(), cmdline=words, memory="128M", disks=disks)]
        for machine in machines:
            stack.enter_context(machine)
            machine.start()
        if not machines[-1].wait(_TIMEOUT_S) or machines[-1].exit_code != 0:
            sys.exit(f"{section} did not end well:\n{machines[-1].console.tail}")
        for mark in machines[-1].take_marks():
            microseconds = mark.host_ns / 1e3 / mark.operations
            figures = f"{microseconds:.2f} µs each, {mark.instructions / mark.operations:.0f} guest instructions"
            print(f"{mark.name}: {mark.operations} operations, {figures}", flush=True)


def samples(data: Path) -> Iterator[tuple[str, str]]:
    """A thread and what it was at, for each sample."""
    script = ["perf", "script", "-i", str(data), "-F", "tid,ip,sym,dso"]
    listing = subprocess.run(script, capture_output=True, text=True, errors="replace", check=True).stdout
    for block in listing.split("\n\n"):
        first, *lines = block.strip().splitlines() or [""]
        frames = [match.groups() for match in map(_FRAME.match, lines) if match]
        if frames:
            yield first.split()[0], purpose(frames)


def purpose(frames: list[tuple[str, ...]]) -> str:
    """What a sample's call chain, innermost first, is about."""
    (name, library), chain = frames[0], " ".join(name for name, _ in frames)
    if "kernel" in library:
        return next((what for what, pattern in _KERNEL if re.search(pattern, chain)), "kernel, other")
    if "python3" in library:
        return "Python"
    return next((what for what, pattern in _USER if re.search(pattern, name)), "other")


def report(taken: list[tuple[str, str]]) -> None:
    """The table: percent of all samples, on harts and on devices' threads."""
    by_thread: dict[str, collections.Counter[str]] = {}
    for thread, what in taken:
        by_thread.setdefault(thread, collections.Counter())[what] += 1
    threads = {name: counts for name, counts in by_thread.items() if counts["Python"] < 0.3 * counts.total()}
    sides: dict[bool, collections.Counter[str]] = {True: collections.Counter(), False: collections.Counter()}
    for counts in threads.values():
        sides[counts["interpreter"] > 0.05 * counts.total()] += counts
    everything = sides[True] + sides[False]
    total = everything.total()
    print(f"{total} samples, {total / _RATE_HZ:.2f} s of CPU; percent on harts, on devices' threads, and together")
    for what, count in everything.most_common():
        if count >= total / 200:
            shares = (100 * number / total for number in (sides[True][what], sides[False][what], count))
            print(" ".join(f"{share:6.1f}" for share in shares), what)


if __name__ == "__main__":
    main()
