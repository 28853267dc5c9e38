"""Writes the seed corpora: for each fuzz target a few inputs that take its device through its usual life.

A seed is what a well-behaved driver does; the fuzzer does the rest. `python fuzz/seeds.py FOLDER` writes
FOLDER/<target>/<seed>.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

RAM = 0x8000_0000

# struct Step of bench.h.
POKE, FILL, WRITE, READ, RUN, MEDDLE, INTERLEAVE, FAIL, TAMPER, OWN = range(10)
LATER = 0x80

Seeds = Iterator[tuple[str, bytes]]

# The headers of a TCP segment over IPv4.
TCP4 = bytes.fromhex(
    "525400123456 525400aabbcc 0800"
    "4500 05dc 0001 0000 4006 0000 0a000001 0a000002"
    "04d2 0050 00000001 00000002 5010 ffff 0000 0000"
)


class Script:
    """A list of steps. Addresses of RAM are given from its start."""

    def __init__(self) -> None:
        self.steps: list[bytes] = []

    def step(self, kind: int, width: int = 0, window: int = 0, count: int = 0, offset: int = 0, value: int = 0) -> None:
        self.steps.append(struct.pack("<BBBBIQ", kind, width, window, count, offset, value % 2**64))

    def data(self, at: int, content: bytes) -> None:
        """Places bytes in RAM, eight a step."""
        for i in range(0, len(content), 8):
            self.step(POKE, 3, offset=at + i, value=int.from_bytes(content[i : i + 8], "little"))

    def write(self, window: int, offset: int, value: int, size: int = 4, later: bool = False) -> None:
        width = size.bit_length() - 1
        self.step(WRITE, width | (LATER if later else 0), window, offset=offset, value=value)

    def read(self, window: int, offset: int, size: int = 4) -> None:
        self.step(READ, size.bit_length() - 1, window, offset=offset)

    def bytes(self) -> bytes:
        return b"".join(self.steps)


# --- virtqueue_split: windows 0 block, 1 net, 2 console, 3 entropy ---

NEXT, DEVICE_WRITES, INDIRECT = 1, 2, 4
INDIRECT_DESC, EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32


class Virtio(Script):
    """A virtio-mmio driver (virtio 1.2, 4.2.3)."""

    def start(self, window: int, queues: int, features: int = 0, size: int = 8) -> None:
        self.write(window, 0x70, 0)
        self.write(window, 0x70, 3)
        self.read(window, 0x10)
        for half in (0, 1):
            self.write(window, 0x24, half)
            self.write(window, 0x20, (features | VERSION_1) >> 32 * half & 0xFFFF_FFFF)
        self.write(window, 0x70, 11)
        for queue in range(queues):
            self.write(window, 0x30, queue)
            self.write(window, 0x38, size)
            for register, area in ((0x80, 0), (0x90, 0x400), (0xA0, 0x800)):
                self.write(window, register, RAM + self.area(window, queue) + area)
            self.write(window, 0x44, 1)
        self.write(window, 0x70, 15)

    @staticmethod
    def area(window: int, queue: int) -> int:
        return 0x1_0000 * window + 0x1000 * queue

    def offer(
        self, window: int, queue: int, elements: list[tuple[int, int, int]], index: int = 0, indirect: bool = False
    ) -> None:
        """Makes one buffer available and rings; an element is (address, length, flags)."""
        area = self.area(window, queue)
        table = b"".join(
            struct.pack("<QIHH", RAM + at, length, flags | (NEXT if i + 1 < len(elements) else 0), i + 1)
            for i, (at, length, flags) in enumerate(elements)
        )
        if indirect:
            self.data(area + 0x600, table)
            table = struct.pack("<QIHH", RAM + area + 0x600, len(table), INDIRECT, 0)
        self.data(area, table)
        self.step(POKE, 1, offset=area + 0x400 + 4 + 2 * (index % 8), value=0)
        self.step(POKE, 1, offset=area + 0x400 + 2, value=index + 1)
        self.write(window, 0x50, queue)


BUFFER, STATUS = 0x3_8000, 0x3_F000


def virtqueue_split() -> Seeds:
    yield from virtio_devices(Virtio)


def virtio_devices(driver: type[Virtio]) -> Seeds:
    """The life of each device, under either transport and ring layout."""
    block_features = 1 << 9 | 1 << 11 | 1 << 13 | 1 << 14
    requests = {
        "read": (0, 1, [(BUFFER, 1024, DEVICE_WRITES)]),
        "write": (1, 2, [(BUFFER, 512, 0), (BUFFER + 0x1000, 512, 0)]),
        "flush": (4, 0, []),
        "id": (8, 0, [(BUFFER, 20, DEVICE_WRITES)]),
        "discard": (11, 0, [(BUFFER, 16, 0)]),
        "zeroes": (13, 0, [(BUFFER, 16, 0)]),
    }
    for name, (kind, sector, data) in requests.items():
        for indirect in (False, True):
            script = driver()
            script.start(0, 2, block_features | (INDIRECT_DESC | EVENT_IDX if indirect else 0))
            script.data(BUFFER - 0x100, struct.pack("<IIQ", kind, 0, sector))
            script.data(BUFFER, struct.pack("<QII", 4, 8, 0))
            elements = [(BUFFER - 0x100, 16, 0), *data, (STATUS, 1, DEVICE_WRITES)]
            script.offer(0, 0, elements, indirect=indirect)
            script.read(0, 0x60 if driver is Virtio else 0x1000)
            script.write(0, 0x64, 3)
            script.offer(0, 1, elements, indirect=indirect)
            yield f"block-{name}{'-indirect' * indirect}", script.bytes()

    interrupted = driver()
    interrupted.start(0, 1)
    interrupted.data(BUFFER - 0x100, struct.pack("<IIQ", 0, 0, 0))
    interrupted.step(INTERLEAVE, count=1)
    interrupted.step(FAIL, count=1)
    interrupted.offer(0, 0, [(BUFFER - 0x100, 16, 0), (BUFFER, 512, DEVICE_WRITES), (STATUS, 1, DEVICE_WRITES)])
    interrupted.write(0, 0x70 if driver is Virtio else 0x14, 0, size=1)
    interrupted.start(0, 1)
    interrupted.step(TAMPER, offset=3, value=1)
    yield "block-reset-in-flight", interrupted.bytes()

    tcp6 = bytes.fromhex(
        "525400123456 525400aabbcc 86dd 60000000 05c8 0640"
        "fe800000000000000000000000000001 fe800000000000000000000000000002"
        "04d2 0050 00000001 00000002 5010 ffff 0000 0000"
    )
    offloads = 1 << 0 | 1 << 1 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 12
    merge, control, queues = 1 << 15, 1 << 17 | 1 << 18 | 1 << 19, 1 << 22
    for name, frame, kind in (("tcp4", TCP4, 1), ("tcp6", tcp6, 4)):
        for features in (0, offloads | merge | EVENT_IDX, offloads | control | queues | INDIRECT_DESC):
            script = driver()
            script.step(OWN + 2, count=0 if features == 0 else 1)
            script.start(1, 5 if features & queues else 3, features)
            header = struct.pack("<BBHHHHH", 1 if features else 0, kind if features else 0, 54, 500, 34, 16, 0)
            script.data(BUFFER, header)
            script.data(BUFFER + 0x10, frame.ljust(1514, b"\x55")[:128])
            script.offer(1, 1, [(BUFFER, 12, 0), (BUFFER + 0x10, 1514, 0)])
            script.offer(1, 0, [(BUFFER + 0x1000, 2048, DEVICE_WRITES)])
            script.step(OWN, offset=BUFFER + 0x10, value=1514 | 1 << 16 | (kind if features else 0) << 17 | 500 << 21)
            script.data(BUFFER + 0x800, b"\x00\x00\x01")
            script.offer(1, 4 if features & queues else 2, [(BUFFER + 0x800, 3, 0), (STATUS, 1, DEVICE_WRITES)])
            script.data(BUFFER + 0x810, b"\x01\x00" + struct.pack("<I", 1) + b"\x52\x54\0\1\2\3" + bytes(4))
            script.offer(1, 2, [(BUFFER + 0x810, 16, 0), (STATUS, 1, DEVICE_WRITES)], index=1)
            yield f"net-{name}-{features:x}", script.bytes()

    console = driver()
    console.start(2, 2)
    console.offer(2, 0, [(BUFFER, 64, DEVICE_WRITES)])
    console.step(OWN + 1, count=100)
    console.offer(2, 1, [(BUFFER, 64, 0), (BUFFER + 0x100, 0x8000, 0)])
    console.write(2, 0x108 if driver is Virtio else 0x2008, ord("x"))
    yield "console", console.bytes()

    entropy = driver()
    entropy.start(3, 1, EVENT_IDX)
    for i in range(4):
        entropy.offer(3, 0, [(BUFFER, 64, DEVICE_WRITES), (BUFFER + 0x1000, 32, DEVICE_WRITES)], index=i)
    entropy.step(MEDDLE, count=2, offset=Virtio.area(3, 0), value=RAM + BUFFER)
    entropy.offer(3, 0, [(BUFFER, 64, DEVICE_WRITES)], index=4)
    yield "entropy", entropy.bytes()


# --- ahci: window 0 is the ABAR, 1 the function's configuration space ---

COMMAND_LIST, FIS_AREA, TABLES, SECTORS = 0x1000, 0x2000, 0x4000, 0x1_0000


class Ahci(Script):
    """A driver of one port (Serial ATA AHCI 1.3.1, 10)."""

    def start(self, port: int) -> None:
        self.port = 0x100 + 0x80 * port
        self.write(0, 0x04, 0x8000_0002)
        self.write(0, self.port + 0x00, RAM + COMMAND_LIST)
        self.write(0, self.port + 0x08, RAM + FIS_AREA)
        self.write(0, self.port + 0x30, 0xFFFF_FFFF)
        self.write(0, self.port + 0x10, 0xFFFF_FFFF)
        self.write(0, self.port + 0x14, 0x7840_00FF)
        self.write(0, self.port + 0x18, 0x10)
        self.write(0, self.port + 0x18, 0x11)

    def command(
        self,
        slot: int,
        opcode: int,
        lba: int = 0,
        count: int = 1,
        features: int = 0,
        prdt: int = 1,
        queued: bool = False,
    ) -> None:
        if queued:
            features, count = count, slot << 3
        fis = struct.pack(
            "<BBBBIIHHI", 0x27, 0x80, opcode, features & 0xFF, lba | 0x40 << 24, features >> 8 << 24, count, 0, 0
        )
        table = TABLES + 0x200 * slot
        self.data(table, fis)
        for i in range(prdt):
            self.data(table + 0x80 + 16 * i, struct.pack("<QII", RAM + SECTORS + 0x2000 * i, 0, 511))
        self.data(COMMAND_LIST + 32 * slot, struct.pack("<IIQ", 5 | prdt << 16, 0, RAM + table))
        if queued:
            self.write(0, self.port + 0x34, 1 << slot)
        self.write(0, self.port + 0x38, 1 << slot)
        self.read(0, self.port + 0x10)
        self.write(0, self.port + 0x10, 0xFFFF_FFFF)


def ahci() -> Seeds:
    commands = {
        "identify": (0xEC, {}),
        "read-dma-ext": (0x25, {"lba": 2, "count": 2, "prdt": 2}),
        "write-dma-ext": (0x35, {"lba": 4, "count": 2, "prdt": 2}),
        "write-fua": (0x3D, {"lba": 4}),
        "read-dma": (0xC8, {"lba": 1}),
        "read-sectors": (0x20, {"lba": 1}),
        "write-sectors": (0x30, {"lba": 1}),
        "read-multiple": (0xC4, {"lba": 1}),
        "verify": (0x42, {"lba": 1, "prdt": 0}),
        "flush": (0xEA, {"prdt": 0}),
        "trim": (0x06, {"features": 1}),
        "features-cache": (0xEF, {"features": 0x82, "prdt": 0}),
        "features-mode": (0xEF, {"features": 0x03, "count": 0x46, "prdt": 0}),
        "multiple": (0xC6, {"count": 8, "prdt": 0}),
        "log": (0x2F, {"lba": 0x10}),
        "log-directory": (0x47, {"lba": 0}),
        "power": (0xE5, {"prdt": 0}),
        "standby": (0xE0, {"prdt": 0}),
        "read-queued": (0x60, {"lba": 3, "count": 2, "prdt": 2, "queued": True}),
        "write-queued": (0x61, {"lba": 3, "count": 2, "prdt": 2, "queued": True}),
        "beyond": (0x25, {"lba": 0xFF_FFFF}),
        "unknown": (0xA0, {}),
        "short": (0x25, {"lba": 0, "count": 8, "prdt": 1}),
    }
    for name, (opcode, fields) in commands.items():
        script = Ahci()
        script.start(len(name) % 2)
        script.data(SECTORS, struct.pack("<Q", 8 << 48 | 4))
        script.command(3, opcode, **fields)
        script.command(7, 0x25)
        yield name, script.bytes()

    queue = Ahci()
    queue.start(0)
    queue.step(INTERLEAVE, count=2)
    for slot in range(4):
        queue.command(slot, 0x60, lba=slot, queued=True)
    queue.step(FAIL, count=0)
    queue.command(4, 0x60, queued=True)
    queue.write(0, 0x118, 0x10)
    queue.write(0, 0x118, 0x11)
    queue.command(0, 0x2F, lba=0x10)
    yield "queued-error", queue.bytes()

    resets = Ahci()
    resets.start(0)
    resets.step(INTERLEAVE, count=1)
    resets.command(0, 0x25)
    resets.write(0, 0x12C, 1)
    resets.write(0, 0x12C, 0)
    resets.data(TABLES, struct.pack("<BBBBIIHBBI", 0x27, 0, 0, 0, 0, 0, 0, 0, 4, 0))
    resets.write(0, 0x138, 1)
    resets.data(TABLES, struct.pack("<BBBBIIHBBI", 0x27, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    resets.write(0, 0x138, 1)
    resets.write(0, 0x04, 0x8000_0001)
    resets.start(0)
    resets.write(1, 0x80, 0x0001_0005, later=True)
    resets.step(TAMPER, offset=12, value=4)
    yield "resets", resets.bytes()


# --- virtqueue_packed: windows 0 block, 1 net, 2 console, 3 entropy; 4 to 7 configuration space, 8 to 11 MSI-X ---

RING_PACKED = 1 << 34
AVAILABLE, USED = 1 << 7, 1 << 15


class VirtioPci(Virtio):
    """A virtio-pci driver with packed rings (virtio 1.2, 4.1.5.1 and 2.8)."""

    def start(self, window: int, queues: int, features: int = 0, size: int = 8) -> None:
        self.write(window, 0x14, 0, size=1)
        self.write(window, 0x14, 3, size=1)
        for half in (0, 1):
            self.write(window, 0x00, half)
            self.read(window, 0x04)
            self.write(window, 0x08, half)
            self.write(window, 0x0C, (features | VERSION_1 | RING_PACKED) >> 32 * half & 0xFFFF_FFFF)
        self.write(window, 0x14, 11, size=1)
        for vector in range(queues + 1):
            self.write(8 + window, 16 * vector, 0xFEE0_0000 + 4 * vector, size=8)
            self.write(8 + window, 16 * vector + 8, vector, size=8)
        self.write(4 + window, 0x42, 0x8000, size=2)
        self.write(window, 0x10, 0, size=2)
        for queue in range(queues):
            self.write(window, 0x16, queue, size=2)
            self.write(window, 0x18, size, size=2)
            self.write(window, 0x1A, queue + 1, size=2)
            for register, area in ((0x20, 0), (0x28, 0x400), (0x30, 0x800)):
                self.write(window, register, RAM + self.area(window, queue) + area, size=8)
            self.write(window, 0x1C, 1, size=2)
        self.write(window, 0x14, 15, size=1)

    def offer(
        self, window: int, queue: int, elements: list[tuple[int, int, int]], index: int = 0, indirect: bool = False
    ) -> None:
        """`index`: the slot of the ring where the buffer begins, in the first lap."""
        area = self.area(window, queue)
        table = b"".join(
            struct.pack(
                "<QIHH",
                RAM + at,
                length,
                index,
                flags | (0 if indirect else AVAILABLE | (NEXT if i + 1 < len(elements) else 0)),
            )
            for i, (at, length, flags) in enumerate(elements)
        )
        if indirect:
            self.data(area + 0x600, table)
            table = struct.pack("<QIHH", RAM + area + 0x600, len(table), index, INDIRECT | AVAILABLE)
        self.data(area + 16 * index, table)
        self.write(window, 0x3000 + 4 * queue, queue, size=2)


def virtqueue_packed() -> Seeds:
    yield from virtio_devices(VirtioPci)
    window = VirtioPci()
    window.start(3, 1, EVENT_IDX)
    window.step(POKE, 2, offset=Virtio.area(3, 0) + 0x400, value=2 << 16 | 1)
    window.offer(3, 0, [(BUFFER, 8, DEVICE_WRITES)])
    # The window in configuration space (4.1.4.9): device_status through it.
    window.write(7, 0x9C, 0, size=1)
    window.write(7, 0xA0, 0x14)
    window.write(7, 0xA4, 1)
    window.read(7, 0xA8, size=1)
    window.write(7, 0xA8, 0, size=1)
    window.write(7, 0xC8, 0x8000, size=2)
    yield "window", window.bytes()


# --- pci_config: windows 0..4 functions of bus 0, 5 a bridge, 6 a hot-plug port, 7 and 8 functions behind the bridge,
# 9 the ECAM, 10 I/O, 11 and 12 memory ---


def pci_config() -> Seeds:
    for number, slot in enumerate((1, 2, 3, 4, 7, 8)):
        script = Script()
        if slot >= 7:
            script.write(5, 0x18, 0x0001_0100)
            script.write(5, 0x1C, 0x0000)
            script.write(5, 0x20, 0x400F_4000)
            script.write(5, 0x24, 0x0011_0001)
            script.write(5, 0x28, 4)
            script.write(5, 0x2C, 4)
            script.write(5, 0x04, 7, size=2)
        for bar in range(6):
            script.write(slot, 0x10 + 4 * bar, 0xFFFF_FFFF)
            script.read(slot, 0x10 + 4 * bar)
        script.write(slot, 0x10, 0x4000_0000)
        script.write(slot, 0x14, 0x4001_0000)
        script.write(slot, 0x18, 0)
        script.write(slot, 0x1C, 0x101)
        script.write(slot, 0x20, 0x4000_2000)
        script.write(slot, 0x04, 7, size=2)
        for window, offset in ((11, 0x0), (11, 0x1_0000), (10, 0x100), (11, 0x2000)):
            script.write(window, offset, 0xFEE0_0000)
            script.read(window, offset)
        script.write(slot, 0x54, 0xFEE0_0000)
        script.write(slot, 0x5C, 0x21, size=2)
        script.write(slot, 0x60, 2)
        script.write(slot, 0x52, 0x21, size=2)
        script.step(OWN, 1, number, count=1)
        script.write(slot, 0x60, 0)
        for entry in range(5):
            script.write(11, 0x2000 + 16 * entry, 0xFEE0_0000 + 4 * entry, size=8)
            script.write(11, 0x2008 + 16 * entry, 0x20 + entry, size=8)
        script.write(slot, 0x72, 0x8000, size=2)
        for width in range(4):
            script.step(OWN, width, number, count=1, value=RAM + 0x100 * width)
        script.write(11, 0x200C, 1)
        script.step(OWN, 1, number, count=0)
        script.read(11, 0x2800, size=8)
        script.write(11, 0x200C, 0)
        script.write(slot, 0x10, 0x4_0000_0000)
        script.write(slot, 0x14, 0x10_000C)
        script.write(slot, 0x18, 0x4)
        script.write(slot, 0x44, 3, size=2)
        script.write(slot, 0x44, 0, size=2)
        script.write(slot, 0x108, 0xFFFF_FFFF)
        script.step(TAMPER, offset=0, value=0xFFFF)
        script.write(5, 0x3E, 0x40, size=2)
        script.write(5, 0x3E, 0, size=2)
        script.write(slot, 0x88, 0x8000, size=2)
        yield f"function-{slot}", script.bytes()

    # The port with bus 2 behind it; its PCI Express capability is at 0x50, slot control at 0x68.
    port = Script()
    port.write(6, 0x18, 0x0002_0200)
    port.write(6, 0x20, 0x400F_4000)
    port.write(6, 0x04, 7, size=2)
    port.write(6, 0x94, 0xFEE0_0000, size=8)
    port.write(6, 0x92, 1, size=2)
    port.step(OWN + 1, window=15)
    port.write(9, 0x20_0010, 0x4000_0000)
    port.write(9, 0x20_0004, 7, size=2)
    port.read(11, 0)
    port.step(OWN + 1, count=1)
    for control in (0x1038, 0x17FF, 0x1038):
        port.write(6, 0x68, control, size=2)
        port.write(6, 0x6A, 0xFFFF, size=2)
    for offset, value in ((0x60, 0x10), (0x60, 0), (0x6C, 0x1F), (0x3E, 0x40), (0x3E, 0)):
        port.write(6, offset, value, size=2)
    port.step(OWN + 1)
    port.step(OWN + 1, window=15)
    port.step(TAMPER, offset=30, value=0x400)
    yield "hot-plug", port.bytes()


# --- platform: windows 0 ACLINT, 1 PLIC, 2 an APLIC in direct mode, 3 and 4 the two of a hierarchy, 5 UART, 6 RTC,
# 7 and 8 IMSIC, 9 VM generation ID ---


def platform() -> Seeds:
    wires = Script()
    for source in (1, 10, 33, 96):
        wires.write(1, 4 * source, 7)
        wires.write(2, 4 * source, 4)  # level-sensitive
        wires.write(2, 0x3000 + 4 * source, 1)
        wires.write(3, 4 * source, 0x400)  # delegated
        wires.write(4, 4 * source, 6)
        wires.write(4, 0x3000 + 4 * source, 1 << 18 | 1 << 12 | source)
        for window in (2, 4):
            wires.write(window, 0x1EDC, source)
    for context in range(4):
        wires.write(1, 0x2000 + 0x80 * context, 0xFFFF_FFFF)
    wires.write(3, 0x1BC0, 0x2_4000)
    wires.write(3, 0x1BC8, 0x2_8000)
    wires.write(3, 0x1BCC, 2 << 20)
    wires.write(3, 0x1BC4, 1 << 12)
    for window, mode in ((2, 0x100), (3, 0x104), (4, 0x104)):
        wires.write(window, 0, mode)
    wires.write(2, 0x4000, 1)
    for window in (0, 4, 8):
        wires.step(OWN + 1, 4, window, count=0x70, value=1)
        wires.step(OWN + 1, 4, window, count=0xC0, value=2**64 - 1)
    for source in (1, 10, 33, 96):
        wires.step(OWN, offset=source, value=1)
        wires.read(1, 0x20_0004)
        wires.read(2, 0x401C)
        wires.write(1, 0x20_0004, source)
        wires.step(OWN + 2, window=8, value=1)
        wires.step(OWN, offset=source, value=0)
    wires.write(4, 0x3000, 5)
    wires.write(7, 0, 5)
    wires.step(TAMPER, offset=40, value=0xFF)
    yield "wires", wires.bytes()

    clocks = Script()
    clocks.write(0, 0xBFF8, 1000, size=8)
    clocks.write(0, 0x4000, 2000, size=8)
    clocks.write(0, 0x0004, 1)
    clocks.read(6, 0x00)
    clocks.write(6, 0x0C, 0)
    clocks.write(6, 0x08, 10)
    clocks.write(6, 0x10, 1)
    for offset, value in ((3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xC7), (1, 0xF), (4, 0x1F), (0, ord("x"))):
        clocks.write(5, offset, value, size=1)
    clocks.step(OWN + 3, value=10**6)
    clocks.step(OWN + 4, count=20)
    for value in (1, 2):
        clocks.step(OWN + 5, value=value)
        clocks.read(9, 0, size=8)
    for _ in range(2):
        clocks.read(5, 0, size=1)
        clocks.read(5, 2, size=1)
        clocks.read(5, 5, size=1)
    yield "clocks", clocks.bytes()


# --- e1000e: window 0 the registers, 1 the I/O window, 2 the MSI-X table, 3 configuration space ---

TX_RING, RX_RING, FRAME, RX_BUFFERS = 0x1000, 0x2000, 0x1_0000, 0x2_0000
EOP, IFCS, CHECKSUM, RS, DEXT, VLAN = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
CONTEXT, DATA = 0 << 20, 1 << 20


class E1000e(Script):
    """A driver of the 82574 with a ring each way (datasheet, 4.6)."""

    def start(self, rctl: int = 0x0400_801E, rfctl: int = 0) -> None:
        self.tail = 0
        self.write(0, 0x00D8, 0xFFFF_FFFF)
        self.write(0, 0x0000, 0x0400_0000)
        self.read(0, 0x0008)
        self.write(0, 0x0000, 0x40)
        self.write(0, 0x0014, 1)
        self.read(0, 0x0014)
        self.write(0, 0x0020, 0x0821_0000)
        self.read(0, 0x0020)
        for base, ring in ((0x3800, TX_RING), (0x2800, RX_RING)):
            self.write(0, base, RAM + ring)
            self.write(0, base + 0x04, 0)
            self.write(0, base + 0x08, 256)
            self.write(0, base + 0x10, 0)
            self.write(0, base + 0x18, 0)
        self.write(0, 0x5008, rfctl)
        self.write(0, 0x5000, 0x300)
        self.write(0, 0x5400, 0x1200_5452)
        self.write(0, 0x5404, 0x8000_5634)
        for i in range(15):
            self.data(RX_RING + 16 * i, struct.pack("<QQ", RAM + RX_BUFFERS + 0x800 * i, 0))
        self.write(0, 0x00E4, 0x8000_8A98)
        self.write(0, 0x00E8, 100)
        self.write(3, 0xA2, 0x8000, size=2)
        self.write(0, 0x00D0, 0x01F0_00FF)
        self.write(0, 0x0400, 0x0000_010A)
        self.write(0, 0x0100, rctl)
        self.write(0, 0x2818, 15)

    def transmit(self, *descriptors: tuple[int, int]) -> None:
        for low, high in descriptors:
            self.data(TX_RING + 16 * self.tail, struct.pack("<QQ", low % 2**64, high))
            self.tail = (self.tail + 1) % 16
        self.write(0, 0x3818, self.tail)
        self.read(0, 0x00C0)


def e1000e() -> Seeds:
    legacy = E1000e()
    legacy.start()
    legacy.data(FRAME, TCP4.ljust(128, b"\x55"))
    flags = EOP | IFCS | RS
    legacy.transmit((RAM + FRAME, 100 | flags << 24))
    legacy.transmit(
        (RAM + FRAME, 60 | RS << 24), (RAM + FRAME + 60, 40 | 50 << 16 | (flags | CHECKSUM) << 24 | 34 << 40)
    )
    legacy.transmit((RAM + FRAME, 100 | (flags | VLAN) << 24 | 0x123 << 48))
    legacy.step(OWN, offset=FRAME, value=128)
    legacy.step(OWN + 1, value=10**6)
    legacy.step(TAMPER, offset=50, value=0xFF00)
    yield "legacy", legacy.bytes()

    context_tso = (
        14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40 | 0 << 48,
        1400 | CONTEXT | (DEXT | 0x87) << 24 | 54 << 40 | 500 << 48,
    )
    for name, options in (("checksum", 3), ("tso", 3)):
        script = E1000e()
        script.start(rfctl=0x8000)
        script.step(OWN + 2, count=63 if name == "tso" else 0)
        script.data(FRAME, TCP4.ljust(128, b"\x55"))
        command = DEXT | EOP | IFCS | RS | (0x04 if name == "tso" else 0)
        length = 1454 if name == "tso" else 500
        script.transmit(context_tso, (RAM + FRAME, length | DATA | command << 24 | options << 40))
        script.step(OWN, offset=FRAME, value=500)
        script.write(0, 0x2818, 3)
        yield name, script.bytes()

    receive = E1000e()
    receive.start(rctl=0x0400_8422, rfctl=0x8000)
    receive.write(0, 0x2170, 0x0004_0402)
    receive.write(0, 0x5818, 0x0033_0001)
    receive.write(0, 0x5C00, 0x8000_8000)
    receive.write(0, 0x5600, 0xFFFF_FFFF)
    receive.write(0, 0x0038, 0x8100)
    receive.write(0, 0x0000, 0x4000_0040)
    for i in range(7):
        receive.data(
            RX_RING + 32 * i, struct.pack("<QQQQ", *(RAM + RX_BUFFERS + 0x800 * (4 * i + k) for k in range(4)))
        )
    receive.data(FRAME, TCP4[:12] + bytes.fromhex("8100 0123") + TCP4[12:].ljust(120, b"\x55"))
    for length in (60, 1000, 1518, 3000):
        receive.step(OWN, offset=FRAME, value=length)
    receive.step(MEDDLE, count=1, offset=RX_RING, value=0)
    receive.step(OWN, offset=FRAME, value=200)
    receive.write(1, 0, 0x2818)
    receive.write(1, 4, 5)
    for register in (0x4074, 0x4080, 0x40C0, 0x00C0):
        receive.read(0, register)
    receive.write(3, 0x48, 0x8000, size=2)
    yield "receive", receive.bytes()


# --- iommu: window 0 the registers ---

DIRECTORY, ROOT, LEAF, COMMANDS, FAULTS, PAGES, PROCESSES, MSI_TABLE = (
    0x1000,
    0x4000,
    0x8000,
    0xA000,
    0xB000,
    0xC000,
    0xD000,
    0xE000,
)


def page_number(at: int) -> int:
    return RAM + at >> 12


class Iommu(Script):
    """Queues on, a directory of one level with one device context (RISC-V IOMMU 1.0, 7.2)."""

    def start(self, context: list[int], device: int = 1, mode: int = 2) -> None:
        for base, at in ((0x18, COMMANDS), (0x28, FAULTS), (0x38, PAGES)):
            self.write(0, base, page_number(at) << 10 | 4, size=8)
        self.write(0, 0x24, 0)
        self.write(0, 0x30, 0)
        for csr in (0x48, 0x4C, 0x50):
            self.write(0, csr, 3)
            self.read(0, csr)
        self.write(0, 0x2F8, 0x3210, size=8)
        self.write(0, 0x60, 0, size=8)
        self.write(0, 0x5C, 0)
        self.data(DIRECTORY + 64 * device, struct.pack("<8Q", *context))
        self.write(0, 0x10, page_number(DIRECTORY) << 10 | mode, size=8)
        self.read(0, 0x10, size=8)

    def command(self, index: int, low: int, high: int = 0) -> None:
        self.data(COMMANDS + 16 * index, struct.pack("<QQ", low, high))
        self.write(0, 0x24, index + 1)

    def requests(self, *addresses: int) -> None:
        for address in addresses:
            for write in (0, 4):
                self.step(OWN + 1, write, window=1, offset=0x2000, value=address)
            self.step(OWN, window=1, value=address)
            self.step(OWN, 4 | 8, window=1, offset=1, value=address)
            self.step(OWN, window=1, count=1, value=address)
            self.write(0, 0x258, address, size=8)
            self.write(0, 0x260, 1 << 40 | 1, size=8)
            self.read(0, 0x268, size=8)


def iommu() -> Seeds:
    def table(script: Script, at: int, levels: int, leaf_flags: int = 0xDF) -> None:
        """RAM's own gigabyte, mapped by a leaf at the level where it fits; the last is reached from level 3 up."""
        for level in range(levels - 3):
            script.data(at + 0x1000 * level, struct.pack("<Q", page_number(at + 0x1000 * (level + 1)) << 10 | 1))
        last = at + 0x1000 * (levels - 3)
        script.data(last + 16, struct.pack("<Q", RAM >> 12 << 10 | leaf_flags))
        script.data(last, struct.pack("<Q", page_number(LEAF) << 10 | 1))
        script.data(LEAF, struct.pack("<Q", page_number(LEAF + 0x1000) << 10 | 1))
        script.data(
            LEAF + 0x1000, struct.pack("<QQ", page_number(0x2_0000) << 10 | 0xDF, page_number(0x2_1000) << 10 | 0x57)
        )

    for name, levels, fsc, hgatp in (
        ("bare", 0, 0, 0),
        ("sv39", 3, 8, 0),
        ("sv48", 4, 9, 0),
        ("sv57", 5, 10, 0),
        ("sv39x4", 3, 0, 8),
        ("sv48x4", 4, 0, 9),
        ("nested", 3, 8, 8),
    ):
        script = Iommu()
        root = page_number(ROOT)
        context = [1, hgatp << 60 | root if hgatp else 0, 1 << 12, fsc << 60 | root if fsc else 0, 0, 0, 0, 0]
        if levels:
            table(script, ROOT, levels)
        script.start(context)
        script.requests(RAM + 0x100, 0x1008, 0, 0x7FFF_0000_0000)
        script.command(0, 1 | 1 << 33 if hgatp else 1)
        script.command(1, 1 | 0 << 7)
        script.command(2, 2 | 1 << 10 | 5 << 32, (RAM + 0x3_0000) >> 2)
        script.command(3, 3 | 1 << 33 | 1 << 40)
        script.command(4, 4 | 1 << 33, 1 << 40)
        script.requests(RAM + 0x100)
        script.step(OWN + 4)
        script.step(OWN + 3, 4, window=1, offset=1, value=RAM | 3)
        script.write(0, 0x54, 0xF)
        script.step(TAMPER, offset=10, value=0x10)
        yield name, script.bytes()

    process = Iommu()
    table(process, ROOT, 3)
    for at in (PROCESSES, PROCESSES + 16):
        process.data(at, struct.pack("<QQ", 1 | 1 << 12, 8 << 60 | page_number(ROOT)))
    process.start([1 | 1 << 5 | 1 << 9, 0, 1 << 12, 1 << 60 | page_number(PROCESSES), 0, 0, 0, 0])
    process.requests(RAM + 0x100, 0x1008)
    yield "process", process.bytes()

    messages = Iommu()
    table(messages, ROOT, 3)
    messages.data(
        MSI_TABLE, struct.pack("<QQQQ", 0x2_8000 << 10 | 7, 0, 3 | (RAM + 0x3_0000) >> 9 << 7, 0x28000 << 10 | 5)
    )
    messages.start([1, 8 << 60 | page_number(ROOT), 0, 0, 1 << 60 | page_number(MSI_TABLE), 1, 0x2_8000, 0])
    messages.requests(0x2800_0000, 0x2800_1000)
    messages.step(OWN + 2, window=1, offset=5, value=0x2800_0000)
    messages.step(OWN + 2, window=1, offset=5, value=0x2800_1000)
    yield "messages", messages.bytes()

    for mode in (3, 4):
        deep = Iommu()
        at = DIRECTORY
        for level in range(mode - 2):
            deep.data(
                0x1_0000 + 0x1000 * level,
                struct.pack("<Q", page_number(at if level == mode - 3 else 0x1_1000) << 10 | 1),
            )
        deep.start([1, 0, 0, 0, 0, 0, 0, 0])
        deep.write(0, 0x10, page_number(0x1_0000) << 10 | mode, size=8)
        deep.requests(RAM)
        yield f"directory-{mode - 1}", deep.bytes()


