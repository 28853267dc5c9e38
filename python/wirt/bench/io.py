"""The same I/O through fully virtualised hardware and through virtio, by the embedded guest.

The guest marks each section of work by a call of the monitor (vendor SBI extension 0x0A574952), which counts exits,
retired instructions, host time and copied bytes for exactly that section. Devices of a kind take turns in going first,
each in a machine of its own that has all devices.
"""

from __future__ import annotations

import json
import platform
import re
import statistics
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wirt.disk import Bus, Disk
from wirt.errors import StateError
from wirt.guest_image import guest_image
from wirt.machine import Machine
from wirt.stats import Mark

__all__ = ["Comparison", "Measurement", "Sample", "Settings", "Summary", "run", "summarise"]

Progress = Callable[[str, float], None]

# (kind, fully virtualised, paravirtual) as the guest's section names have the devices.
PAIRS: tuple[tuple[str, str, str], ...] = (
    ("console", "16550", "virtio-console"),
    ("disk", "ahci", "virtio-blk"),
)
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        repeats: machines a device; figures are medians over them.
        megabytes: sequential MiB a section.
        operations: random operations a section.
        console_bytes: bytes a console section.
        storage: what stands behind the disks.
        directory: where files for ``storage="file"`` are put; the system's place for temporary files unless given.
    """

    repeats: int = 5
    megabytes: int = 32
    operations: int = 8192
    console_bytes: int = 262144
    storage: Literal["memory", "file"] = "memory"
    directory: str | None = None

    @classmethod
    def quick(cls) -> Settings:
        """Enough to see the shape, in seconds."""
        return cls(repeats=2, megabytes=4, operations=512, console_bytes=32768)


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
    """The same work over both devices of a kind.

    Attributes:
        kind: ``console`` or ``disk``.
        work: e.g. ``seq-read/4096``.
        full: the fully virtualised device.
        paravirtual: the virtio device.
        exit_ratio: exits of the first over exits of the second.
        throughput_ratio: throughput of the second over that of the first.
    """

    kind: str
    work: str
    full: Summary
    paravirtual: Summary
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
        for kind, full, paravirtual in PAIRS:
            prefix = f"{kind}/{full}/"
            for name, summary in by_name.items():
                other = by_name.get(f"{kind}/{paravirtual}/{name.removeprefix(prefix)}")
                if name.startswith(prefix) and other is not None:
                    found.append(_compare(kind, name.removeprefix(prefix), summary, other))
        return sorted(found, key=_natural_order)

    def as_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; ``throughput`` in bytes per second."""
        return {
            "host": {"machine": platform.machine(), "system": platform.platform(), "python": platform.python_version()},
            "settings": vars(self.settings),
            "comparisons": [
                vars(comparison) | {"full": vars(comparison.full), "paravirtual": vars(comparison.paravirtual)}
                for comparison in self.comparisons
            ],
            "samples": [vars(sample) for sample in self.samples],
        }


def run(
    settings: Settings, kinds: Iterable[str] = ("console", "disk"), progress: Progress | None = None
) -> Measurement:
    """Runs the benchmark.

    Args:
        settings: how much of it.
        kinds: ``console``, ``disk`` or both.
        progress: called with what is measured now and the fraction that is done.

    Raises:
        StateError: the guest failed, or a device delivered wrong data.
    """
    measurement = Measurement(settings)
    pairs = [pair for pair in PAIRS if pair[0] in set(kinds)]
    total = settings.repeats * len(pairs) * 2
    done = 0
    for repeat in range(settings.repeats):
        for kind, *devices in pairs:
            for device in devices if repeat % 2 == 0 else reversed(devices):
                if progress is not None:
                    progress(f"{device}, {repeat + 1} of {settings.repeats}", done / total)
                measurement.samples += _measure(settings, kind, device)
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


def _measure(settings: Settings, kind: str, device: str) -> list[Sample]:
    cmdline = (
        f"bench=io bench.only={kind}/{device} bench.mb={settings.megabytes} bench.ops={settings.operations} "
        f"bench.console={settings.console_bytes}"
    )
    with ExitStack() as stack:
        disks = [_disk(settings, bus, stack) for bus in ("virtio", "ahci")]
        memory = max(64, 4 * settings.megabytes) << 20
        vm = stack.enter_context(Machine(guest_image(), cmdline=cmdline, memory=memory, disks=disks))
        vm.start()
        if not vm.wait(_TIMEOUT_S):
            raise StateError(f"the guest did not finish {kind}/{device} in {_TIMEOUT_S:.0f} s:\n{vm.console.tail}")
        if vm.exit_code != 0:
            raise StateError(f"the guest failed in {kind}/{device} ({vm.stop_reason}):\n{vm.console.tail}")
        marks = vm.take_marks()
        _check_reports(vm, marks)
    return [Sample.of(mark) for mark in marks]


def _disk(settings: Settings, bus: Bus, stack: ExitStack) -> Disk:
    size = max(settings.megabytes, 1) << 20
    if settings.storage == "memory":
        return Disk.memory(size, bus)
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="wirt-bench-", dir=settings.directory))
    file = Path(directory) / "disk.img"
    # Blocks are allocated before anything is timed.
    file.write_bytes(bytes(size))
    return Disk(file, bus)


def _check_reports(vm: Machine, marks: list[Mark]) -> None:
    """Every section must have been reported, and its data found right, by the guest."""
    output = vm.serial.output + vm.hvc.output
    reports = [json.loads(text) for text in re.findall(r"WIRT-BENCH (\{.*\})", output)]
    good = {report["name"] for report in reports if report["ok"]}
    bad = [mark.name for mark in marks if mark.name not in good]
    if bad or not marks:
        raise StateError(f"the guest found wrong data in {', '.join(bad) or 'all sections'}:\n{vm.console.tail}")


def _compare(kind: str, work: str, full: Summary, paravirtual: Summary) -> Comparison:
    return Comparison(
        kind=kind,
        work=work,
        full=full,
        paravirtual=paravirtual,
        exit_ratio=full.exits_per_operation / max(paravirtual.exits_per_operation, 1e-9),
        throughput_ratio=paravirtual.throughput[0] / max(full.throughput[0], 1e-9),
    )


def _natural_order(comparison: Comparison) -> tuple[str, list[tuple[int, str]]]:
    """Sizes in ``seq-read/65536`` sort as numbers."""
    return comparison.kind, [(int(part), "") if part.isdigit() else (0, part) for part in comparison.work.split("/")]
