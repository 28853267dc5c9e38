"""What a case is: an IOMMU's capabilities, memory, registers, and what is asked of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

PAGE = 4096
RAM = 0x8000_0000
# Where interrupt messages are taken, and how far that reaches.
MESSAGES = 0x2400_0000, 0x1000_0000
# All that a case places in memory lies in this many pages from the start of RAM; it aims at BUDGET of them.
POOL_PAGES, BUDGET = 256, 150
COMMAND_QUEUE, FAULT_QUEUE, PAGE_QUEUE, SCRATCH, FIRST_FREE = 0, 1, 2, 3, 4

# Section 6: register offsets.
FCTL, DDTP, CQB, CQH, CQT, FQB, FQH, FQT = 8, 16, 24, 32, 36, 40, 48, 52
PQB, PQH, PQT, CQCSR, FQCSR, PQCSR, IPSR = 56, 64, 68, 72, 76, 80, 84
IOCNTOVF, IOHPMCTR, IOHPMEVT = 88, 104, 352
TR_REQ_IOVA, TR_REQ_CTRL, TR_RESPONSE, ICVEC, MSI_CFG_TBL = 600, 608, 616, 760, 768

# fctl (section 6.4).
BIG_ENDIAN, WIRED, GXL = 1, 2, 4

UNTRANSLATED, ATS_REQUEST, TRANSLATED = 0, 1, 2


def mask(bits: int) -> int:
    return (1 << bits) - 1


class Random:
    """Draws that are the same on every version of Python: from getrandbits alone."""

    def __init__(self, seed: int) -> None:
        self.bits = random.Random(seed).getrandbits

    def below(self, limit: int) -> int:
        return self.bits(32) % limit

    def chance(self, percent: int) -> bool:
        return self.bits(32) % 100 < percent

    def choice(self, values: list[T]) -> T:
        return values[self.bits(32) % len(values)]


# The optional bits of `capabilities` (section 6.3).
OPTIONS = {
    "sv32": 8, "sv39": 9, "sv48": 10, "sv57": 11, "svrsw60t59b": 14, "svpbmt": 15, "sv32x4": 16, "sv39x4": 17,
    "sv48x4": 18, "sv57x4": 19, "amo_mrif": 21, "msi_flat": 22, "msi_mrif": 23, "amo_hwad": 24, "ats": 25,
    "t2gpa": 26, "end": 27, "hpm": 30, "dbg": 31, "pd8": 38, "pd17": 39, "pd20": 40, "nl": 42, "s": 43,
}  # fmt: skip


@dataclass(frozen=True)
class Capabilities:
    """An IOMMU: its `capabilities`, whether fctl.GXL can be written, and the fctl that software sets."""

    raw: int
    gxl_writable: bool = False
    features: int = WIRED

    def __getattr__(self, name: str) -> bool:
        if name not in OPTIONS:
            raise AttributeError(name)
        return bool(self.raw >> OPTIONS[name] & 1)

    @property
    def address_bits(self) -> int:
        return self.raw >> 32 & 0x3F

    @property
    def igs(self) -> int:
        """How interrupts are signalled: 0 by message, 1 by wire, 2 as fctl says."""
        return self.raw >> 28 & 3

    @property
    def big(self) -> bool:
        return bool(self.features & BIG_ENDIAN)

    @property
    def gxl(self) -> bool:
        return bool(self.features & GXL)

    def first_stage(self, sxl: bool) -> list[int]:
        """The iosatp.MODE values other than Bare that are supported (section 3.1.3.4)."""
        if sxl:
            return [8] if self.sv32 else []
        return [8 + i for i in range(3) if self.raw >> 9 + i & 1]

    @property
    def second_stage(self) -> list[int]:
        """The iohgatp.MODE values other than Bare that are supported (section 3.1.3.2)."""
        if self.gxl:
            return [8] if self.sv32x4 else []
        return [8 + i for i in range(3) if self.raw >> 17 + i & 1]

    @property
    def process_directories(self) -> list[int]:
        """The pdtp.MODE values of PD8, PD17 and PD20 that are supported."""
        return [1 + i for i in range(3) if self.raw >> 38 + i & 1]

    @classmethod
    def draw(cls, rng: Random) -> Capabilities:
        """All options in half of the cases, each but for a few in the others."""
        raw = 0x10
        whole = rng.chance(50)
        for bit in OPTIONS.values():
            raw |= (whole or rng.chance(85)) << bit
        # Section 6.3: what one implies of another.
        for bit, needs in ("sv48", "sv39"), ("sv57", "sv48"), ("t2gpa", "ats"), ("msi_mrif", "msi_flat"):
            raw &= ~((not raw >> OPTIONS[needs] & 1) << OPTIONS[bit])
        igs = 1 if rng.chance(70) else rng.below(3)
        raw |= igs << 28 | (56 if whole else rng.choice([56, 50, 44, 40])) << 32
        # The model takes the range of a Bare stage from the widest scheme there is, and nothing where it finds
        # none for SXL or GXL: then both narrow schemes are left to it.
        for wide, narrow in (("sv48", "sv57"), ("sv39", "sv32")), (("sv48x4", "sv57x4"), ("sv39x4", "sv32x4")):
            if not any(raw >> OPTIONS[name] & 1 for name in wide):
                for name in narrow:
                    raw |= 1 << OPTIONS[name]
        gxl_writable = rng.chance(50)
        features = WIRED if igs == 1 or (igs == 2 and rng.chance(40)) else 0
        if raw >> OPTIONS["end"] & 1 and rng.chance(25):
            features |= BIG_ENDIAN
        if gxl_writable and rng.chance(35):
            features |= GXL
        return cls(raw, gxl_writable, features)


@dataclass(frozen=True)
class Request:
    """A transaction of a device's, as its IO bridge gives it to the IOMMU."""

    device_id: int
    process_id: int | None
    iova: int
    kind: int
    write: bool = False
    execute: bool = False
    privileged: bool = False
    no_write: bool = False
    cxl: bool = False


