"""Forks and resets: of Debian booted in 256 MiB where it was pulled, and of the embedded guest.

    python benchmarks/bench_clones.py            # all of it, as a table
    python -m pytest benchmarks/bench_clones.py  # with the other benchmarks

A fork is timed from the call until the clone has executed its first instruction (a step on the caller's thread).
Memory is the process's proportional set (PSS): what clones share counts once.
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import wirt
from wirt.debian import cached_guest
from wirt.guest_image import guest_image

FORKS, RESETS, CLONES = 50, 500, 1000


def booted() -> wirt.Machine:
    guest = cached_guest("debian")
    if guest is None:
        sys.exit("pull Debian first: wirt pull debian")
    vm = wirt.Machine(guest.kernel, initrd=guest.initrd, cmdline="earlycon=sbi console=ttyS0", memory="256M")
    vm.start()
    vm.console.expect("/ # ", timeout=300)
    return vm


def settle(vm: wirt.Machine) -> None:
    """Until it idles: its kernel has work of its own to do for a while after the prompt, as much as it gets."""
    while True:
        before = vm.instructions
        time.sleep(2)
        if vm.instructions - before < 2_000_000:
            return


def spread(samples: list[float]) -> str:
    return f"{statistics.median(samples):.3g} ({min(samples):.3g}..{max(samples):.3g})"


def fork_ms(vm: wirt.Machine) -> list[float]:
    samples = []
    for _ in range(FORKS):
        begin = time.perf_counter()
        (clone,) = vm.fork(start=False)
        clone.step()
        samples.append((time.perf_counter() - begin) * 1e3)
        clone.close()
    return samples


def reset_us(vm: wirt.Machine, pages: int) -> list[float]:
    """The clone runs, then so many of its pages are dirty."""
    (clone,) = vm.fork(start=False)
    middle = 0x8000_0000 + (len(clone.memory) // 2)
    samples = []
    for _ in range(RESETS):
        for page in range(pages):
            clone.memory[middle + page * 4096] = 1
        begin = time.perf_counter()
        clone.reset()
        samples.append((time.perf_counter() - begin) * 1e6)
    clone.close()
    return samples


def cycles_a_second(seconds: float = 3.0) -> float:
    """A test case of one line said to the embedded guest, its answer, and the way back."""
    with wirt.Machine(guest_image(), cmdline="echo", memory="64M") as vm:
        vm.start()
        vm.console.expect("echo ready", timeout=60)
        (clone,) = vm.fork()
        clone.pause()
        clone.reset()
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            clone.resume()
            clone.console.send("x\n")
            clone.console.expect("echo: x")
            clone.pause()
            clone.reset()
            count += 1
        clone.close()
        return count / (time.perf_counter() - begin)


def pss_kib() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError("no Pss in smaps_rollup")


def idle_clones(vm: wirt.Machine, count: int) -> tuple[float, float, int]:
    """Milliseconds each to make, KiB each after five seconds of life, and threads of all."""
    before, begin = pss_kib(), time.perf_counter()
    clones = vm.fork(count, start=True)
    took = (time.perf_counter() - begin) * 1e3 / count
    time.sleep(5)
    each = (pss_kib() - before) / count
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert all(clone.state == "running" for clone in clones)
    # Side by side: a hart is heard when its thread has its turn among a thousand.
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(wirt.Machine.close, clones))
    return took, each, threads


def main() -> None:
    with booted() as vm:
        vm.console.send("while :; do :; done\n")
        time.sleep(1)
        print(f"fork of a running, busy Debian, ms        {spread(fork_ms(vm))}")
        vm.pause()
        print(f"fork of a paused, busy Debian, ms         {spread(fork_ms(vm))}")
    with booted() as vm:
        settle(vm)
        vm.pause()
        for pages in (0, 50, 500):
            print(f"reset of Debian after {pages:3} dirty pages, us  {spread(reset_us(vm, pages))}")
        took, each, threads = idle_clones(vm, CLONES)
        print(f"{CLONES} running clones: {took:.3g} ms and {each:.0f} KiB each, {threads} threads")
    print(f"run and reset of a short test case: {cycles_a_second():.0f} a second")


@pytest.fixture(name="vm")
def vm_fixture():
    with booted() as vm:
        vm.pause()
        yield vm


def bench_fork(benchmark, vm):
    benchmark.extra_info["what"] = "fork of a paused Debian, 256 MiB, and close"
    benchmark(lambda: vm.fork(start=False)[0].close())


def bench_reset(benchmark, vm):
    benchmark.extra_info["what"] = "reset after 50 dirty pages"
    (clone,) = vm.fork(start=False)

    def dirty():
        for page in range(50):
            clone.memory[0x8000_0000 + (len(clone.memory) // 2) + page * 4096] = 1

    benchmark.pedantic(clone.reset, setup=dirty, rounds=200)
    clone.close()


if __name__ == "__main__":
    main()
