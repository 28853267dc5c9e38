"""Plays a case on an implementation, and keeps of what it answers what the specification determines."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from .cases import (
    ATS_REQUEST,
    CQB,
    CQCSR,
    CQH,
    CQT,
    DDTP,
    FQB,
    FQCSR,
    FQH,
    FQT,
    IPSR,
    PAGE,
    PQB,
    PQCSR,
    PQH,
    PQT,
    RAM,
    SCRATCH,
    TR_REQ_CTRL,
    TR_REQ_IOVA,
    TR_RESPONSE,
    Capabilities,
    Case,
    Command,
    Completion,
    Debug,
    Drain,
    PageRequest,
    Repair,
    Request,
    Store,
    Write,
    mask,
)

SUCCESS = 0
# Registers that are compared when a case ends: their offsets and sizes.
FINAL = [(DDTP, 8), (CQB, 8), (CQH, 4), (CQT, 4), (FQB, 8), (FQH, 4), (FQT, 4), (PQB, 8), (PQH, 4), (PQT, 4),
         (CQCSR, 4), (FQCSR, 4), (PQCSR, 4), (IPSR, 4)]  # fmt: skip


class Response(NamedTuple):
    """A completion as the reference model words it; `ppn` and `s` hold a range in the form of ATS (PCIe)."""

    status: int
    ppn: int = 0
    s: int = 0
    n: int = 0
    cxl_io: int = 0
    global_: int = 0
    priv: int = 0
    u: int = 0
    r: int = 0
    w: int = 0
    exe: int = 0
    ama: int = 0
    pbmt: int = 0
    is_msi: int = 0
    is_mrif: int = 0
    mrif_address: int = 0
    mrif_nid: int = 0


class Implementation(Protocol):
    """An IOMMU and its memory."""

    def reset(self, capabilities: Capabilities, counting: bool) -> None: ...
    def read(self, offset: int, size: int) -> int: ...
    def write(self, offset: int, size: int, value: int) -> None: ...
    def load(self, address: int, size: int) -> bytes: ...
    def store(self, address: int, data: bytes) -> None: ...  # nothing, outside memory
    def request(self, request: Request) -> Response: ...
    def page_request(self, request: PageRequest) -> None: ...
    def complete(self, completion: Completion) -> None: ...
    def messages(self) -> list[tuple[int | None, ...]]: ...
    def interrupts(self) -> list[tuple[int, int]]: ...


Value = int | str | None | tuple["Value", ...]


@dataclass
class Record:
    """What an implementation did with a case: an entry an operation, then the registers and the memory."""

    outcomes: list[Value] = field(default_factory=list)
    registers: tuple[int, ...] = ()
    # The words of the case that have changed, by what they hold now.
    memory: tuple[tuple[int, str], ...] = ()


def physical(response: Response, iova: int) -> int:
    """The physical address that a response translates `iova` to.

    The model keeps 56 bits of an address that passes a second stage that is Bare; Wirt keeps all of them.
    """
    size = PAGE if not response.s else ((response.ppn ^ response.ppn + 1) + 1) * PAGE
    return (response.ppn * PAGE & -size | iova & (size - 1)) & mask(56)


def digest(request: Request, response: Response) -> Value:
    """What of a response the specification determines."""
    if response.status != SUCCESS:
        return "refused", response.status
    if request.kind != ATS_REQUEST:
        if response.is_mrif:
            # The model loses the upper nine bits: its bit-field of 47 bits is shifted in 47 bits.
            return "MRIF", response.mrif_address & mask(47), response.mrif_nid, response.ppn
        # How far the translation reaches is nobody's business but the IOMMU's.
        return "address", physical(response, request.iova), response.pbmt
    flags = (response.r, response.w, response.exe, response.priv, response.global_, response.u, response.n,
             response.ama)  # fmt: skip
    if not response.r and not response.w:
        # Section 4.6: the address is undefined, and the other fields say nothing to the device.
        return "ATS", flags[:2]
    # CXL.io is UNSPECIFIED where the memory type is PMA and the address neither an MSI nor a GPA.
    cxl = response.cxl_io if response.pbmt or response.is_msi else None
    if response.u:
        return "ATS", flags, cxl
    return "ATS", flags, cxl, response.ppn & mask(44), response.s


def fault(record: tuple[int, ...]) -> Value:
    """A fault record, without what an implementation may leave out."""
    first, custom, iotval, iotval2 = record
    cause = first & 0xFFF
    if cause in (20, 21, 23):
        # Section 4.2: the page offset of a GPA may be reported as 0.
        iotval2 &= ~0xFFC
    return ("fault", cause, first >> 12 & 0xFFFFF, first >> 32 & 1, first >> 33 & 1, first >> 34 & 0x3F,
            first >> 40, custom >> 32, iotval, iotval2)  # fmt: skip


class Player:
    """Plays cases on one implementation, again and again."""

    def __init__(self, implementation: Implementation) -> None:
        self.on = implementation

    def play(self, case: Case) -> Record:
        on = self.on
        on.reset(case.capabilities, bool(case.counters))
        self.order = ">" if case.capabilities.big else "<"
        for address, data in case.words.items():
            on.store(address, data)
        for write in case.setup:
            on.write(write.offset, write.size, write.value)
        record = Record()
        self.faults = self.pages = 0
        self.watched = case.watched
        for operation in case.operations:
            record.outcomes.append(self._operate(operation))
        record.registers = tuple(on.read(*register) for register in (*FINAL, *case.counters))
        record.memory = self._changes(case)
        return record

    def _changes(self, case: Case) -> tuple[tuple[int, str], ...]:
        pool = self.on.load(RAM, max(case.words, default=RAM) + 8 - RAM)
        # Bit by bit, what software has stored into an entry.
        accessed: dict[int, int] = {}
        for operation in case.operations:
            if isinstance(operation, Store):
                low = operation.data[-1 if case.capabilities.big else 0]
                accessed[operation.address] = accessed.get(operation.address, 0xFF) & low
        changes = []
        for address, before in case.words.items():
            after = pool[address - RAM : address - RAM + len(before)]
            low = len(before) - 1 if case.capabilities.big else 0
            if address in case.second_stage and not (before[low] & accessed.get(address, 0x40) & 0x40):
                # An implicit access that sets A "may" set D as well (Privileged Architecture, Svadu).
                before, after = (word[:low] + bytes([word[low] & 0x7F]) + word[low + 1 :] for word in (before, after))
            if after != before:
                changes.append((address, after.hex()))
        scratch = self.on.load(RAM + SCRATCH * PAGE, PAGE)
        return *changes, (RAM + SCRATCH * PAGE, zlib.crc32(scratch).to_bytes(4).hex())

    def _operate(self, operation: object) -> Value:
        on = self.on
        outcome: Value = None
        match operation:
            case Request():
                outcome = digest(operation, on.request(operation))
            case PageRequest():
                on.page_request(operation)
            case Debug():
                on.write(TR_REQ_IOVA, 8, operation.iova)
                on.write(TR_REQ_CTRL, 8, operation.control)
                answer = on.read(TR_RESPONSE, 8)
                if answer & 1:
                    outcome = "debug fault"
                else:
                    # Field by field: fault 0, PBMT 8:7, S 9, PPN 53:10.
                    response = Response(0, ppn=answer >> 10 & (1 << 44) - 1, s=answer >> 9 & 1)
                    outcome = "debug", physical(response, operation.iova & -PAGE), answer >> 7 & 3, answer >> 54
            case Command():
                outcome = self._command(operation)
            case Store():
                on.store(operation.address, operation.data)
            case Write():
                on.write(operation.offset, operation.size, operation.value)
            case Completion():
                on.complete(operation)
            case Drain():
                on.write(operation.head, 4, on.read(operation.tail, 4))
            case Repair():
                slot = (on.read(CQB, 8) >> 10 << 12) + 16 * on.read(CQH, 4)
                on.store(slot, struct.pack(self.order + "2Q", *operation.words))
                on.write(CQCSR, 4, operation.control)
        if self.watched:
            if isinstance(operation, Write):
                # Off and on again, a queue begins anew.
                self.faults, self.pages = on.read(FQT, 4), on.read(PQT, 4)
            outcome = outcome, *(on.read(*register) for register in FINAL)
        return outcome, self._faults(), self._page_requests(), tuple(on.messages()), tuple(on.interrupts())

    def _command(self, command: Command) -> Value:
        on = self.on
        head, tail = on.read(CQH, 4), on.read(CQT, 4)
        queue = on.read(CQB, 8)
        size = 2 << (queue & 0x1F)
        for low, high in command.words:
            if (tail + 1) % size == head:
                break
            on.store((queue >> 10 << 12) + 16 * tail, struct.pack(self.order + "2Q", low, high))
            tail = (tail + 1) % size
        on.write(CQT, 4, tail)
        return on.read(CQH, 4), on.read(CQCSR, 4), on.read(IPSR, 4)

    def _faults(self) -> tuple[Value, ...]:
        self.faults, records = self._records(FQB, FQT, self.faults, 32)
        return tuple(fault(struct.unpack(self.order + "4Q", record)) for record in records)

    def _page_requests(self) -> tuple[Value, ...]:
        self.pages, records = self._records(PQB, PQT, self.pages, 16)
        return tuple(struct.unpack(self.order + "2Q", record) for record in records)

    def _records(self, base: int, tail: int, seen: int, size: int) -> tuple[int, list[bytes]]:
        """The records that were put into a queue since its tail stood at `seen`."""
        on = self.on
        now = on.read(tail, 4)
        if now == seen:
            return now, []
        queue = on.read(base, 8)
        entries = 2 << (queue & 0x1F)
        count = (now - seen) % entries
        return now, [on.load((queue >> 10 << 12) + size * ((seen + i) % entries), size) for i in range(count)]
