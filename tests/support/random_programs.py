"""Random programs from the instruction tables, for comparison with an outside simulator.

A program runs in M-, S- or U-mode, without translation or under Sv39, Sv48 or Sv57. It is a body of straight-line
code with forward branches that runs a few times over; after each chunk of the body all registers are stored to
memory. Every trap enters an M-mode handler that logs it and skips the instruction. Two registers hold the bases of
the memory that loads and stores reach and are not written otherwise; which ones differs from program to program.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass

from wirt import _core, isa

from . import spike
from .assembler import RAM_BASE, Assembler, csr_numbers, encode

DATA = RAM_BASE + 0x40_0000
SAVE = DATA + 0x1000  # the trap handler's, and the program's own variables
LOG_POINTER = SAVE + 0x400
ITERATION = SAVE + 0x800  # counter, then the offset of this iteration's dumps
ARENA = DATA + 0x2000
ARENA_SIZE = 0x6000
DUMPS = DATA + 0x8000
DUMP_SIZE = 0x240
TABLES = RAM_BASE + 0x70_0000
FAREWELL = 0x5_EED0_FE2D  # in a7, the ecall that ends the program
MODES = ("M", "S", "U")
SATP_MODES = {"bare": 0, "sv39": 8, "sv48": 9, "sv57": 10}

# How often an instruction of an extension is drawn.
WEIGHTS = {"i": 20, "m": 10, "a": 8, "f": 15, "d": 15, "zba": 6, "zbb": 9, "zbs": 6, "c": 20, "zicsr": 3,
           "zicbom": 1, "zicboz": 1, "zifencei": 0.3, "privileged": 1, "zbb_zbkb": 6,
           "zfhmin": 6, "zfhmin_d": 4, "zfh": 20, "zfa": 8, "zfa_d": 8, "zfa_zfh": 8, "zacas": 6, "zabha": 6,
           "zabha_zacas": 4, "zcb": 8, "zbkb": 3, "zbkx": 2, "zknh": 3, "zknd": 3, "zkne": 2, "zimop": 2}  # fmt: skip


@dataclass(frozen=True)
class Program:
    """An executable, what it is, and where it ends."""

    name: str
    elf: bytes
    end: int  # pc at which it spins when it is done
    signature: tuple[int, int]  # addresses
    aia: bool = False  # for harts with Smaia and Ssaia
    hypervisor: bool = False  # for harts with H
    isa: str | None = None  # of Wirt's hart; None: as it is by default
    oracle_isa: str | None = None  # the same for Spike
    triggers: int = 0  # and how many it has


# What a program is for that is run on a hart with all scalar extensions.
SCALAR_HART = {"isa": spike.WIRT_SCALAR, "oracle_isa": spike.ISA_SCALAR, "triggers": spike.TRIGGERS}


def default_extensions() -> set[str]:
    """Those of a hart that is not asked for others."""
    letters, *names = isa.DEFAULT.removeprefix("rv64").split("_")
    return {*letters, *names, "zbb_zbkb", "privileged"}


# --- interesting values ---

DOUBLES = [
    0, 0x8000_0000_0000_0000, 0x3FF0_0000_0000_0000, 0xBFF0_0000_0000_0000, 0x7FF0_0000_0000_0000,
    0xFFF0_0000_0000_0000, 0x7FF8_0000_0000_0000, 0x7FF0_0000_0000_0001, 0xFFF8_0000_0000_0005, 1,
    0x000F_FFFF_FFFF_FFFF, 0x0010_0000_0000_0000, 0x7FEF_FFFF_FFFF_FFFF, 0x3FE0_0000_0000_0000,
    0x3FF8_0000_0000_0000, 0x4330_0000_0000_0001, 0x43E0_0000_0000_0000, 0x43F0_0000_0000_0000,
    0xC3E0_0000_0000_0000, 0x41DF_FFFF_FFC0_0000, 0x41E0_0000_0000_0000, 0x41EF_FFFF_FFE0_0000,
    0x36A0_0000_0000_0000, 0x3690_0000_0000_0001, 0x380F_FFFF_E000_0000, 0x47EF_FFFF_E000_0000,
    0x47EF_FFFF_F000_0000, 0x3810_0000_0000_0000,
]  # fmt: skip
SINGLES = [
    0, 1 << 31, 0x3F80_0000, 0xBF80_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0x7F80_0001, 0xFFC0_0007, 1,
    0x7F_FFFF, 0x80_0000, 0x7F7F_FFFF, 0x3F00_0000, 0x3FC0_0000, 0x4B00_0001, 0x5F00_0000, 0x5F80_0000,
    0xDF00_0000, 0x4F00_0000, 0x4EFF_FFFF, 0x4F80_0000, 0x3380_0000,
]  # fmt: skip


HALVES = [
    0, 1 << 15, 0x3C00, 0xBC00, 0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFE07, 1, 0x3FF, 0x400, 0x7BFF, 0x3800, 0x3E00,
    0x6401, 0x7800, 0xF800, 0x77FF, 0x2400,
]  # fmt: skip


def half(rng: random.Random) -> int:
    """A half in 64 bits: boxed, or badly."""
    if rng.random() < 0.5:
        value = rng.choice(HALVES) + (rng.randrange(-2, 3) if rng.random() < 0.3 else 0) & 0xFFFF
    else:
        value = rng.getrandbits(16)
    box = (1 << 48) - 1 if rng.random() < 0.9 else rng.getrandbits(48) | 0xFFFF_0000_0000
    return box << 16 | value


def interesting(rng: random.Random, halves: bool = False) -> int:
    """A 64-bit value: an integer near a boundary, a double, a boxed single, a badly boxed one, or noise."""
    if halves and rng.random() < 0.25:
        return half(rng)
    kind = rng.randrange(12)
    if kind < 2:
        return rng.getrandbits(64)
    if kind < 4:
        near = rng.choice((0, 1 << 31, 1 << 32, 1 << 63, 1 << rng.randrange(64)))
        return near + rng.randrange(-3, 4) & (1 << 64) - 1
    if kind == 4:
        return rng.randrange(-300, 300) & (1 << 64) - 1
    if kind < 7:
        return rng.choice(DOUBLES) + (rng.randrange(-2, 3) if rng.random() < 0.3 else 0) & (1 << 64) - 1
    if kind == 7:  # a double whose exponent is close to that of the others, so that sums round
        return rng.getrandbits(1) << 63 | rng.randrange(1023 - 30, 1023 + 70) << 52 | rng.getrandbits(52)
    if kind < 10:
        single = rng.choice(SINGLES) + (rng.randrange(-2, 3) if rng.random() < 0.3 else 0) & (1 << 32) - 1
        return 0xFFFF_FFFF << 32 | single
    if kind == 10:
        single = rng.getrandbits(1) << 31 | rng.randrange(127 - 20, 127 + 40) << 23 | rng.getrandbits(23)
        return 0xFFFF_FFFF << 32 | single
    return rng.getrandbits(32) << 32 | rng.choice(SINGLES)


ZCB_UNARY = ("c.zext.b", "c.sext.b", "c.zext.h", "c.sext.h", "c.zext.w", "c.not", "c.mul")
# What a hart with spike.SCALAR has beside them.
SCALAR = {"zicond", "zimop", "zabha", "zacas", "zabha_zacas", "zfa", "zfa_d", "zfa_zfh", "zfh", "zfhmin", "zfhmin_d",
          "zcb", "zcmop", "zbc", "zbc_zbkc", "zbkb", "zbkx", "zknd", "zkne", "zknd_zkne", "zknh"}  # fmt: skip


class Generator:
    """Writes one program."""

    # What a dump, and an entry of the log, take.
    dump_size, log_entry = DUMP_SIZE, 32
    # Of mstatus, beside what every program has.
    status = 0
    isa: str | None = None
    oracle_isa: str | None = None
    hole = 0  # the address of a page that no translation maps

    def __init__(
        self,
        seed: int,
        *,
        scalar: bool = False,
        favoured: Collection[str] = (),
        chunks: int = 40,
        items: int = 100,
        iterations: int = 3,
    ) -> None:
        self.seed, self.scalar, self.favoured = seed, scalar, favoured
        if scalar:
            self.isa, self.oracle_isa = spike.WIRT_SCALAR, spike.ISA_SCALAR
        self.rng = random.Random(seed)
        rng = self.rng
        self.mode = rng.choice(MODES)
        self.satp = rng.choice(tuple(SATP_MODES)) if self.mode != "M" else "bare"
        self.traps_virtual_memory = rng.random() < 0.5  # TVM, TW and TSR
        self.chunks, self.items, self.iterations = chunks, items, iterations
        self.asm = Assembler()
        compressed_base = rng.randrange(8, 16)
        other = 2 if rng.random() < 0.5 else rng.choice([r for r in range(1, 32) if r != compressed_base])
        self.bases = (compressed_base, other)
        self.free = [r for r in range(32) if r not in self.bases]
        extensions = default_extensions() | (SCALAR if scalar else set())
        self.rows = [row for row in isa.instructions() if row.extension in extensions and self._allowed(row)]
        self.weights = self._row_weights()
        self._labels = 0

    # --- which instructions ---

    def _allowed(self, row: _core.InstructionInfo) -> bool:
        name = row.name
        if name in ("mret", "sret", "wfi"):
            # Those that trap; what they do where they are legal is another test's matter.
            return (
                self.mode == "U"
                or (name == "mret" and self.mode == "S")
                or (self.mode == "S" and self.traps_virtual_memory)
            )
        # Jumps, branches and reservations are items of their own.
        return not (
            row.format in ("B", "J", "LR")
            or name in ("jalr", "sc.w", "sc.d", "c.j", "c.beqz", "c.bnez", "c.jr", "c.jalr")
        )

    def _row_weights(self) -> list[float]:
        size: dict[str, int] = {}
        for row in self.rows:
            size[row.extension] = size.get(row.extension, 0) + 1
        weights = [WEIGHTS.get(row.extension, 1) / size[row.extension] for row in self.rows]
        # What is favoured is some three quarters of what is drawn.
        total = sum(weights)
        own = sum(weight for row, weight in zip(self.rows, weights, strict=True) if row.extension in self.favoured)
        factor = 3 * (total - own) / own if own else 1
        return [
            weight * factor if row.extension in self.favoured else weight
            for row, weight in zip(self.rows, weights, strict=True)
        ]

    # --- operands ---

    def destination(self) -> int:
        return self.rng.choice(self.free)

    def source(self) -> int:
        return self.rng.randrange(32)

    def offset(self, size: int) -> int:
        """From a base: often near the page boundary in the middle, often aligned."""
        rng = self.rng
        value = rng.randrange(-16, 16) if rng.random() < 0.3 else rng.randrange(-2048, 2048)
        return value & -size if rng.random() < 0.7 else value

    def rounding(self) -> int:
        rng = self.rng
        return 7 if rng.random() < 0.4 else rng.randrange(5) if rng.random() < 0.95 else rng.choice((5, 6))

    # --- items: each returns encodings ---

    def plain(self) -> list[int]:
        """One instruction of the tables with random operands, and what it needs in front of it."""
        row = self.rng.choices(self.rows, self.weights)[0]
        return self.compressed(row) if row.compressed else self.full(row)

    def full(self, row: _core.InstructionInfo) -> list[int]:
        rng = self.rng
        base = rng.choice(self.bases)
        size = {0: 1, 1: 2, 2: 4, 3: 8}[row.match >> 12 & 3]
        # Bits that the table leaves open are drawn, whatever the format says of them.
        raw = row.match | rng.getrandbits(32) & ~row.mask
        kind = row.format
        if row.mask >> 7 & 31 == 0 and kind not in (
            "S",
            "FST",
            "FL",
            "FFF",
            "FFF_RM",
            "FF_RM",
            "FFFF_RM",
            "FX",
            "FX_RM",
            "FLI",
        ):
            raw = raw & ~(31 << 7) | self.destination() << 7
        if kind.endswith("_RM"):
            raw = raw & ~(7 << 12) | self.rounding() << 12
        if (kind == "I" and raw & 0x7F == 0x03) or kind in ("S", "FST", "FL"):
            raw = raw & ~(31 << 15) | base << 15
            if kind in ("S", "FST"):
                value = self.offset(size)
                return [raw & ~(0xFE00_0F80) | (value & 31) << 7 | (value >> 5 & 127) << 25]
            return [raw & 0xFFFFF | (self.offset(size) & 0xFFF) << 20]
        if row.name.startswith("amocas."):
            return self.compare_and_swap(row, raw)
        if kind == "AMO":
            pointer = self.destination() or base
            # Aligned: which exception a misaligned one raises is the implementation's choice.
            return [
                encode("addi", pointer, base, imm=rng.randrange(-2048, 2048) & -8),
                raw & ~(31 << 15) | pointer << 15,
            ]
        if kind == "CBO":
            return [raw & ~(31 << 15) | base << 15]
        if kind in ("CSR", "CSRI"):
            return self.csr(raw)
        return [raw]

    def compare_and_swap(self, row: _core.InstructionInfo, raw: int) -> list[int]:
        """Mostly with what is there, or what it would be if it were narrower."""
        rng = self.rng
        pair = row.name == "amocas.q"
        base = rng.choice(self.bases)
        pointer = rng.choice([r for r in self.free if r])
        found = [r for r in self.free if r != pointer and (not pair or (r % 2 == 0 and r + 1 in self.free))]
        rd = rng.choice([r for r in found if r + 1 != pointer] if pair else found)
        raw = raw & ~(31 << 15 | 31 << 7) | pointer << 15 | rd << 7
        # Aligned: which exception a misaligned one raises is the implementation's choice.
        code = [
            encode("addi", pointer, base, imm=rng.randrange(-2048, 2048)),
            encode("andi", pointer, pointer, imm=-16 if pair else -8),
        ]
        if rng.random() < 0.7:
            code += [encode("ld", rd, pointer)] + ([encode("ld", rd + 1, pointer, imm=8)] if pair and rd else [])
        return [*code, raw]

    def tagged(self) -> list[int]:
        """Accesses by pointers with something in the bits that may be ignored."""
        rng = self.rng
        base, bit = rng.choice(self.bases), rng.randrange(48, 64)
        # CBO.ZERO may report the start of the block or rs1, and most of these fault.
        zero = encode("cbo.zero")
        body = [raw for _ in range(6) for raw in self.plain() if raw & ~(31 << 15) != zero]
        return [encode("binvi", base, base, imm=bit), *body, encode("binvi", base, base, imm=bit)]

    def csr(self, raw: int) -> list[int]:
        rng = self.rng
        numbers = csr_numbers()
        choice = rng.random()
        if choice < 0.6:
            number = numbers[rng.choice(("fflags", "fcsr", "frm", "fflags"))]
            if number != 1 and rng.random() < 0.7:
                # A rounding mode that exists, so that most instructions with a dynamic one do not trap.
                return [encode("csrrwi", self.destination(), imm=rng.randrange(5), csr="frm")]
        elif choice < 0.75:
            # Read-only: any form that would write is illegal.
            number = numbers[rng.choice(("instret", "mhartid", "hpmcounter3", "hpmcounter31", "mvendorid"))]
        else:
            number = numbers[rng.choice(("sscratch", "sepc", "stval", "scause", "sscratch", "mepc", "mtval", "mcause"))]
        return [raw & 0xFFFFF | number << 20]

    def compressed(self, row: _core.InstructionInfo) -> list[int]:
        rng = self.rng
        name = row.name
        if name == "c.addi16sp" and 2 in self.bases:
            return []
        if name in ("c.lwsp", "c.ldsp", "c.fldsp", "c.swsp", "c.sdsp", "c.fsdsp") and 2 not in self.bases:
            return []
        while True:
            raw = row.match | rng.getrandbits(16) & ~row.mask
            if name in ("c.lw", "c.ld", "c.fld", "c.sw", "c.sd", "c.fsd", "c.lbu", "c.lhu", "c.lh", "c.sb", "c.sh"):
                raw = raw & ~(7 << 7) | self.bases[0] - 8 << 7
            # What it writes must not be a base.
            rd, rd_low, rs1_low = raw >> 7 & 31, (raw >> 2 & 7) + 8, (raw >> 7 & 7) + 8
            if name in ("c.addi4spn", "c.lw", "c.ld", "c.lbu", "c.lhu", "c.lh") and rd_low in self.bases:
                continue
            if (
                name
                in ("c.srli", "c.srai", "c.andi", "c.sub", "c.xor", "c.or", "c.and", "c.subw", "c.addw", *ZCB_UNARY)
                and rs1_low in self.bases
            ):
                continue
            if (
                name in ("c.addi", "c.addiw", "c.li", "c.lui", "c.slli", "c.lwsp", "c.ldsp", "c.mv", "c.add")
                and rd in self.bases
            ):
                continue
            if name in ("c.mv", "c.add") and raw >> 2 & 31 == 0:
                continue  # c.jr and c.jalr
            if name == "c.lui" and rd == 2:
                continue  # c.addi16sp
            return [raw]

    def illegal(self) -> list[int]:
        """A word that no table has."""
        rng = self.rng
        while True:
            raw = rng.getrandbits(32) | 3 if rng.random() < 0.7 else rng.getrandbits(16)
            if rng.random() < 0.5:  # close to a legal one
                row = rng.choice(isa.instructions())
                raw = row.match | rng.getrandbits(32) & ~row.mask
                raw ^= 1 << rng.randrange(32)
                if raw & 3 != 3:
                    raw &= 0xFFFF
            if isa.disassemble(raw, 0).startswith("."):
                return [raw]

    def reservation(self) -> list[int]:
        """LR and SC: a pair, an SC without an LR, or one to another address."""
        rng = self.rng
        width = rng.choice("wd")
        base = self.bases[0]
        pointer = rng.choice([r for r in self.free if r])
        order = [rng.getrandbits(2) << 25 for _ in range(2)]
        code = [encode("addi", pointer, base, imm=rng.randrange(-2048, 2048) & -8)]
        kind = rng.random()
        if kind < 0.8:
            code.append(encode(f"lr.{width}", rng.choice([r for r in self.free if r != pointer]), pointer) | order[0])
        if kind < 0.6:
            target = rng.choice([r for r in self.free if r != pointer])
            for _ in range(rng.randrange(4)):
                code.append(encode(rng.choice(("add", "xor", "addi", "slli")), target, target, 1))
        elif kind < 0.8:
            code.append(encode("addi", pointer, pointer, imm=64))
        code.append(encode(f"sc.{width}", self.destination(), pointer, self.source()) | order[1])
        return code

    def branch(self) -> list[int]:
        """Over a few instructions, in one of all forms."""
        rng = self.rng
        body = [raw for _ in range(rng.randrange(4)) for raw in self.plain()]
        size = sum(4 if raw & 3 == 3 else 2 for raw in body)
        form = rng.randrange(6)
        if form == 0:
            return [encode("jal", self.destination(), imm=4 + size), *body]
        if form == 1:
            # The target register must not be written by what is jumped over, which it is not when taken.
            pointer = rng.choice([r for r in self.free if r])
            odd = rng.getrandbits(1)  # bit 0 of the sum is cleared
            return [encode("auipc", pointer), encode("jalr", self.destination(), pointer, imm=8 + size + odd), *body]
        if form == 2:
            distance = 2 + size
            low = distance >> 1 & 7
            raw = 0xA001 | low << 3 | (distance >> 4 & 1) << 11 | (distance >> 5 & 1) << 2 | (distance >> 6 & 1) << 7
            return [raw, *body]
        if form == 3:
            distance = 2 + size
            raw = rng.choice((0xC001, 0xE001)) | rng.randrange(8) << 7
            raw |= (
                (distance >> 1 & 3) << 3
                | (distance >> 3 & 3) << 10
                | (distance >> 5 & 1) << 2
                | (distance >> 6 & 3) << 5
            )
            return [raw, *body]
        if form == 4:
            pointer = rng.choice([r for r in self.free if r])
            raw = 0x8002 | pointer << 7  # c.jr, or c.jalr where x1 may be written
            if 1 in self.free and rng.random() < 0.5:
                raw |= 0x1000
            return [encode("auipc", pointer), encode("addi", pointer, pointer, imm=10 + size), raw, *body]
        name = rng.choice(("beq", "bne", "blt", "bge", "bltu", "bgeu"))
        return [encode(name, 0, self.source(), self.source(), imm=4 + size), *body]

    def float_off(self) -> list[int]:
        """FS = Off for a few instructions; in S- and M-mode only, elsewhere the CSR traps as well."""
        csr = "mstatus" if self.mode == "M" else "sstatus"
        register = self.rng.choice([r for r in self.free if r])
        body = [raw for _ in range(3) for raw in self.plain()]
        lui = encode("lui", register, imm=6)
        return [lui, encode("csrrc", 0, register, csr=csr), *body, lui, encode("csrrs", 0, register, csr=csr)]

    def refill(self) -> list[int]:
        """A register gets an interesting value from memory."""
        if self.rng.random() < 0.5:
            return [encode("ld", self.destination(), self.rng.choice(self.bases), imm=self.offset(8))]
        name = self.rng.choice(("fld", "fld", "flh") if self.scalar else ("fld", "fld", "flw"))
        return [encode(name, self.source(), self.rng.choice(self.bases), imm=self.offset(8))]

    def patch(self) -> list[int]:
        """Code that exchanges an instruction ahead of it with one that it keeps, then runs it: a store to code."""
        a, b, c = self.rng.sample([r for r in self.free if r], 3)
        alternatives = [
            encode(self.rng.choice(("add", "sub", "xor", "sh1add")), self.destination(), 5, 6) for _ in range(2)
        ]
        # auipc at 0; the word kept aside at 28, after a jump over it; the patched one at 36.
        if self.asm.here % 4 == 0 and self.rng.random() < 0.5:
            exchange = [encode("addi", c, a, imm=36), encode("amoswap.w", c, c, b)]
        else:
            exchange = [encode("lw", c, a, imm=36), encode("sw", 0, a, b, imm=36)]
        return [
            encode("auipc", a),
            encode("lw", b, a, imm=28),
            *exchange,
            encode("sw", 0, a, c, imm=28),
            encode("fence.i"),
            encode("jal", 0, imm=8),
            alternatives[0],
            encode("addi", 0, 0),
            alternatives[1],
        ]

    def item(self) -> list[int]:
        choices: list[tuple[float, Callable[[], list[int]]]] = [
            (70, self.plain), (9, self.refill), (8, self.branch), (3, self.reservation), (1.5, self.illegal),
            (0.4, self.float_off), (0.4, self.patch),
        ]  # fmt: skip
        if self.scalar:
            choices.append((0.8, self.tagged))
        return self.rng.choices([item for _, item in choices], [weight for weight, _ in choices])[0]()

    # --- the program ---

    def build(self) -> Program:
        asm = self.asm
        self._init()
        asm.label("body")
        self._bases()
        for chunk in range(self.chunks):
            for _ in range(self.items):
                for raw in self.item():
                    asm.raw(raw)
            self._dump(chunk)
        self._next_iteration()
        self._handler()
        self._data()
        end = asm.labels["end"]
        return Program(
            f"seed {self.seed}: {self.mode}-mode, {self.satp}",
            asm.elf(),
            end,
            (asm.labels["begin_signature"], asm.labels["end_signature"]),
            isa=self.isa,
            oracle_isa=self.oracle_isa,
            triggers=spike.TRIGGERS if self.scalar else 0,
        )

    def _bases(self) -> None:
        for i, base in enumerate(self.bases):
            self.asm.la(base, f"arena{i}")

    def _init(self) -> None:
        asm, rng = self.asm, self.rng
        asm.la(1, "handler")
        asm.csrw("mtvec", 1)
        asm.li(1, (1 << 54) - 1)
        asm.csrw("pmpaddr0", 1)
        asm.li(1, 0x1F)
        asm.csrw("pmpcfg0", 1)
        # Cache-block operations at the levels that are drawn.
        for csr in ("menvcfg", "senvcfg"):
            masked = rng.choice((0, 2, 3)) << 32 if self.scalar else 0
            asm.li(1, rng.choice((0xF0, 0xF0, 0x10, 0x40, 0x80, 0)) | masked)
            asm.csrw(csr, 1)
        for csr in ("mcounteren", "scounteren"):
            asm.li(1, rng.choice((7, 4, 0, 0xFFFF_FFFF)))
            asm.csrw(csr, 1)
        for csr in ("medeleg", "mideleg", "mie", "minstret", "sscratch", "sepc", "scause", "stval"):
            asm.csrw(csr, 0)
        asm.csrw("stvec", 0)
        if self.satp != "bare":
            asm.li(1, SATP_MODES[self.satp] << 60 | rng.getrandbits(16) << 44 | TABLES >> 12)
            asm.csrw("satp", 1)
            asm.op("sfence.vma")
        previous = {"M": 3, "S": 1, "U": 0}[self.mode]
        status = self.status | previous << 11 | 3 << 13 | rng.getrandbits(2) << 18
        if self.traps_virtual_memory:
            status |= 7 << 20
        asm.li(1, status)
        asm.csrw("mstatus", 1)
        asm.csrw("fcsr", 0)
        self._init_more()
        asm.la(1, "log")
        asm.la(2, "log_pointer")
        asm.op("sd", 0, 2, 1)
        asm.la(1, "registers")
        for i in range(32):
            asm.op("fld", i, 1, imm=256 + 8 * i)
        for i in [*range(2, 32), 1]:
            asm.op("ld", i, 1, imm=8 * i)
        asm.csrw("mscratch", 31)
        asm.la(31, "body")
        asm.csrw("mepc", 31)
        asm.csrr(31, "mscratch")
        asm.op("mret")

    def _init_more(self) -> None:
        """In M-mode, before anything else has a value."""

    def _log_more(self, log: int, scratch: int, mepc: int) -> None:
        """More of an entry of the log, from 32 on."""

    def _dump_place(self, chunk: int) -> tuple[int, int]:
        """Sets a register to where this chunk's dump of this iteration is; that one, and another for use."""
        asm = self.asm
        first, second = self.bases
        asm.la(first, "iteration")
        asm.op("ld", first, first, imm=8)
        asm.la(second, f"dump{chunk}")
        asm.op("add", first, first, second)
        return first, second

    def _dump(self, chunk: int) -> None:
        """Stores all registers to this chunk's place among the dumps of this iteration."""
        asm = self.asm
        first, second = self._dump_place(chunk)
        for i in range(32):
            if i not in self.bases:
                asm.op("sd", 0, first, i, imm=8 * i)
        for i in range(32):
            asm.op("fsd", 0, first, i, imm=256 + 8 * i)
        asm.csrr(second, "fcsr")
        asm.op("sd", 0, first, second, imm=512)
        asm.csrr(second, "instret")
        asm.op("sd", 0, first, second, imm=520)
        self._bases()

    def _next_iteration(self) -> None:
        asm = self.asm
        a, b = self.bases
        c = 1 if 1 not in self.bases else 3
        asm.la(a, "iteration")
        asm.op("ld", b, a, imm=8)
        asm.li(c, self.chunks * self.dump_size)
        asm.op("add", b, b, c)
        asm.op("sd", 0, a, b, imm=8)
        asm.op("ld", b, a)
        asm.op("addi", b, b, imm=-1)
        asm.op("sd", 0, a, b)
        asm.op("beq", 0, b, 0, imm=16)
        asm.far_jump("body", c)
        asm.op("addi", 0, 0)
        asm.li(17, FAREWELL)
        asm.op("ecall")

    def _handler(self) -> None:
        """Logs mcause, mtval, mepc and mstatus, skips the instruction, and touches no register."""
        asm = self.asm
        asm.align(4)
        asm.label("handler")
        asm.csrw("mscratch", 31)
        asm.la(31, "save")
        for i, register in enumerate((28, 29, 30)):
            asm.op("sd", 0, 31, register, imm=8 * i)
        # The end?
        asm.csrr(28, "mcause")
        asm.li(29, FAREWELL)
        asm.jump("log_it", "bne", rs1=29, rs2=17)
        asm.li(29, {"M": 11, "S": 9, "U": 8}[self.mode])
        asm.jump("finish", "beq", rs1=28, rs2=29)
        asm.label("log_it")
        asm.op("ld", 29, 31, imm=LOG_POINTER - SAVE)
        asm.op("sd", 0, 29, 28)
        asm.csrr(28, "mtval")
        asm.op("sd", 0, 29, 28, imm=8)
        asm.csrr(28, "mstatus")
        asm.op("sd", 0, 29, 28, imm=24)
        asm.csrr(30, "mepc")
        asm.op("sd", 0, 29, 30, imm=16)
        self._log_more(29, 28, 30)
        asm.la(28, "log_end")
        asm.op("bgeu", 0, 29, 28, imm=8)
        asm.op("addi", 29, 29, imm=self.log_entry)
        asm.op("sd", 0, 31, 29, imm=LOG_POINTER - SAVE)
        # Virtual addresses of code are physical ones.
        asm.op("lhu", 28, 30)
        asm.op("andi", 28, 28, imm=3)
        asm.op("addi", 28, 28, imm=-3)
        asm.op("sltiu", 28, 28, imm=1)
        asm.op("slli", 28, 28, imm=1)
        asm.op("addi", 28, 28, imm=2)
        asm.op("add", 30, 30, 28)
        asm.csrw("mepc", 30)
        for i, register in enumerate((28, 29, 30)):
            asm.op("ld", register, 31, imm=8 * i)
        asm.csrr(31, "mscratch")
        asm.op("mret")
        asm.label("finish")
        asm.la(31, "tohost")
        asm.li(30, 1)
        asm.op("sd", 0, 31, 30)
        asm.label("end")
        asm.op("jal", 0, imm=0)

    def _data(self) -> None:
        asm, rng = self.asm, self.rng
        asm.org(DATA)
        asm.label("tohost")
        asm.data(0)
        asm.org(DATA + 64)
        asm.label("fromhost")
        asm.data(0)
        asm.org(DATA + 128)
        asm.label("registers")
        asm.data(0, *(interesting(rng, self.scalar) for _ in range(63)))
        asm.org(SAVE)
        asm.label("begin_signature")
        asm.label("save")
        asm.org(LOG_POINTER)
        asm.label("log_pointer")
        asm.org(ITERATION)
        asm.label("iteration")
        asm.data(self.iterations, 0)
        asm.org(ARENA)
        asm.data(*(interesting(rng, self.scalar) for _ in range(ARENA_SIZE // 8)))
        for i in range(2):
            asm.labels[f"arena{i}"] = ARENA + 0x1000 + 0x2000 * i
        for chunk in range(self.chunks):
            asm.labels[f"dump{chunk}"] = DUMPS + chunk * self.dump_size
        asm.org(DUMPS + self.chunks * self.iterations * self.dump_size)
        asm.align(16)
        asm.label("log")
        asm.org(asm.here + 0x2_0000)
        asm.label("log_end")
        asm.org(asm.here + self.log_entry)
        asm.align(16)
        asm.label("end_signature")
        if self.satp != "bare":
            self._page_tables()

    def _page_tables(self) -> None:
        """Virtual addresses are physical ones, but for the arena, whose pages lie in another order."""
        asm, rng = self.asm, self.rng
        levels = {"sv39": 3, "sv48": 4, "sv57": 5}[self.satp]
        user = 16 if self.mode == "U" else 0
        pages: list[list[int]] = [[0] * 512]
        for level in range(levels - 1, 1, -1):
            pages[-1][RAM_BASE >> 12 + 9 * level & 511] = (TABLES >> 12) + len(pages) << 10 | 1
            pages.append([0] * 512)
        # The 2 MiB entries: large pages and tables of small ones, by chance.
        directory = pages[-1]
        flags = 0xCF | user
        order = list(range(ARENA_SIZE >> 12))
        rng.shuffle(order)
        for i in range(8):
            base = RAM_BASE + (i << 21)
            index = base >> 21 & 511
            hole = base <= self.hole < base + (1 << 21)
            if i != 2 and not hole and rng.random() < 0.5:
                directory[index] = base >> 2 | flags
                continue
            leaf = [0] * 512
            for j in range(512):
                address = base + (j << 12)
                if ARENA <= address < ARENA + ARENA_SIZE:
                    address = ARENA + (order[address - ARENA >> 12] << 12)
                if address != self.hole:
                    leaf[j] = address >> 2 | flags | (32 if rng.random() < 0.1 else 0)
            pages.append(leaf)
            directory[index] = (TABLES >> 12) + len(pages) - 1 << 10 | 1
        asm.org(TABLES)
        for page in pages:
            asm.content += struct.pack("<512Q", *page)


def generate(seed: int, *, scalar: bool = False, favoured: Collection[str] = (), **size: int) -> Program:
    """The program of a seed; with `scalar` for a hart that has all scalar extensions.

    Of the extensions that are `favoured` there is more than of the others.
    """
    return Generator(seed, scalar=scalar, favoured=favoured, **size).build()