# --- display: windows 0 virtio-gpu, 1 virtio-input, 2 the Bochs display's registers, 3 its memory, 4 its function ---


def display() -> Seeds:
    gpu = Virtio()
    gpu.start(0, 2, 1 << 1)
    gpu.data(BUFFER, bytes(range(256)) * 16)
    rectangle = struct.pack("<4I", 0, 0, 32, 16)
    commands = [
        (0x0100, b""),
        (0x010A, struct.pack("<II", 0, 0)),
        (0x0101, struct.pack("<4I", 1, 2, 32, 16)),
        (
            0x0106,
            struct.pack("<II", 1, 2) + struct.pack("<QIIQII", RAM + BUFFER, 1024, 0, RAM + BUFFER + 1024, 1024, 0),
        ),
        (0x0105, rectangle + struct.pack("<QII", 0, 1, 0)),
        (0x0103, rectangle + struct.pack("<II", 0, 1)),
        (0x0104, rectangle + struct.pack("<II", 1, 0)),
        (0x0107, struct.pack("<II", 1, 0)),
        (0x0102, struct.pack("<II", 1, 0)),
    ]
    request = BUFFER - 0x1000
    for index, (kind, body) in enumerate(commands):
        gpu.data(request, struct.pack("<IIQII", kind, index % 2, 7, 0, 0) + body)
        gpu.offer(0, 0, [(request, 24 + len(body), 0), (BUFFER + 0x2000, 1024, DEVICE_WRITES)], index=index)
        if kind == 0x0104:
            gpu.step(OWN)
    gpu.data(request, struct.pack("<IIQII", 0x0101, 0, 0, 0, 0) + struct.pack("<4I", 2, 1, 64, 64))
    gpu.offer(0, 0, [(request, 40, 0), (BUFFER + 0x2000, 24, DEVICE_WRITES)], index=len(commands))
    for index, kind in enumerate((0x0300, 0x0301)):
        gpu.data(request, struct.pack("<IIQII4I4I", kind, 0, 0, 0, 0, 0, 5, 5, 0, 2, 1, 1, 0))
        gpu.offer(0, 1, [(request, 56, 0)], index=index)
    gpu.step(OWN)
    yield "gpu", gpu.bytes()

    tablet = Virtio()
    tablet.start(1, 2)
    for select in (1, 2, 3, 0x10, 0x11, 0x12):
        for subsel in (0, 1, 3):
            tablet.write(1, 0x100, select, size=1)
            tablet.write(1, 0x101, subsel, size=1)
            tablet.read(1, 0x102, size=1)
            tablet.read(1, 0x108, size=8)
    for index in range(4):
        tablet.offer(1, 0, [(BUFFER + 8 * index, 8, DEVICE_WRITES)], index=index)
    tablet.step(OWN + 1, count=1, value=100)
    tablet.data(BUFFER, struct.pack("<HHI", 0x11, 0, 1))
    tablet.offer(1, 1, [(BUFFER, 8, 0)])
    tablet.step(TAMPER, offset=5, value=1)
    yield "tablet", tablet.bytes()

    bochs = Script()
    bochs.write(4, 0x04, 2, size=2)
    for depth in (16, 24, 32):
        for register, value in ((4, 0), (1, 320), (2, 200), (3, depth), (6, 400), (8, 8), (9, 4), (4, 0x41)):
            bochs.write(2, 0x500 + 2 * register, value, size=2)
            bochs.read(2, 0x500 + 2 * register, size=2)
        bochs.write(3, 0, 0x00FF_00FF)
        bochs.step(OWN, count=1)
    yield "bochs", bochs.bytes()