@dataclass(frozen=True)
class PageRequest:
    """A PCIe "Page Request" message (section 4.6.2)."""

    device_id: int
    process_id: int | None
    privileged: bool
    execute: bool
    payload: int


@dataclass(frozen=True)
class Debug:
    """A translation asked for through tr_req_iova and tr_req_ctrl (section 6.22)."""

    iova: int
    control: int


@dataclass(frozen=True)
class Command:
    """Commands put into the command queue, and its tail moved."""

    words: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Store:
    """Software changes a word of memory."""

    address: int
    data: bytes


@dataclass(frozen=True)
class Write:
    """Software writes a register."""

    offset: int
    size: int
    value: int


@dataclass(frozen=True)
class Completion:
    """A device answers ATS invalidation requests (section 4.1.4), or does not in time."""

    device_id: int
    tags: int
    # How many answers the device gives in all; 0 stands for 8.
    count: int = 1
    timed_out: bool = False


@dataclass(frozen=True)
class Drain:
    """Software reads a queue: its head register becomes what its tail register says."""

    tail: int
    head: int


@dataclass(frozen=True)
class Repair:
    """Software writes `words` over the command at the head of its queue, and this to cqcsr."""

    words: tuple[int, int]
    control: int


Operation = Drain | Repair | Request | PageRequest | Debug | Command | Store | Write | Completion


@dataclass
class Case:
    seed: int
    capabilities: Capabilities
    # What the case places in memory, as it lies there.
    words: dict[int, bytes] = field(default_factory=dict)
    setup: list[Write] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    # Whether the queues' registers are compared after each operation.
    watched: bool = False
    # Further registers that are compared when it ends, by offset and size.
    counters: tuple[tuple[int, int], ...] = ()
    # Where the entries of second-stage page tables lie.
    second_stage: frozenset[int] = frozenset()
    damage: list[str] = field(default_factory=list)
