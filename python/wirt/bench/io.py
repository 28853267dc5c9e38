"""The same I/O through fully virtualised hardware and through virtio, by the embedded guest.

The guest marks each section of work by a call of the monitor (vendor SBI extension 0x0A574952), which counts exits,
retired instructions, host time and copied bytes for exactly that section. Devices of a kind take turns in going first,
each in a machine of its own (network: a pair of machines, then a machine and the host).
"""

from __future__ import annotations

import json
import platform
import re
import statistics
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from wirt.bench import network
from wirt.disk import Bus, Disk
from wirt.errors import StateError
from wirt.guest_image import guest_image
from wirt.machine import Machine
from wirt.stats import Mark

__all__ = [
    "KINDS",
    "RIVALS",
    "Comparison",
    "Kind",
    "Measurement",
    "Rivals",
    "Sample",
    "Settings",
    "Summary",
    "run",
    "summarise",
]

Progress = Callable[[str, float], None]

Kind = Literal["console", "disk", "network", "iommu"]


@dataclass(frozen=True)
class Rivals:
    """Devices that do the same work, as the guest's section names have them; all are held against the baseline."""

    kind: Kind
    baseline: str
    others: tuple[str, ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """All of them."""
        return (self.baseline, *self.others)


# Fully virtualised hardware against virtio; and, of the disks, the IOMMU's price: the guest either lets everything
# pass, or maps each buffer for as long as its request takes.
RIVALS = (
    Rivals("console", "16550", ("virtio-console",)),
    Rivals("disk", "ahci", ("virtio-blk", "virtio-blk-pci")),
    Rivals("network", "e1000e", ("virtio-net", "virtio-net-pci")),
    Rivals("iommu", "ahci", ("ahci+bypass", "ahci+strict")),
    Rivals("iommu", "virtio-blk", ("virtio-blk+bypass", "virtio-blk+strict")),
)
_IOMMU_WORK = ("seq-read/4096", "seq-write/4096", "seq-read/65536", "rand-read/4096/qd32")
KINDS: tuple[Kind, ...] = ("console", "disk", "network", "iommu")
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        repeats: machines a device; figures are medians over them.
        megabytes: sequential MiB a section.
        operations: random operations a section.
        console_bytes: bytes a console section.
        packets: packets a network section; an eighth of it for those of 65,000 bytes, a quarter for round trips.
        storage: what stands behind the disks.
        directory: where files for ``storage="file"`` are put; the system's place for temporary files unless given.
    """

    repeats: int = 5
    megabytes: int = 32
    operations: int = 8192
    console_bytes: int = 262144
    packets: int = 16384
    storage: Literal["memory", "file"] = "memory"
    directory: str | None = None

    @classmethod
    def quick(cls) -> Settings:
        """Enough to see the shape, in seconds."""
        return cls(repeats=2, megabytes=4, operations=512, console_bytes=32768, packets=1024)


@dataclass(frozen=True)
class Sample:
    """One section, measured once."""

    name: str
    operations: int
    bytes: int
    exits: int
    instructions: int
    host_ns: int
    bytes_copied: int
    interrupts: int

    @classmethod
    def of(cls, mark: Mark) -> Sample:
        """What a mark says, over all devices: only one of them works during a section."""
        return cls(
            name=mark.name,
            operations=mark.operations,
            bytes=mark.bytes,
            exits=mark.total_exits,
            instructions=mark.instructions,
            host_ns=mark.host_ns,
            bytes_copied=sum(device.bytes_copied for device in mark.devices),
            interrupts=sum(device.interrupts for device in mark.devices),
        )

    @property
    def throughput(self) -> float:
        """Bytes per second of host time."""
        return self.bytes / max(self.host_ns, 1) * 1e9


@dataclass(frozen=True)
class Summary:
    """One section over all repeats.

    Attributes:
        name: as the guest has it, e.g. ``disk/ahci/seq-read/4096``.
        exits_per_operation: guest accesses to device registers.
        instructions_per_operation: retired by the guest.
        interrupts_per_operation: raised by devices.
        copied_per_byte: bytes that the monitor copied per byte moved.
        throughput: (median, least, most) bytes per second.
        operations_per_second: median.
    """

    name: str
    exits_per_operation: float
    instructions_per_operation: float
    interrupts_per_operation: float
    copied_per_byte: float
    throughput: tuple[float, float, float]
    operations_per_second: float


@dataclass(frozen=True)
class Comparison:
    """The same work over two devices.

    Attributes:
        kind: one of :data:`KINDS`.
        work: e.g. ``seq-read/4096``.
        baseline: the fully virtualised device; for the IOMMU's price the disk without one.
        other: the virtio device; the disk behind the IOMMU.
        exit_ratio: exits of the baseline over exits of the other.
        throughput_ratio: throughput of the other over that of the baseline.
    """

    kind: str
    work: str
    baseline: Summary
    other: Summary
    exit_ratio: float
    throughput_ratio: float


@dataclass
class Measurement:
    """All that one run of the benchmark measured."""

    settings: Settings
    samples: list[Sample] = field(default_factory=list)

    @property
    def summaries(self) -> list[Summary]:
        """One entry a section, in the order measured."""
        names = dict.fromkeys(sample.name for sample in self.samples)
        return [summarise([sample for sample in self.samples if sample.name == name]) for name in names]

    @property
    def comparisons(self) -> list[Comparison]:
        """The pairs of sections that do the same work on both devices of a kind."""
        by_name = {summary.name: summary for summary in self.summaries}
        found = []
        for rivals in RIVALS:
            prefix = f"{rivals.kind}/{rivals.baseline}/"
            for name, summary in by_name.items():
                for other in rivals.others:
                    rival = by_name.get(f"{rivals.kind}/{other}/{name.removeprefix(prefix)}")
                    if name.startswith(prefix) and rival is not None:
                        found.append(_compare(rivals.kind, name.removeprefix(prefix), summary, rival))
        return sorted(found, key=_natural_order)

    @property
    def exit_ns(self) -> float:
        """Host time of one exit: a load from a device's register beyond one from memory, median; 0 if not measured."""

        def cost(name: str) -> float:
            return statistics.median(s.host_ns / s.operations for s in self.samples if s.name == name)

        names = {sample.name for sample in self.samples}
        return cost("exit/register") - cost("exit/memory") if {"exit/register", "exit/memory"} <= names else 0.0

    def as_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; ``throughput`` in bytes per second."""
        return {
            "host": {"machine": platform.machine(), "system": platform.platform(), "python": platform.python_version()},
            "settings": vars(self.settings),
            "exit_ns": self.exit_ns,
            "comparisons": [
                vars(comparison) | {"baseline": vars(comparison.baseline), "other": vars(comparison.other)}
                for comparison in self.comparisons
            ],
            "samples": [vars(sample) for sample in self.samples],
        }


def run(settings: Settings, kinds: Iterable[str] = KINDS, progress: Progress | None = None) -> Measurement:
    """Runs the benchmark.

    Args:
        settings: how much of it.
        kinds: of :data:`KINDS`.
        progress: called with what is measured now and the fraction that is done.

    Raises:
        StateError: the guest failed, or a device delivered wrong data.
    """
    measurement = Measurement(settings)
    wanted = [rivals for rivals in RIVALS if rivals.kind in set(kinds)]
    total = settings.repeats * sum(len(rivals.devices) for rivals in wanted)
    done = 0
    for repeat in range(settings.repeats):
        for rivals in wanted:
            for device in rivals.devices if repeat % 2 == 0 else reversed(rivals.devices):
                if progress is not None:
                    progress(f"{device}, {repeat + 1} of {settings.repeats}", done / total)
                measurement.samples += _measure(settings, rivals.kind, device)
                done += 1
    if progress is not None:
        progress("done", 1.0)
    return measurement


def summarise(samples: list[Sample]) -> Summary:
    """One section's samples as one line: medians, and the spread of the throughput."""
    operations = max(samples[0].operations, 1)
    rates = [sample.throughput for sample in samples]

    def per_operation(values: Iterable[int]) -> float:
        return statistics.median(values) / operations

    return Summary(
        name=samples[0].name,
        exits_per_operation=per_operation(sample.exits for sample in samples),
        instructions_per_operation=per_operation(sample.instructions for sample in samples),
        interrupts_per_operation=per_operation(sample.interrupts for sample in samples),
        copied_per_byte=statistics.median(sample.bytes_copied for sample in samples) / max(samples[0].bytes, 1),
        throughput=(statistics.median(rates), min(rates), max(rates)),
        operations_per_second=statistics.median(s.operations / max(s.host_ns, 1) * 1e9 for s in samples),
    )


def _measure(settings: Settings, kind: Kind, device: str) -> list[Sample]:
    if kind == "network":
        machines = network.measure(device, settings.packets, _TIMEOUT_S)
        return [Sample.of(mark) for machine in machines for mark in _checked_marks(machine)]
    name, _, iommu = device.partition("+")
    work = [f"disk/{name}/{work}" for work in _IOMMU_WORK] if kind == "iommu" else [f"{kind}/{name}/"]
    cmdline = (
        f"bench=io bench.only=exit/,{','.join(work)} bench.mb={settings.megabytes} bench.ops={settings.operations} "
        f"bench.console={settings.console_bytes} iommu={iommu or 'none'}"
    )
    with ExitStack() as stack:
        disks = [_disk(settings, bus, stack) for bus in ("virtio-mmio", "virtio-pci", "ahci")]
        memory = max(64, 4 * settings.megabytes) << 20
        vm = stack.enter_context(
            Machine(guest_image(), cmdline=cmdline, memory=memory, disks=disks, iommu="platform" if iommu else None)
        )
        vm.start()
        vm.wait(_TIMEOUT_S)
        samples = [Sample.of(mark) for mark in _checked_marks(vm)]
    if kind != "iommu":
        return samples
    # The guest names what it drives; which IOMMU stands before it is known here.
    return [
        replace(sample, name=f"iommu/{device}/{sample.name.removeprefix(f'disk/{name}/')}")
        if sample.name.startswith("disk/")
        else sample
        for sample in samples
    ]


def _disk(settings: Settings, bus: Bus, stack: ExitStack) -> Disk:
    size = max(settings.megabytes, 1) << 20
    if settings.storage == "memory":
        return Disk.memory(size, bus)
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="wirt-bench-", dir=settings.directory))
    file = Path(directory) / "disk.img"
    # Blocks are allocated before anything is timed.
    file.write_bytes(bytes(size))
    return Disk(file, bus)


