"""A virtio driver in Python (virtio 1.2): it drives a device of a machine that never runs, over MMIO or PCI, with split
or packed rings, whichever the machine has and the device offers.

It follows the specification step by step, and every step can be left out, repeated or falsified: that is what the
tests of hostile guests are made of.
"""

from __future__ import annotations

from collections.abc import Sequence

import wirt
from support.virtio_transports import registers_of
from support.virtqueues import PackedQueue, SplitQueue, Virtqueue, wait_until

RAM = 0x8000_0000

# Device status (2.1).
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 64, 128
LIVE = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK

# Features of the ring and the transport (chapter 6).
INDIRECT_DESC, EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32
ACCESS_PLATFORM, RING_PACKED, NOTIFICATION_DATA, RING_RESET = 1 << 33, 1 << 34, 1 << 38, 1 << 40

# InterruptStatus.
USED_BUFFER, CONFIG_CHANGE = 1, 2


class Guest:
    """The guest's memory, and an allocator over it."""

    def __init__(self, vm: wirt.Machine, start: int = RAM + 0x10_0000) -> None:
        self.vm = vm
        self.next = start

    def allocate(self, size: int, alignment: int = 16) -> int:
        address = -(-self.next // alignment) * alignment
        self.next = address + size
        return address

    def place(self, data: bytes, alignment: int = 16) -> int:
        """Puts bytes somewhere; returns where."""
        address = self.allocate(len(data), alignment)
        self.write(address, data)
        return address

    def read(self, address: int, size: int) -> bytes:
        return self.vm.memory[address : address + size]

    def write(self, address: int, data: bytes) -> None:
        self.vm.memory[address : address + len(data)] = data

    # Ring fields go over the bus, which accesses RAM atomically.
    def load(self, address: int, size: int) -> int:
        return self.vm.bus.read(address, size)

    def store(self, address: int, size: int, value: int) -> None:
        self.vm.bus.write(address, size, value)


class Driver:
    """One virtio device and its queues."""

    def __init__(self, vm: wirt.Machine, name: str, guest: Guest | None = None) -> None:
        self.vm = vm
        self.guest = guest or Guest(vm)
        self.registers = registers_of(vm, name)
        self.base = self.registers.base
        self.queues: list[Virtqueue] = []
        self.features = 0
        self.packed = bool(self.offered() & RING_PACKED)

    @property
    def event_idx(self) -> bool:
        return bool(self.features & EVENT_IDX)

    @property
    def notification_data(self) -> bool:
        return bool(self.features & NOTIFICATION_DATA)

    def read(self, register: str) -> int:
        return self.registers.read(register)

    def write(self, register: str, value: int) -> None:
        self.registers.write(register, value)

    def config(self, offset: int, size: int) -> int:
        return self.vm.bus.read(self.registers.config + offset, size)

    def set_config(self, offset: int, size: int, value: int) -> None:
        self.vm.bus.write(self.registers.config + offset, size, value)

    def offered(self) -> int:
        self.write("DeviceFeaturesSel", 0)
        low = self.read("DeviceFeatures")
        self.write("DeviceFeaturesSel", 1)
        return low | self.read("DeviceFeatures") << 32

    def choose(self, features: int) -> None:
        for half in (0, 1):
            self.write("DriverFeaturesSel", half)
            self.write("DriverFeatures", features >> (32 * half) & 0xFFFF_FFFF)

    def reset(self) -> None:
        self.write("Status", 0)
        assert wait_until(lambda: self.read("Status") == 0)
        self.queues.clear()

    def negotiate(self, features: int) -> None:
        """Steps 1 to 6 of 3.1.1, from a reset on. VERSION_1 is added, and RING_PACKED where it is offered."""
        self.reset()
        self.features = features | VERSION_1 | (RING_PACKED if self.packed else 0)
        self.write("Status", ACKNOWLEDGE)
        self.write("Status", ACKNOWLEDGE | DRIVER)
        self.choose(self.features)
        self.write("Status", ACKNOWLEDGE | DRIVER | FEATURES_OK)
        assert self.read("Status") & FEATURES_OK, "the device refused the features"

    def configure(self, index: int, size: int) -> Virtqueue:
        """Places a queue and leaves it to `enable`."""
        queue = (PackedQueue if self.packed else SplitQueue)(self, index, size)
        self.write("QueueSel", index)
        assert self.read("QueueReady") == 0
        self.write("QueueNum", size)
        for area, address in zip(("Desc", "Driver", "Device"), queue.areas, strict=True):
            self.write(f"Queue{area}Low", address & 0xFFFF_FFFF)
            self.write(f"Queue{area}High", address >> 32)
        self.queues.append(queue)
        return queue

    def enable(self, queue: Virtqueue) -> None:
        self.write("QueueSel", queue.index)
        self.write("QueueReady", 1)

    def start(self, features: int = 0, queues: int | Sequence[int] = 1, size: int = 16) -> list[Virtqueue]:
        """All of 3.1.1. `queues`: how many, or which."""
        self.negotiate(features)
        for index in range(queues) if isinstance(queues, int) else queues:
            self.enable(self.configure(index, size))
        self.write("Status", LIVE)
        assert self.read("Status") == LIVE
        return self.queues

    def needs_reset(self) -> bool:
        return bool(self.read("Status") & NEEDS_RESET)

    def acknowledge(self) -> int:
        """Reads and clears InterruptStatus."""
        pending = self.read("InterruptStatus")
        self.write("InterruptACK", pending)
        return pending

    def pending_at_plic(self) -> bool:
        """Whether the device's interrupt has reached the PLIC."""
        source = self.registers.interrupt_source()
        return bool(self.vm.bus.read(0x0C00_1000 + source // 32 * 4, 4) >> source % 32 & 1)