# --- images: a byte that says which, then the file ---


def images() -> Seeds:
    segment = bytes(range(64))
    for name, kind, address in (("executable", 2, RAM), ("position-independent", 3, 0)):
        header = struct.pack(
            "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", kind, 243, 1, address + 8, 64, 0, 5, 64, 56, 1, 64, 0, 0
        )
        program = struct.pack("<IIQQQQQQ", 1, 5, 120, address, address, 64, 0x1000, 0x1000)
        yield f"elf-{name}", b"\0" + header + program + segment
    linux = struct.pack("<IIQQQIIQ8sII", 0x13, 0x6F, 0x20_0000, 0x10_0000, 0, 2, 0, 0, b"RISCV\0\0\0", 0x0543_5352, 0)
    yield "linux", b"\0" + linux + segment
    yield "raw", b"\1" + segment

    def token(*words: int) -> bytes:
        return struct.pack(f">{len(words)}I", *words)

    strings = b"reg\0bootargs\0"
    structure = b"".join(
        (
            token(1, 0),
            token(3, 4, 0, 0x8000_0000),
            token(1) + b"chosen\0\0",
            token(3, 6, 4) + b"quiet\0\0\0",
            token(2),
            token(1) + b"cpus\0\0\0\0",
            token(4, 2, 2, 9),
        )
    )
    total = 40 + 16 + len(structure) + len(strings)
    header = token(0xD00D_FEED, total, 56, 56 + len(structure), 40, 17, 16, 0, len(strings), len(structure))
    yield "tree", b"\2" + header + bytes(16) + structure + strings