def _checked_marks(vm: Machine) -> list[Mark]:
    """The sections of a guest that has ended well; each must have been found right by the guest itself."""
    if vm.exit_code != 0:
        raise StateError(f"the guest did not end well ({vm.stop_reason or 'it still runs'}):\n{vm.console.tail}")
    marks = vm.take_marks()
    output = vm.serial.output + vm.hvc.output
    reports = [json.loads(text) for text in re.findall(r"WIRT-BENCH (\{.*\})", output)]
    good = {report["name"] for report in reports if report["ok"]}
    bad = [mark.name for mark in marks if mark.name not in good]
    if bad or not marks:
        raise StateError(f"the guest found wrong data in {', '.join(bad) or 'all sections'}:\n{vm.console.tail}")
    return marks


def _compare(kind: str, work: str, baseline: Summary, other: Summary) -> Comparison:
    return Comparison(
        kind=kind,
        work=work,
        baseline=baseline,
        other=other,
        exit_ratio=baseline.exits_per_operation / max(other.exits_per_operation, 1e-9),
        throughput_ratio=other.throughput[0] / max(baseline.throughput[0], 1e-9),
    )


def _natural_order(comparison: Comparison) -> tuple[int, str, list[tuple[int, str]]]:
    """By kind, then device; sizes in ``seq-read/65536`` sort as numbers."""
    parts = [(int(part), "") if part.isdigit() else (0, part) for part in comparison.work.split("/")]
    device = comparison.baseline.name.split("/")[1]
    return KINDS.index(cast(Kind, comparison.kind)), device, parts
