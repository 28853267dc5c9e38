"""Snapshots: how long a guest stands still, how long one takes, and how soon a restored machine runs.

    python -m pytest benchmarks/bench_snapshot.py --benchmark-only

The time to the first instruction is that of `Machine.restore` and one step of a hart, with the snapshot's files in the
host's page cache. The guest is the embedded one, with as much memory filled as the name says; WIRT_BENCH_SNAPSHOT names
a snapshot of a guest of your own, such as a booted Debian, that is measured as well.
"""

from __future__ import annotations

import os
import random
import statistics
import struct

import pytest

import wirt
from wirt.guest_image import guest_image

RAM = 0x8000_0000


def filled(memory: str, megabytes: int) -> wirt.Machine:
    """A machine that waits for input, with random content from 16 MiB on."""
    vm = wirt.Machine(guest_image(), cmdline="echo", memory=memory)
    dma = vm.dma(0x20000)
    source = random.Random(1)
    for at in range(megabytes):
        dma.write(RAM + ((16 + at) << 20), source.randbytes(1 << 20))
    vm.start()
    vm.console.expect("echo ready", timeout=120)
    return vm


@pytest.mark.parametrize(("memory", "megabytes"), [("256M", 64), ("4G", 64)], ids=["256MiB", "4GiB"])
def bench_restore_to_the_first_instruction(benchmark, tmp_path, memory, megabytes):
    with filled(memory, megabytes) as vm:
        vm.snapshot(tmp_path / "s")

    restore_and_step(benchmark, tmp_path / "s")


def restore_and_step(benchmark, path):
    machines: list[wirt.Machine] = []

    def restore():
        vm = wirt.Machine.restore(path)
        vm.step()
        machines.append(vm)

    benchmark.pedantic(restore, teardown=lambda: machines.pop().close(), rounds=50, warmup_rounds=3)


@pytest.mark.skipif("WIRT_BENCH_SNAPSHOT" not in os.environ, reason="WIRT_BENCH_SNAPSHOT names no snapshot")
def bench_restore_yours(benchmark):
    restore_and_step(benchmark, os.environ["WIRT_BENCH_SNAPSHOT"])


# auipc a1,0x4000; li a2,1; slli a2,a2,29; add a2,a1,a2; (outer) mv a3,a1; addi a0,a0,1;
# (inner) sd a0,0(a3); addi a3,a3,8; bltu a3,a2,inner; j outer
FILL_512_MIB = struct.pack(
    "<10I", 0x04000597, 0x00100613, 0x01D61613, 0x00C58633, 0x00058693, 0x00150513,
    0x00A6B023, 0x00868693, 0xFEC6ECE3, 0xFEDFF06F,
)  # fmt: skip


@pytest.mark.parametrize("compress", [False, "zstd"])
def bench_pause_of_a_1_gib_guest_under_load(benchmark, tmp_path, compress):
    """The guest fills half of its memory again and again; `extra_info` has the pauses, in milliseconds.

    The time that is measured is that of a whole snapshot, to stable storage.
    """
    pauses = []
    with wirt.Machine(firmware=FILL_512_MIB, memory="1G") as vm:
        vm.start()
        vm.wait(3.0)

        def take():
            pauses.append(vm.snapshot(tmp_path / "s", compress=compress).paused * 1e3)

        benchmark.pedantic(take, rounds=5)
        assert vm.state == "running"
    benchmark.extra_info["pause_ms"] = {
        "median": statistics.median(pauses),
        "least": min(pauses),
        "most": max(pauses),
    }
    print(f"pause: {benchmark.extra_info['pause_ms']} ms")


def bench_incremental(benchmark, tmp_path):
    """A thousand pages were written since the last one."""
    with filled("256M", 64) as vm:
        vm.snapshot(tmp_path / "0")
        dma = vm.dma(0x20000)
        numbers = iter(range(1, 1 << 30))

        def setup():
            number = next(numbers)
            dma.write(RAM + (100 << 20), bytes([number % 255 + 1]) * (1000 * 4096))
            return (tmp_path / str(number),), {}

        benchmark.pedantic(lambda path: vm.snapshot(path, incremental=True), setup=setup, rounds=20)
