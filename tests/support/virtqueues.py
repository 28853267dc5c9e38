"""Virtqueues in guest memory as a driver keeps them, split (virtio 1.2, 2.7) and packed (2.8).

Both have the same well-behaved face; :meth:`Virtqueue.expose` is the other one: descriptors as they are, right or
wrong.
"""

from __future__ import annotations

import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.virtio_driver import Driver

# Descriptor flags of both layouts (2.7.5, 2.8.3, 2.8.6, 2.8.7), and those of packed rings (2.8.1).
NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL, USED = 1 << 7, 1 << 15

Elements = Iterable[tuple[int, int]]


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
    """A buffer that the device gave back: by which the driver knows it, and the bytes written."""

    id: int
    length: int


class Virtqueue(ABC):
    def __init__(self, driver: Driver, index: int, size: int) -> None:
        self.driver, self.index, self.size = driver, index, size
        self.guest = driver.guest
        lengths = self.area_lengths(size)
        self.desc, self.driver_area, self.device_area = (self.guest.allocate(length, 16) for length in lengths)
        for area, length in zip(self.areas, lengths, strict=True):
            self.guest.write(area, bytes(length))

    @property
    def areas(self) -> tuple[int, int, int]:
        """Descriptor area, driver area, device area."""
        return self.desc, self.driver_area, self.device_area

    @staticmethod
    @abstractmethod
    def area_lengths(size: int) -> tuple[int, int, int]: ...

    # --- the well-behaved way ---

    @abstractmethod
    def add(self, readable: Elements = (), writable: Elements = (), direct: int | None = None) -> int:
        """Makes a buffer available; elements are (address, length).

        Args:
            readable: what the device may read.
            writable: what it may write.
            direct: how many elements are in the ring itself, the others being in an indirect table; None: all. A
                list of a packed ring is in a table as a whole as soon as a part of it is (2.8.5).

        Returns:
            What :class:`Used` will call it.
        """

    @abstractmethod
    def poll(self) -> Used | None:
        """The next used buffer, if there is one."""

    @abstractmethod
    def untouched(self) -> bool:
        """Whether the device has used nothing yet."""

    @abstractmethod
    def want_interrupts(self, wanted: bool) -> None: ...

    @abstractmethod
    def interrupt_after(self, slots: int) -> None:
        """With EVENT_IDX: asks for an interrupt once `slots` more descriptors have been used and one after them."""

    @abstractmethod
    def asks_for_kicks(self) -> bool:
        """Whether the device wants to hear of the next buffer."""

    @abstractmethod
    def table(self, elements: Sequence[tuple[int, int, int]]) -> bytes:
        """The bytes of an indirect table of (address, length, WRITE or 0)."""

    def kick(self) -> None:
        self.driver.write(
            "QueueNotify", self.index | self.progress() << 16 if self.driver.notification_data else self.index
        )

    @abstractmethod
    def progress(self) -> int:
        """What VIRTIO_F_NOTIFICATION_DATA adds to a doorbell (2.9)."""

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

    def transfer(self, readable: Elements = (), writable: Elements = (), direct: int | None = None) -> Used:
        """Adds a buffer, kicks, and waits for it."""
        self.add(readable, writable, direct)
        self.kick()
        return self.wait()

    # --- the other way ---

    @abstractmethod
    def expose(self, descriptors: Sequence[tuple[int, int, int]]) -> None:
        """Writes (address, length, flags) into the ring as they are, one after the other, and publishes the first."""

    @abstractmethod
    def scribble(self, index: int, address: int, length: int, flags: int, word: int) -> None:
        """Writes over one descriptor of the ring; `word` is its `next` field or its buffer ID."""

    def place_table(self, elements: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
        """An indirect table: where it is, and its length."""
        data = self.table(elements)
        return self.guest.place(data), len(data)


class SplitQueue(Virtqueue):
    def __init__(self, driver: Driver, index: int, size: int) -> None:
        super().__init__(driver, index, size)
        self.avail, self.used = self.driver_area, self.device_area
        self.avail_idx = self.used_idx = 0
        self.free = list(range(size))
        self.chains: dict[int, list[int]] = {}

    @staticmethod
    def area_lengths(size: int) -> tuple[int, int, int]:
        return 16 * size, 6 + 2 * size, 6 + 8 * size

    def scribble(self, index: int, address: int, length: int, flags: int, word: int) -> None:
        self.set_descriptor(index, address, length, flags, word)

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

    def device_idx(self) -> int:
        return self.guest.load(self.used + 2, 2)

    def untouched(self) -> bool:
        return self.device_idx() == 0

    def want_interrupts(self, wanted: bool) -> None:
        self.set_avail_flags(not wanted)

    def interrupt_after(self, slots: int) -> None:
        self.set_used_event(self.used_idx + slots)

    def asks_for_kicks(self) -> bool:
        if self.driver.event_idx:
            return self.guest.load(self.used + 4 + 8 * self.size, 2) == self.avail_idx
        return self.guest.load(self.used, 2) == 0

    def progress(self) -> int:
        return self.avail_idx

    def table(self, elements: Sequence[tuple[int, int, int]]) -> bytes:
        last = len(elements) - 1
        return b"".join(
            struct.pack("<QIHH", address, length, flags | (NEXT if i < last else 0), i + 1)
            for i, (address, length, flags) in enumerate(elements)
        )

    def expose(self, descriptors: Sequence[tuple[int, int, int]]) -> None:
        first = self.avail_idx % self.size
        for i, (address, length, flags) in enumerate(descriptors):
            slot, following = (first + i) % self.size, (first + i + 1) % self.size
            self.set_descriptor(slot, address, length, flags, following)
        self.make_available(first)

    def add(self, readable: Elements = (), writable: Elements = (), direct: int | None = None) -> int:
        elements = [(a, n, 0) for a, n in readable] + [(a, n, WRITE) for a, n in writable]
        direct = len(elements) if direct is None else direct
        slots = [self.free.pop(0) for _ in range(direct + (direct < len(elements)))]
        for i, (address, length, flags) in enumerate(elements[:direct]):
            more = i + 1 < len(slots)
            self.set_descriptor(slots[i], address, length, flags | (NEXT if more else 0), slots[i + 1] if more else 0)
        if direct < len(elements):
            self.set_descriptor(slots[-1], *self.place_table(elements[direct:]), INDIRECT)
        self.chains[slots[0]] = slots
        self.make_available(slots[0])
        return slots[0]

    def poll(self) -> Used | None:
        if self.device_idx() == self.used_idx:
            return None
        at = self.used + 4 + 8 * (self.used_idx % self.size)
        used = Used(self.guest.load(at, 4), self.guest.load(at + 4, 4))
        self.used_idx = (self.used_idx + 1) % 0x1_0000
        self.free.extend(self.chains.pop(used.id, []))
        return used


class PackedQueue(Virtqueue):
    def __init__(self, driver: Driver, index: int, size: int) -> None:
        super().__init__(driver, index, size)
        # A slot and its wrap counter in one number, counted up (2.8.1).
        self.next_avail = self.next_used = 0
        self.free_ids = list(range(size))
        self.slots: dict[int, int] = {}

    @staticmethod
    def area_lengths(size: int) -> tuple[int, int, int]:
        return 16 * size, 4, 4

    def wrap_counter(self, position: int) -> int:
        return 1 - position // self.size % 2

    def flags_at(self, position: int) -> int:
        """What makes a descriptor available there (2.8.1)."""
        return AVAIL if self.wrap_counter(position) else USED

    def event(self, position: int) -> int:
        """Offset and wrap counter of an event suppression structure (2.8.14)."""
        return position % self.size | self.wrap_counter(position) << 15

    def word(self, position: int) -> tuple[int, int, int]:
        """Length, ID and flags of a descriptor, in one load."""
        value = self.guest.load(self.desc + 16 * (position % self.size) + 8, 8)
        return value & 0xFFFF_FFFF, value >> 32 & 0xFFFF, value >> 48

    def scribble(self, index: int, address: int, length: int, flags: int, word: int) -> None:
        self.write(index, address, length, flags | self.flags_at(index), word)

    def write(self, position: int, address: int, length: int, flags: int, buffer_id: int) -> None:
        at = self.desc + 16 * (position % self.size)
        self.guest.store(at, 8, address)
        self.guest.store(at + 8, 8, length | buffer_id << 32 | flags << 48)

    def publish(self, descriptors: Sequence[tuple[int, int, int]], buffer_id: int) -> None:
        """The rest of the list before its first (2.8.17)."""
        for i in reversed(range(len(descriptors))):
            position = self.next_avail + i
            address, length, flags = descriptors[i]
            self.write(position, address, length, flags | self.flags_at(position), buffer_id)
        self.next_avail += len(descriptors)

    def expose(self, descriptors: Sequence[tuple[int, int, int]]) -> None:
        self.publish(descriptors, 0)

    def add(self, readable: Elements = (), writable: Elements = (), direct: int | None = None) -> int:
        elements = [(a, n, 0) for a, n in readable] + [(a, n, WRITE) for a, n in writable]
        if direct is not None and direct < len(elements):
            elements = [(*self.place_table(elements), INDIRECT)]
        last = len(elements) - 1
        assert self.next_avail + len(elements) <= self.next_used + self.size, "the ring is full"
        # Not in order: IDs mean nothing to the device.
        buffer_id = self.free_ids.pop(len(self.free_ids) // 2)
        self.slots[buffer_id] = len(elements)
        self.publish([(a, n, flags | (NEXT if i < last else 0)) for i, (a, n, flags) in enumerate(elements)], buffer_id)
        return buffer_id

    def poll(self) -> Used | None:
        length, buffer_id, flags = self.word(self.next_used)
        expected = AVAIL | USED if self.wrap_counter(self.next_used) else 0
        if flags & (AVAIL | USED) != expected or buffer_id not in self.slots:
            return None
        self.next_used += self.slots.pop(buffer_id)
        self.free_ids.append(buffer_id)
        assert bool(flags & WRITE) == (length > 0), "WRITE says whether anything was written (2.8.3)"
        return Used(buffer_id, length)

    def untouched(self) -> bool:
        flags = [self.word(position)[2] for position in range(self.size)]
        return all(f & (AVAIL | USED) != AVAIL | USED for f in flags)

    def want_interrupts(self, wanted: bool) -> None:
        self.guest.store(self.driver_area, 4, 0 if wanted else 1 << 16)

    def interrupt_after(self, slots: int) -> None:
        self.guest.store(self.driver_area, 4, self.event(self.next_used + slots) | 2 << 16)

    def asks_for_kicks(self) -> bool:
        wish = self.guest.load(self.device_area, 4)
        return wish == (self.event(self.next_avail) | 2 << 16 if self.driver.event_idx else 0)

    def progress(self) -> int:
        return self.event(self.next_avail)

    def table(self, elements: Sequence[tuple[int, int, int]]) -> bytes:
        return b"".join(struct.pack("<QIHH", address, length, 0, flags) for address, length, flags in elements)
