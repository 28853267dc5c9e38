"""A virtio driver in Python (virtio 1.2): it drives a device of a machine that never runs, over MMIO and split rings.

It follows the specification step by step, and every step can be left out, repeated or falsified: that is what the
tests of hostile guests are made of.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import wirt

RAM = 0x8000_0000

# Registers (4.2.2).
REGISTERS = {
    "MagicValue": 0x000,
    "Version": 0x004,
    "DeviceID": 0x008,
    "VendorID": 0x00C,
    "DeviceFeatures": 0x010,
    "DeviceFeaturesSel": 0x014,
    "DriverFeatures": 0x020,
    "DriverFeaturesSel": 0x024,
    "QueueSel": 0x030,
    "QueueNumMax": 0x034,
    "QueueNum": 0x038,
    "QueueReady": 0x044,
    "QueueNotify": 0x050,
    "InterruptStatus": 0x060,
    "InterruptACK": 0x064,
    "Status": 0x070,
    "QueueDescLow": 0x080,
    "QueueDescHigh": 0x084,
    "QueueDriverLow": 0x090,
    "QueueDriverHigh": 0x094,
    "QueueDeviceLow": 0x0A0,
    "QueueDeviceHigh": 0x0A4,
    "SHMSel": 0x0AC,
    "SHMLenLow": 0x0B0,
    "SHMLenHigh": 0x0B4,
    "SHMBaseLow": 0x0B8,
    "SHMBaseHigh": 0x0BC,
    "QueueReset": 0x0C0,
    "ConfigGeneration": 0x0FC,
}
CONFIG = 0x100

# Device status (2.1).
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 64, 128
LIVE = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK

# Features of the ring (chapter 6).
INDIRECT_DESC, EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32

# Descriptor flags (2.7.5).
NEXT, WRITE, INDIRECT = 1, 2, 4

# InterruptStatus.
USED_BUFFER, CONFIG_CHANGE = 1, 2


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> bool:
    """Whether `condition` came true; devices work on threads of their own."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0002)
    return True


@dataclass
class Used:
    """An element of the used ring."""

    head: int
    length: int


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


class Queue:
    """A split virtqueue (2.7) in guest memory."""

    def __init__(self, driver: Driver, index: int, size: int) -> None:
        self.driver, self.index, self.size = driver, index, size
        guest = driver.guest
        self.guest = guest
        self.desc = guest.allocate(16 * size, 16)
        self.avail = guest.allocate(6 + 2 * size, 2)
        self.used = guest.allocate(6 + 8 * size, 4)
        for area, length in ((self.desc, 16 * size), (self.avail, 6 + 2 * size), (self.used, 6 + 8 * size)):
            guest.write(area, bytes(length))
        self.avail_idx = self.used_idx = 0
        self.free = list(range(size))
        self.chains: dict[int, list[int]] = {}

    # --- raw access ---

    def set_descriptor(
        self, index: int, address: int, length: int, flags: int = 0, following: int = 0, table: int | None = None
    ) -> None:
        at = (self.desc if table is None else table) + 16 * index
        self.guest.write(at, struct.pack("<QIHH", address, length, flags, following))

    def make_available(self, head: int) -> None:
        """Publishes one entry of the available ring (2.7.13)."""
        self.guest.store(self.avail + 4 + 2 * (self.avail_idx % self.size), 2, head)
        self.set_avail_idx(self.avail_idx + 1)

    def set_avail_idx(self, value: int) -> None:
        self.avail_idx = value % 0x1_0000
        self.guest.store(self.avail + 2, 2, self.avail_idx)

    def set_avail_flags(self, value: int) -> None:
        self.guest.store(self.avail, 2, value)

    def set_used_event(self, value: int) -> None:
        self.guest.store(self.avail + 4 + 2 * self.size, 2, value % 0x1_0000)

    def used_flags(self) -> int:
        return self.guest.load(self.used, 2)

    def avail_event(self) -> int:
        return self.guest.load(self.used + 4 + 8 * self.size, 2)

    def device_idx(self) -> int:
        return self.guest.load(self.used + 2, 2)

    # --- the well-behaved way ---

    def add(
        self,
        readable: Iterable[tuple[int, int]] = (),
        writable: Iterable[tuple[int, int]] = (),
        direct: int | None = None,
    ) -> int:
        """Makes a buffer available; elements are (address, length).

        Args:
            readable: what the device may read.
            writable: what it may write.
            direct: how many elements are in the ring itself, the others being in an indirect table; None: all.
        """
        elements = [(a, n, 0) for a, n in readable] + [(a, n, WRITE) for a, n in writable]
        direct = len(elements) if direct is None else direct
        slots = [self.free.pop(0) for _ in range(direct + (direct < len(elements)))]
        for i, (address, length, flags) in enumerate(elements[:direct]):
            more = i + 1 < len(slots)
            self.set_descriptor(slots[i], address, length, flags | (NEXT if more else 0), slots[i + 1] if more else 0)
        if direct < len(elements):
            rest = elements[direct:]
            table = self.guest.allocate(16 * len(rest))
            for i, (address, length, flags) in enumerate(rest):
                more = i + 1 < len(rest)
                self.set_descriptor(i, address, length, flags | (NEXT if more else 0), i + 1, table=table)
            self.set_descriptor(slots[-1], table, 16 * len(rest), INDIRECT)
        self.chains[slots[0]] = slots
        self.make_available(slots[0])
        return slots[0]

    def kick(self) -> None:
        self.driver.write("QueueNotify", self.index)

    def poll(self) -> Used | None:
        """The next used buffer, if there is one."""
        if self.device_idx() == self.used_idx:
            return None
        at = self.used + 4 + 8 * (self.used_idx % self.size)
        used = Used(self.guest.load(at, 4), self.guest.load(at + 4, 4))
        self.used_idx = (self.used_idx + 1) % 0x1_0000
        self.free.extend(self.chains.pop(used.head, []))
        return used

    def wait(self, timeout: float = 10.0) -> Used:
        """The next used buffer; a failure with the device's status when none comes."""
        found: list[Used] = []

        def arrived() -> bool:
            used = self.poll()
            if used is not None:
                found.append(used)
            return used is not None

        assert wait_until(arrived, timeout), f"no used buffer; status {self.driver.read('Status'):#x}"
        return found[0]

    def transfer(
        self,
        readable: Iterable[tuple[int, int]] = (),
        writable: Iterable[tuple[int, int]] = (),
        direct: int | None = None,
    ) -> Used:
        """Adds a buffer, kicks, and waits for it."""
        self.add(readable, writable, direct)
        self.kick()
        return self.wait()