# --- hart: struct Start of hart.cpp, then memory ---


def hart() -> Seeds:
    def start(privilege: int, translation: int = 0, page: int = 0, status: int = 0, pc: int = 0) -> bytes:
        return struct.pack("<BBHIQ", privilege, translation, page, status, pc)

    program = struct.pack(
        "<12I",
        0x0000_0297,  # auipc t0, 0
        0x0002_B303,  # ld t1, 0(t0)
        0x0062_B423,  # sd t1, 8(t0)
        0x1005_252F,  # lr.w a0, (a0)
        0x18A5_252F,  # sc.w a0, a0, (a0)
        0x0253_4333,  # div t1, t1, t0
        0x02A5_7553,  # fadd.d fa0, fa0, fa0
        0x3000_25F3,  # csrr a1, mstatus
        0x0000_0073,  # ecall
        0x1050_0073,  # wfi
        0x1200_0073,  # sfence.vma
        0xFD5F_F06F,  # j back
    )
    for privilege in range(3):
        yield f"program-{privilege}", start(privilege) + program
    yield "compressed", start(0) + bytes.fromhex("0145 8505 aa86 2ce1 6ce1 01a0 9002 8280") * 4
    # Page tables of Sv39, Sv48 and Sv57 that map RAM to itself: a leaf of 1 GiB at the level where it fits.
    for translation, levels in ((1, 0), (2, 1), (3, 2)):
        content = bytearray(program.ljust(0x4000, b"\0"))
        for level in range(levels):
            page = 0x8_0000 + 1 + level + 1
            content[0x1000 * (1 + level) : 0x1000 * (1 + level) + 8] = struct.pack("<Q", page << 10 | 1)
        leaf = 0x1000 * (1 + levels) + 8 * 2
        content[leaf : leaf + 8] = struct.pack("<Q", 0x8_0000 << 10 | 0xCF)
        yield f"sv{39 + 9 * levels}", start(1, translation, page=1) + bytes(content)


