"""The I/O comparison: that it measures what it says; the figures themselves decide nothing."""

from __future__ import annotations

import json

import pytest

import wirt
from wirt.bench.io import RIVALS, Measurement, Sample, Settings, run, summarise
from wirt.bench.plot import plot

TINY = Settings(repeats=2, megabytes=1, operations=64, console_bytes=4096, packets=128)


@pytest.fixture(scope="module")
def measurement():
    return run(TINY)


def test_all_the_work_of_the_issue_is_there(measurement):
    works = {(comparison.kind, comparison.work) for comparison in measurement.comparisons}
    sizes = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20]
    assert {("disk", f"seq-{kind}/{size}") for kind in ("read", "write") for size in sizes} <= works
    assert {("disk", f"rand-{kind}/4096/qd{depth}") for kind in ("read", "write") for depth in (1, 32)} <= works
    assert {("console", "write/64"), ("console", "write/4096")} <= works
    for work in (
        "send/64",
        "send/1500",
        "send/65000",
        "receive/1500",
        "round-trip/64",
        "host-send/1500",
        "host-round-trip/64",
    ):
        assert ("network", work) in works
    rivals = {comparison.other.name.split("/")[1] for comparison in measurement.comparisons}
    assert rivals == {device for group in RIVALS for device in group.others}


def test_exits_tell_the_two_apart(measurement):
    by_work = {comparison.work: comparison for comparison in measurement.comparisons}
    # The 16550 takes one store a byte; virtio-console one buffer a write.
    assert by_work["write/64"].baseline.exits_per_operation >= 64
    assert by_work["write/64"].exit_ratio > 5
    # With one request under way at a time, what the guest does to a device depends on no timing. How many of 32
    # share a doorbell and an interrupt does.
    for comparison in measurement.comparisons:
        if comparison.kind in ("console", "disk") and not comparison.work.endswith("qd32"):
            assert comparison.exit_ratio > 1, comparison.work


def test_strict_protection_costs_an_exit_a_request(measurement):
    strict = [c for c in measurement.comparisons if c.other.name.startswith("iommu/ahci+strict/seq-read/4096")]
    (comparison,) = strict
    # The doorbell of the queue in which the IOMMU is told to forget the buffer.
    assert round(comparison.other.exits_per_operation - comparison.baseline.exits_per_operation) == 1
    assert comparison.other.instructions_per_operation > comparison.baseline.instructions_per_operation


def test_an_exit_has_a_cost_of_its_own(measurement):
    assert measurement.exit_ns > 0


def test_a_deep_queue_costs_no_more_than_a_shallow_one(measurement):
    by_work = {comparison.work: comparison for comparison in measurement.comparisons}
    deep, shallow = by_work["rand-read/4096/qd32"], by_work["rand-read/4096/qd1"]
    assert deep.baseline.exits_per_operation <= shallow.baseline.exits_per_operation * 1.1
    assert deep.other.exits_per_operation <= shallow.other.exits_per_operation * 1.1


def test_exits_are_the_same_in_every_repeat(measurement):
    for name in ("disk/ahci/seq-read/4096", "disk/virtio-blk/seq-read/4096"):
        counts = {sample.exits for sample in measurement.samples if sample.name == name}
        assert max(counts) <= min(counts) * 1.05


def test_json_and_charts(measurement, tmp_path):
    document = json.loads(json.dumps(measurement.as_json()))
    assert len(document["comparisons"]) == len(measurement.comparisons)
    for name, magic in (("chart.png", b"\x89PNG"), ("chart.svg", b"<?xml")):
        plot(measurement, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(magic)
    with pytest.raises(wirt.ConfigError, match="png"):
        plot(measurement, tmp_path / "chart.txt")


def test_summary():
    samples = [Sample("x", 4, 4096, exits, 100, ns, 2048, 4) for exits, ns in ((8, 1000), (12, 2000), (40, 4000))]
    summary = summarise(samples)
    assert summary.exits_per_operation == 3
    assert summary.copied_per_byte == 0.5
    assert summary.throughput == (4096 / 2000e-9, 4096 / 4000e-9, 4096 / 1000e-9)
    assert Measurement(TINY, samples).summaries == [summary]


def test_file_backed(tmp_path):
    settings = Settings(repeats=1, megabytes=1, operations=8, storage="file", directory=str(tmp_path))
    assert run(settings, kinds=["disk"]).comparisons
    assert list(tmp_path.iterdir()) == []
