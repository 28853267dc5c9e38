"""Full against paravirtual devices, and both against QEMU's."""

from __future__ import annotations

import pytest

import wirt
from peers import compare, qemu_guest, records, wirt_guest
from wirt.bench.io import Settings, run

TURNS = 3


@pytest.mark.parametrize("storage", ["memory", "file"])
def bench_full_and_paravirtual(benchmark, storage):
    measurement = benchmark.pedantic(run, args=[Settings(repeats=3, storage=storage)], rounds=1)
    benchmark.extra_info["io"] = measurement.as_json()
    for comparison in measurement.comparisons:
        print(comparison.kind, comparison.work, f"exits x{comparison.exit_ratio:.3g}")


@pytest.mark.parametrize(("bus", "device"), [("virtio", "virtio-blk"), ("ahci", "ahci")])
def bench_disk_and_qemu(benchmark, qemu, record, tmp_path, bus, device):
    cmdline = f"bench=io bench.only=disk/{device} bench.mb=32 bench.ops=4096"

    def throughput(output: str) -> dict[str, float]:
        return {
            record["name"]: record["bytes"] / (record["time"] / record["timebase"]) / 2**20
            for record in records(output, "WIRT-BENCH")
        }

    def ours() -> dict[str, float]:
        image = tmp_path / "disk.img"
        image.write_bytes(bytes(64 << 20))
        return throughput(wirt_guest(cmdline, disks=[wirt.Disk(image, bus)]))

    comparisons = benchmark.pedantic(
        compare, args=[TURNS, ours, lambda: throughput(qemu_guest(cmdline, [bus])), "MiB/s"], rounds=1
    )
    record(comparisons)
    assert comparisons