def snapshot() -> Seeds:
    """Patches to the states that the target's own machines have saved, and a few states by themselves."""
    flip, assign, cut, swap, rename, resize = range(6)

    def patch(kind: int, record: int, offset: int = 0, value: int = 0, width: int = 7) -> bytes:
        return struct.pack("<BBHIQ", kind, width, record, offset, value)

    for machine in range(4):
        head = bytes([machine])
        yield f"as_saved{machine}", head
        # Every record once, in a few large steps: what a field must not be is for its device to say.
        for first in range(0, 2048, 256):
            for value in (1, 0xFF, 1 << 63 | 1):
                yield (
                    f"values{machine}_{first}_{value:x}",
                    head + patch(flip, first) + patch(assign, first + 17 * (value % 13), 0, value),
                )
        yield f"cut{machine}", head + patch(cut, 40) + patch(cut, 700)
        yield f"swap{machine}", head + patch(swap, 100, 101) + patch(swap, 300, 302)
        yield f"rename{machine}", head + patch(rename, 60, 1, 1)
        for record in range(0, 2048, 128):
            yield f"resize{machine}_{record}", head + patch(resize, record, 7, 4000) + patch(resize, record + 1, 0, 1)
    record = b"\x01\x07machine\x02\x00\x00\x00\x02\x06memory\x08" + (16 << 20).to_bytes(8, "little")
    yield "state", b"\x80" + record + b"\x00"
    yield "broken", b"\x80" + record + b"\x04\x01x\xff\xff\xff\xff"


