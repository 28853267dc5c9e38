"""What a machine counts about itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from wirt import _core

__all__ = ["Bar", "DeviceInfo", "DeviceStats", "Exit", "HartStats", "Mark", "Queue", "Stats", "TrapCount"]


class _Fields(Mapping[str, Any]):
    """Lets a dataclass be read as a mapping of its fields too."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any of its fields
        if name in self:
            return getattr(self, name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))  # type: ignore[arg-type]  # only dataclasses derive

    def __len__(self) -> int:
        return len(fields(self))  # type: ignore[arg-type]

    def __contains__(self, name: object) -> bool:
        return any(field.name == name for field in fields(self))  # type: ignore[arg-type]

    def as_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {name: _plain(value) for name, value in self.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, _Fields):
        return value.as_json()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class Exit(_Fields):
    """How often the guest's accesses to one register of a device left the hart.

    Attributes:
        device: the device's name, e.g. ``virtio-blk0``.
        cause: the register's name as its specification has it, or ``other``.
        reads: loads.
        writes: stores.
    """

    device: str
    cause: str
    reads: int
    writes: int

    @property
    def count(self) -> int:
        """Loads and stores."""
        return self.reads + self.writes


@dataclass(frozen=True)
class TrapCount(_Fields):
    """How often traps of one cause were taken into one mode.

    Attributes:
        mode: ``M``, ``S`` (HS on a hart with the hypervisor extension) or ``VS``.
        cause: as the privileged specification names it, e.g. ``illegal instruction``.
        count: how often.
    """

    mode: str
    cause: str
    count: int


@dataclass(frozen=True)
class HartStats(_Fields):
    """Counts of one hart since the machine was built; in a :class:`Mark` those of the section alone.

    Attributes:
        instructions: retired.
        traps: exceptions taken.
        interrupts: interrupts taken.
        tlb_misses: accesses that missed the inline TLB.
        page_walks: walks of the guest's page tables.
        table_reads: entries that the walks read: up to 3 a walk with Sv39, up to 15 where a second stage is behind it.
        tlb_flushes: times that translations were dropped.
        blocks_built: basic blocks decoded.
        blocks_dropped: blocks dropped since their code was overwritten.
        block_cache_bytes: host memory that decoded blocks take.
        block_lookups: jumps that no chain of blocks covered.
        mmio_accesses: exits, that is loads and stores that reached a device.
        wfi: times that the hart waited for an interrupt.
        trap_causes: exceptions and interrupts by mode and cause, those that happened.
    """

    instructions: int
    traps: int
    interrupts: int
    tlb_misses: int
    page_walks: int
    table_reads: int
    tlb_flushes: int
    blocks_built: int
    blocks_dropped: int
    block_cache_bytes: int
    block_lookups: int
    mmio_accesses: int
    wfi: int
    trap_causes: list[TrapCount]


@dataclass(frozen=True)
class DeviceStats(_Fields):
    """A device of the machine and what it counted.

    Attributes:
        name: e.g. ``virtio-blk0``.
        kind: ``platform``, ``pci``, ``virtio-pci``, ``virtio-mmio`` or ``host``.
        base: physical address of its registers; None while a BAR is unmapped.
        size: of its registers, bytes.
        interrupt: e.g. ``plic 1``; empty when it has none.
        operations: requests, frames or console transfers completed.
        bytes_moved: payload between the guest and what stands behind the device.
        bytes_copied: of these, bytes the monitor itself copied, once a copy.
        notifications: doorbells that the guest rang.
        interrupts: times the device asked for the guest's attention.
    """

    name: str
    kind: str
    base: int | None
    size: int
    interrupt: str
    operations: int
    bytes_moved: int
    bytes_copied: int
    notifications: int
    interrupts: int


@dataclass(frozen=True)
class Bar(_Fields):
    """A base address register of a PCI function.

    Attributes:
        index: 0 to 5.
        kind: ``32-bit``, ``64-bit``, ``64-bit prefetchable`` or ``I/O``.
        size: bytes.
        base: physical address; None while it decodes nothing.
    """

    index: int
    kind: str
    size: int
    base: int | None


@dataclass(frozen=True)
class Queue(_Fields):
    """A queue between a driver and a device.

    Attributes:
        name: its number, or what the device calls it.
        size: entries.
        enabled: the driver has set it up.
    """

    name: str
    size: int
    enabled: bool


