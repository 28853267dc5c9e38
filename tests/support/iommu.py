"""An IOMMU on a bench, and the software that sets it up: directories, page tables, queues, commands.

Names are those of the RISC-V IOMMU specification.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import wirt._core as _core

RAM, RAM_BYTES = 0x8000_0000, 0x100_0000
PAGE = 4096

CAPABILITIES, FCTL, DDTP = 0, 8, 16
CQB, CQH, CQT, FQB, FQH, FQT, PQB, PQH, PQT = 24, 32, 36, 40, 48, 52, 56, 64, 68
CQCSR, FQCSR, PQCSR, IPSR = 72, 76, 80, 84
IOCOUNTOVF, IOCOUNTINH, IOHPMCYCLES, IOHPMCTR, IOHPMEVT = 88, 92, 96, 104, 352
TR_REQ_IOVA, TR_REQ_CTL, TR_RESPONSE, ICVEC, MSI_CFG_TBL = 600, 608, 616, 760, 768

OFF, BARE, ONE_LEVEL, TWO_LEVEL, THREE_LEVEL = range(5)
EN, IE, MF, OF, ON = 1 << 0, 1 << 1, 1 << 8, 1 << 9, 1 << 16
CMD_TO, CMD_ILL, FENCE_W_IP = 1 << 9, 1 << 10, 1 << 11
CIP, FIP, PMIP, PIP = 1, 2, 4, 8

# Bits of a page-table entry.
V, R, W, X, U, G, A, D = (1 << n for n in range(8))
RWX = V | R | W | X | U | A | D
N = 1 << 63

# DC.tc
TC_V, EN_ATS, EN_PRI, T2GPA, DTF, PDTV, PRPR, GADE, SADE, DPE, SBE, SXL = (1 << n for n in range(12))
# PC.ta
PC_V, ENS, SUM = 1, 2, 4


def mode(number: int, root: int = 0, middle: int = 0) -> int:
    """iosatp, iohgatp, pdtp, msiptp: MODE, PPN and what is between them (GSCID)."""
    return number << 60 | middle << 44 | root >> 12


@dataclass
class Fault:
    cause: int
    ttyp: int
    did: int
    pv: int
    pid: int
    priv: int
    iotval: int
    iotval2: int


@dataclass
class Bench:
    """An IOMMU with 16 MiB of memory. `allocate` hands out zeroed memory from the start of RAM."""

    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.core = _core.IommuBench(RAM_BYTES, **self.options)
        self.request = self.core.request
        self._free = RAM
        self.extended = bool(self.options.get("msi_flat", True))
        self.big_endian = False

    # --- memory ---

    def allocate(self, length: int = PAGE, align: int | None = None) -> int:
        align = align or min(length, PAGE)
        self._free = (self._free + align - 1) // align * align
        at = self._free
        self._free += length
        assert self._free <= RAM + RAM_BYTES
        return at

    def _order(self, big_endian: bool | None) -> Any:
        return "big" if (self.big_endian if big_endian is None else big_endian) else "little"

    def store(self, address: int, *words: int, size: int = 8, big_endian: bool | None = None) -> None:
        order = self._order(big_endian)
        self.core.memory_write(address, b"".join(word.to_bytes(size, order) for word in words))

    def load(self, address: int, size: int = 8, *, big_endian: bool | None = None) -> int:
        return int.from_bytes(self.core.memory_read(address, size), self._order(big_endian))

    # --- registers ---

    def read(self, offset: int, size: int = 4) -> int:
        return self.core.read(offset, size)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        self.core.write(offset, size, value)

    def field(self, name: str, bit: int) -> bool:
        return bool(self.read(CAPABILITIES, 8) >> bit & 1)

    # --- directories ---

    def directory(self, levels: int = 1) -> None:
        self.levels = levels
        self.root = self.allocate()
        self.write(DDTP, self.root >> 2 | (ONE_LEVEL + levels - 1), 8)

    def device_slot(self, device_id: int, levels: int | None = None) -> int:
        """The address of the device context, with the levels in front of it built."""
        leaf = 6 if self.extended else 7
        levels = levels or self.levels
        table = self.root
        for level in range(levels - 1, 0, -1):
            at = table + 8 * ((device_id >> (leaf + 9 * (level - 1))) & 0x1FF)
            entry = self.load(at)
            if not entry & 1:
                entry = self.allocate() >> 2 | 1
                self.store(at, entry)
            table = entry >> 10 << 12
        return table + (64 if self.extended else 32) * (device_id & ((1 << leaf) - 1))

    def device(
        self,
        device_id: int,
        *,
        tc: int = 0,
        fsc: int = 0,
        iohgatp: int = 0,
        pscid: int = 0,
        msi: tuple[int, int, int] = (0, 0, 0),
    ) -> int:
        at = self.device_slot(device_id)
        words = [tc | TC_V, iohgatp, pscid << 12, fsc]
        if self.extended:
            words += [*msi, 0]
        self.store(at, *words)
        return at

    def process(self, root: int, levels: int, process_id: int, *, fsc: int, ta: int = PC_V, pscid: int = 0) -> int:
        table = root
        for level in range(levels - 1, 0, -1):
            at = table + 8 * ((process_id >> (8 + 9 * (level - 1))) & 0x1FF)
            entry = self.load(at)
            if not entry & 1:
                entry = self.allocate() >> 2 | 1
                self.store(at, entry)
            table = entry >> 10 << 12
        at = table + 16 * (process_id & 0xFF)
        self.store(at, ta | pscid << 12, fsc)
        return at

    # --- page tables ---

    def table(self, *, second: bool = False) -> int:
        return self.allocate(4 * PAGE if second else PAGE, 4 * PAGE if second else PAGE)

    def map(
        self,
        root: int,
        address: int,
        to: int,
        *,
        levels: int = 3,
        level: int = 0,
        flags: int = RWX,
        second: bool = False,
        narrow: bool = False,
    ) -> int:
        """Maps one (super)page and returns the address of its entry."""
        bits, size = (10, 4) if narrow else (9, 8)
        table = root
        for n in range(levels - 1, level - 1, -1):
            width = bits + (2 if second and n == levels - 1 else 0)
            at = table + size * ((address >> (12 + bits * n)) & ((1 << width) - 1))
            if n == level:
                break
            entry = self.load(at, size)
            if not entry & V:
                entry = self.allocate() >> 2 | V
                self.store(at, entry, size=size)
            table = entry >> 10 << 12 & ((1 << 56) - 1)
        self.store(at, to >> 12 << 10 | flags, size=size)
        return at

    # --- queues ---

    def command_queue(self, log2: int = 4) -> None:
        self.commands_at = self.allocate(max(PAGE, 16 << log2))
        self.write(CQB, self.commands_at >> 2 | (log2 - 1), 8)
        self.write(CQCSR, EN)

    def fault_queue(self, log2: int = 4) -> None:
        self.faults_at = self.allocate(max(PAGE, 32 << log2))
        self.write(FQB, self.faults_at >> 2 | (log2 - 1), 8)
        self.write(FQCSR, EN)

    def page_queue(self, log2: int = 4) -> None:
        self.pages_at = self.allocate(max(PAGE, 16 << log2))
        self.write(PQB, self.pages_at >> 2 | (log2 - 1), 8)
        self.write(PQCSR, EN)

    def command(self, low: int, high: int = 0) -> bool:
        """Queues one command and rings; true when it was carried out."""
        mask = (2 << (self.read(CQB, 8) & 0x1F)) - 1
        tail = self.read(CQT)
        self.store(self.commands_at + 16 * tail, low, high)
        self.write(CQT, (tail + 1) & mask)
        return self.read(CQH) == (tail + 1) & mask

    def faults(self) -> list[Fault]:
        """Takes what is in the fault queue."""
        mask = (2 << (self.read(FQB, 8) & 0x1F)) - 1
        head, out = self.read(FQH), []
        while head != self.read(FQT):
            words = [self.load(self.faults_at + 32 * head + 8 * n) for n in range(4)]
            assert words[1] == 0
            out.append(
                Fault(
                    words[0] & 0xFFF,
                    words[0] >> 34 & 0x3F,
                    words[0] >> 40,
                    words[0] >> 32 & 1,
                    words[0] >> 12 & 0xFFFFF,
                    words[0] >> 33 & 1,
                    words[2],
                    words[3],
                )
            )
            head = (head + 1) & mask
        self.write(FQH, head)
        return out

    def causes(self) -> list[int]:
        return [fault.cause for fault in self.faults()]


# --- commands (4.1) ---


def iotinval_vma(*, pscid: int | None = None, gscid: int | None = None, address: int | None = None) -> tuple[int, int]:
    return _iotinval(0, pscid, gscid, address)


def iotinval_gvma(*, gscid: int | None = None, address: int | None = None) -> tuple[int, int]:
    return _iotinval(1, None, gscid, address)


def _iotinval(func3: int, pscid: int | None, gscid: int | None, address: int | None) -> tuple[int, int]:
    low = 1 | func3 << 7
    if pscid is not None:
        low |= 1 << 32 | pscid << 12
    if gscid is not None:
        low |= 1 << 33 | gscid << 44
    if address is not None:
        low |= 1 << 10
    return low, (address or 0) >> 12 << 10


def iofence(*, address: int | None = None, data: int = 0, wsi: bool = False, flags: int = 0) -> tuple[int, int]:
    low = 2 | wsi << 11 | data << 32 | flags
    return (low | 1 << 10, address >> 2) if address is not None else (low, 0)


def iodir_ddt(device_id: int | None = None) -> tuple[int, int]:
    return (3, 0) if device_id is None else (3 | 1 << 33 | device_id << 40, 0)


def iodir_pdt(device_id: int, process_id: int) -> tuple[int, int]:
    return 3 | 1 << 7 | 1 << 33 | device_id << 40 | process_id << 12, 0


def ats_inval(rid: int, payload: int = 0) -> tuple[int, int]:
    return 4 | rid << 40, payload


def ats_prgr(rid: int, payload: int = 0, pid: int | None = None) -> tuple[int, int]:
    low = 4 | 1 << 7 | rid << 40
    return (low if pid is None else low | 1 << 32 | pid << 12), payload