def page_codec() -> Seeds:
    """Batches of pages, good and broken, into empty memory, into memory that holds something, and as arrivals."""

    def record(page: int, data: bytes) -> bytes:
        return struct.pack("<IH", page, len(data)) + data

    def batch(*records: bytes) -> bytes:
        content = b"".join(records)
        return struct.pack("<H", len(content)) + content

    def difference(*runs: tuple[int, int]) -> bytes:
        return b"".join(bytes([skip, count]) + bytes(range(1, 9)) * count for skip, count in runs)

    whole = record(3, bytes(range(1, 256)) * 16 + bytes(16))
    small = record(3, difference((0, 1), (9, 3), (255, 0), (100, 2)))
    last = record(47, difference((255, 0), (255, 0), (1, 1)))
    for choice in (0x00, 0x01, 0x42):
        head = bytes([choice])
        yield f"whole{choice}", head + batch(whole, small, record(0, b""))
        yield f"changes{choice}", head + batch(small, last) + batch(record(3, b""), small)
    for missing in (0, 8, (1 << 48) - 1):
        head = b"\xc0" + struct.pack("<Q", missing)
        yield f"arrive{missing:x}", head + batch(small, last) + batch(whole) + batch(record(0, b""))
    for name, broken in (
        ("page", record(48, b"")),
        ("far", record(0xFFFF_FFFF, b"")),
        ("long", struct.pack("<IH", 1, 4097) + bytes(4097)),
        ("short", struct.pack("<IH", 1, 100) + bytes(99)),
        ("head", b"\0" * 5),
        ("beyond", record(1, difference((255, 0), (255, 0), (2, 1)))),
        ("cut_run", record(1, difference((0, 2))[:-1])),
        ("half_run", record(1, b"\x05")),
    ):
        yield f"broken_{name}", b"\x40" + batch(small, broken) + batch(small)
    many = [record(page, difference((page, 1))) for page in range(48)]
    yield "many", b"\x05" + batch(*many) + batch(*reversed(many))


TARGETS: dict[str, Callable[[], Seeds]] = {
    "ahci": ahci,
    "display": display,
    "e1000e": e1000e,
    "hart": hart,
    "images": images,
    "iommu": iommu,
    "page_codec": page_codec,
    "pci_config": pci_config,
    "platform": platform,
    "snapshot": snapshot,
    "virtqueue_packed": virtqueue_packed,
    "virtqueue_split": virtqueue_split,
}


def write(folder: Path) -> None:
    """Writes the seeds of every target, each into a folder of its own."""
    for target, seeds in TARGETS.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, content in seeds():
            (folder / target / name).write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
