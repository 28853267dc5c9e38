"""A small assembler whose encodings come from the hart's own instruction tables, and an ELF writer.

An error in a table therefore ends up in the programs, and the oracle that runs them shows it.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable

from wirt import _core, isa

RAM_BASE = 0x8000_0000
MASK64 = (1 << 64) - 1


@functools.cache
def table() -> dict[str, _core.InstructionInfo]:
    """The instruction tables by name."""
    return {row.name: row for row in isa.instructions()}


@functools.cache
def csr_numbers() -> dict[str, int]:
    """CSR numbers by name."""
    return isa.csrs()


def _bits(value: int, low: int, width: int) -> int:
    return value >> low & (1 << width) - 1


def _fits(value: int, width: int, name: str) -> None:
    if not -(1 << width - 1) <= value < 1 << width - 1:
        raise ValueError(f"{name}: {value:#x} does not fit {width} bits")


def imm_i(value: int) -> int:
    return _bits(value, 0, 12) << 20


def imm_s(value: int) -> int:
    return _bits(value, 0, 5) << 7 | _bits(value, 5, 7) << 25


def imm_b(value: int) -> int:
    return _bits(value, 11, 1) << 7 | _bits(value, 1, 4) << 8 | _bits(value, 5, 6) << 25 | _bits(value, 12, 1) << 31


def imm_j(value: int) -> int:
    return _bits(value, 12, 8) << 12 | _bits(value, 11, 1) << 20 | _bits(value, 1, 10) << 21 | _bits(value, 20, 1) << 31


def encode(
    name: str, rd: int = 0, rs1: int = 0, rs2: int = 0, *, rs3: int = 0, imm: int = 0, csr: int | str = 0, rm: int = 7
) -> int:
    """One 32-bit instruction of the tables; `imm` is also the shift amount, and the zimm of a CSR instruction."""
    row = table()[name]
    raw = row.match
    kind = row.format
    if kind in ("NONE", "C"):
        return raw
    raw |= (rd << 7 if row.mask >> 7 & 30 == 0 else 0) | (rs1 << 15 if row.mask >> 15 & 31 == 0 else 0)
    if kind == "RNUM":
        raw |= imm << 20
    elif kind in ("I", "FL"):
        _fits(imm, 12, name)
        raw |= imm_i(imm)
    elif kind in ("SHAMT6", "SHAMT5"):
        raw |= imm << 20
    elif kind in ("S", "FST"):
        _fits(imm, 12, name)
        raw = raw & ~(31 << 7) | imm_s(imm) | rs2 << 20
    elif kind == "B":
        _fits(imm, 13, name)
        raw = raw & ~(31 << 7) | imm_b(imm) | rs2 << 20
    elif kind == "U":
        raw = row.match | rd << 7 | _bits(imm, 0, 20) << 12
    elif kind == "J":
        _fits(imm, 21, name)
        raw = row.match | rd << 7 | imm_j(imm)
    elif kind in ("CSR", "CSRI"):
        raw |= (csr_numbers()[csr] if isinstance(csr, str) else csr) << 20
        if kind == "CSRI":
            raw = raw & ~(31 << 15) | imm << 15
    elif kind == "FENCE":
        raw |= imm << 20
    elif kind in ("R", "VSETVL", "MOPRR", "SFENCE", "AMO", "FFF", "XFF", "FFF_RM"):
        raw |= rs2 << 20
    elif kind == "FFFF_RM":
        raw |= rs2 << 20 | rs3 << 27
    if kind.endswith("_RM"):
        raw |= rm << 12
    return raw


class Assembler:
    """Code and data from `base` on, with labels that are filled in at the end."""

    def __init__(self, base: int = RAM_BASE) -> None:
        self.base = base
        self.content = bytearray()
        self.labels: dict[str, int] = {}
        self._fixups: list[Callable[[], None]] = []

    @property
    def here(self) -> int:
        """Address of what comes next."""
        return self.base + len(self.content)

    def label(self, name: str) -> int:
        if name in self.labels:
            raise ValueError(f"label {name} is there already")
        self.labels[name] = self.here
        return self.here

    def half(self, raw: int) -> None:
        self.content += struct.pack("<H", raw)

    def word(self, raw: int) -> None:
        self.content += struct.pack("<I", raw)

    def raw(self, raw: int) -> None:
        """An instruction of either width."""
        if raw & 3 == 3:
            self.word(raw)
        else:
            self.half(raw)

    def data(self, *values: int) -> None:
        for value in values:
            self.content += struct.pack("<Q", value & MASK64)

    def align(self, to: int) -> None:
        self.content += bytes(-len(self.content) % to)

    def org(self, address: int) -> None:
        """Zeroes up to `address`."""
        if address < self.here:
            raise ValueError(f"{self.here:#x} is beyond {address:#x}")
        self.content += bytes(address - self.here)

    def op(self, name: str, *args: int, **fields: int | str) -> None:
        self.word(encode(name, *args, **fields))  # type: ignore[arg-type]

    def csrw(self, csr: str | int, rs1: int) -> None:
        self.op("csrrw", 0, rs1, csr=csr)

    def csrr(self, rd: int, csr: str | int) -> None:
        self.op("csrrs", rd, 0, csr=csr)

    def li(self, rd: int, value: int) -> None:
        """Any 64-bit constant."""
        value &= MASK64
        signed = value - (1 << 64) if value >> 63 else value
        if -2048 <= signed < 2048:
            self.op("addi", rd, 0, imm=signed)
        elif -(1 << 31) <= signed < (1 << 31):
            low = (signed & 0xFFF ^ 0x800) - 0x800
            self.op("lui", rd, imm=(signed - low) >> 12)
            if low:
                self.op("addiw", rd, rd, imm=low)
        else:
            low = (signed & 0xFFF ^ 0x800) - 0x800
            high = (signed - low) >> 12
            shift = 12
            while high & 1 == 0 and shift < 63:
                high >>= 1
                shift += 1
            self.li(rd, high)
            self.op("slli", rd, rd, imm=shift)
            if low:
                self.op("addi", rd, rd, imm=low)

    def la(self, rd: int, label: str) -> None:
        """The address of a label, perhaps one that comes later."""
        at = len(self.content)
        self.word(0)
        self.word(0)

        def fill() -> None:
            distance = self.labels[label] - (self.base + at)
            low = (distance & 0xFFF ^ 0x800) - 0x800
            struct.pack_into(
                "<II",
                self.content,
                at,
                encode("auipc", rd, imm=(distance - low) >> 12),
                encode("addi", rd, rd, imm=low),
            )

        self._fixups.append(fill)

    def jump(self, label: str, name: str = "jal", rd: int = 0, rs1: int = 0, rs2: int = 0) -> None:
        """`jal` or a branch to a label."""
        at = len(self.content)
        self.word(0)

        def fill() -> None:
            distance = self.labels[label] - (self.base + at)
            raw = encode("jal", rd, imm=distance) if name == "jal" else encode(name, 0, rs1, rs2, imm=distance)
            struct.pack_into("<I", self.content, at, raw)

        self._fixups.append(fill)

    def far_jump(self, label: str, scratch: int) -> None:
        self.la(scratch, label)
        self.op("jalr", 0, scratch)

    def assemble(self) -> bytes:
        for fill in self._fixups:
            fill()
        self._fixups.clear()
        return bytes(self.content)

    def elf(self, symbols: tuple[str, ...] = ("tohost", "fromhost", "begin_signature", "end_signature")) -> bytes:
        """An ELF64 executable that starts at `base`, with the symbols that simulators look for."""
        return write_elf(
            self.base, self.assemble(), {name: self.labels[name] for name in symbols if name in self.labels}
        )


def write_elf(base: int, content: bytes, symbols: dict[str, int], architecture: str = "") -> bytes:
    """An ELF64 executable of one segment at `base`, entered there; `architecture` is an ISA string for tools."""
    names, symbol_table = b"\0", bytearray(24)
    for name, value in symbols.items():
        symbol_table += struct.pack("<IBBHQQ", len(names), 0x10, 0, 1, value, 8)
        names += name.encode() + b"\0"
    # Tag_RISCV_arch in the sub-section for the whole file.
    tag = b"\x05" + architecture.encode() + b"\0"
    vendor = b"riscv\0\x01" + struct.pack("<I", len(tag) + 5) + tag
    attributes = b"A" + struct.pack("<I", len(vendor) + 4) + vendor
    section_names = b"\0.text\0.symtab\0.strtab\0.riscv.attributes\0.shstrtab\0"

    # type, flags, address, content, link, info, entry size
    sections = [
        (".text", 1, 7, base, content, 0, 0, 0),
        (".symtab", 2, 0, 0, bytes(symbol_table), 3, 1, 24),
        (".strtab", 3, 0, 0, names, 0, 0, 0),
        (".riscv.attributes", 0x7000_0003, 0, 0, attributes if architecture else b"", 0, 0, 0),
        (".shstrtab", 3, 0, 0, section_names, 0, 0, 0),
    ]
    image = bytearray(0x1000)
    headers = bytes(64)
    for name, kind, flags, address, part, link, info, entry in sections:
        image += bytes(-len(image) % 8)
        index = section_names.index(name.encode() + b"\0")
        headers += struct.pack("<IIQQQQIIQQ", index, kind, flags, address, len(image), len(part), link, info, 8, entry)
        image += part
    image += bytes(-len(image) % 8)
    identification = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = identification + struct.pack(
        "<HHIQQQIHHHHHH", 2, 243, 1, base, 64, len(image), 5, 64, 56, 1, 64, len(sections) + 1, len(sections)
    )
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0x1000, base, base, len(content), len(content), 0x1000)
    image[: len(header) + len(segment)] = header + segment
    return bytes(image + headers)