@dataclass(frozen=True)
class DeviceInfo(DeviceStats):
    """A device of the machine: what it is, how the guest has set it up, and what it counted.

    Attributes:
        address: on its bus, e.g. ``0000:00:01.0``; empty for a platform device.
        identity: by which drivers know it, e.g. ``8086:10d3`` or ``virtio 2``.
        bars: of a PCI function.
        queues: those that it has.
        features: that the driver has accepted, by the specification's names.
        exits: guest accesses to its registers, all BARs together.
    """

    address: str
    identity: str
    bars: list[Bar]
    queues: list[Queue]
    features: list[str]
    exits: int


@dataclass(frozen=True)
class Stats(_Fields):
    """All counters of a machine at one moment.

    Attributes:
        instructions: retired by all harts.
        time_ns: guest time.
        exits: by device and cause, those that happened.
        sbi_calls: calls of the monitor's SBI by extension.
        harts: one entry a hart.
        devices: one entry a device.
    """

    instructions: int
    time_ns: int
    exits: list[Exit]
    sbi_calls: dict[str, int]
    harts: list[HartStats]
    devices: list[DeviceStats]

    @property
    def total_exits(self) -> int:
        """Accesses to devices, all together."""
        return sum(exit_.count for exit_ in self.exits)


@dataclass(frozen=True)
class Mark(_Fields):
    """A section that the guest measured with the monitor's mark calls; all counts are of the section alone.

    Attributes:
        name: as the guest named it.
        operations: as the guest counted them.
        bytes: as the guest counted them.
        instructions: retired by all harts.
        host_ns: host time.
        sbi_calls: calls of the monitor's SBI.
        exits: by device and cause.
        devices: counters by device.
        harts: counters of each hart.
    """

    name: str
    operations: int
    bytes: int
    instructions: int
    host_ns: int
    sbi_calls: int
    exits: list[Exit]
    devices: list[DeviceStats]
    harts: list[HartStats]

    @property
    def total_exits(self) -> int:
        """Accesses to devices, all together."""
        return sum(exit_.count for exit_ in self.exits)


def collect_exits(counts: list[_core.ExitCount]) -> list[Exit]:
    """The core's exit counters as ours."""
    return [Exit(c.device, c.cause, c.reads, c.writes) for c in counts]


def collect_harts(stats: list[_core.HartStats]) -> list[HartStats]:
    """The core's counts of harts as ours."""
    names = [field.name for field in fields(HartStats) if field.name != "trap_causes"]
    return [
        HartStats(
            **{name: getattr(hart, name) for name in names},
            trap_causes=[TrapCount(trap.mode, trap.cause, trap.count) for trap in hart.trap_causes],
        )
        for hart in stats
    ]


def collect_devices(infos: list[_core.DeviceInfo]) -> list[DeviceStats]:
    """The core's devices as ours."""
    names = [field.name for field in fields(DeviceStats)]
    return [DeviceStats(**{name: getattr(info, name) for name in names}) for info in infos]


def collect_descriptions(infos: list[_core.DeviceInfo]) -> list[DeviceInfo]:
    """The core's descriptions as ours."""
    names = [field.name for field in fields(DeviceStats)]
    return [
        DeviceInfo(
            **{name: getattr(info, name) for name in names},
            address=info.address,
            identity=info.identity,
            bars=[Bar(bar.index, bar.kind, bar.size, bar.base) for bar in info.bars],
            queues=[Queue(queue.name, queue.size, queue.enabled) for queue in info.queues],
            features=list(info.features),
            exits=info.exits,
        )
        for info in infos
    ]


def collect_marks(marks: list[_core.Mark]) -> list[Mark]:
    """The core's marks as ours."""
    return [
        Mark(
            mark.name,
            mark.operations,
            mark.bytes,
            mark.instructions,
            mark.host_ns,
            mark.sbi_calls,
            collect_exits(mark.exits),
            collect_devices(mark.devices),
            collect_harts(mark.harts),
        )
        for mark in marks
    ]


def collect(machine: _core.Machine) -> Stats:
    """All counters of a machine."""
    return Stats(
        instructions=machine.instructions,
        time_ns=machine.time_ns,
        exits=collect_exits(machine.exits()),
        sbi_calls=dict(machine.sbi_calls()),
        harts=collect_harts(machine.hart_stats()),
        devices=collect_devices(machine.devices()),
    )