class Driver:
    """One virtio-mmio device and its queues."""

    def __init__(self, vm: wirt.Machine, name: str, guest: Guest | None = None) -> None:
        self.vm = vm
        self.guest = guest or Guest(vm)
        (self.base,) = (device.base for device in vm.devices if device.name == name)
        self.queues: list[Queue] = []

    def read(self, register: str) -> int:
        return self.vm.bus.read(self.base + REGISTERS[register], 4)

    def write(self, register: str, value: int) -> None:
        self.vm.bus.write(self.base + REGISTERS[register], 4, value)

    def config(self, offset: int, size: int) -> int:
        return self.vm.bus.read(self.base + CONFIG + offset, size)

    def set_config(self, offset: int, size: int, value: int) -> None:
        self.vm.bus.write(self.base + CONFIG + offset, size, value)

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
        """Steps 1 to 6 of 3.1.1, from a reset on. VERSION_1 is added."""
        self.reset()
        self.write("Status", ACKNOWLEDGE)
        self.write("Status", ACKNOWLEDGE | DRIVER)
        self.choose(features | VERSION_1)
        self.write("Status", ACKNOWLEDGE | DRIVER | FEATURES_OK)
        assert self.read("Status") & FEATURES_OK, "the device refused the features"

    def configure(self, index: int, size: int) -> Queue:
        """Places a queue and leaves it to `enable`."""
        queue = Queue(self, index, size)
        self.write("QueueSel", index)
        assert self.read("QueueReady") == 0
        self.write("QueueNum", size)
        for area, address in (("Desc", queue.desc), ("Driver", queue.avail), ("Device", queue.used)):
            self.write(f"Queue{area}Low", address & 0xFFFF_FFFF)
            self.write(f"Queue{area}High", address >> 32)
        self.queues.append(queue)
        return queue

    def enable(self, queue: Queue) -> None:
        self.write("QueueSel", queue.index)
        self.write("QueueReady", 1)

    def start(self, features: int = 0, queues: int | Sequence[int] = 1, size: int = 16) -> list[Queue]:
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
        """Whether the device's interrupt has reached the PLIC (sources 1 to 8 are the slots')."""
        slot = (self.base - 0x1000_1000) // 0x1000
        return bool(self.vm.bus.read(0x0C00_1000, 4) >> (1 + slot) & 1)
