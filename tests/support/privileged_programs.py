"""Random privileged programs: page walks, physical memory protection, traps, delegation, interrupts, and CSR fields.

A program is a row of cases. Each sets the hart up in M-mode and then does one thing: an access through MPRV, or a
return into S- or U-mode where a stub does it. Whatever traps ends in an M-mode handler that logs the cause, the
value, the address, the status and the argument registers, and goes on with the next case. What is left in page tables
and data is compared as well. Nothing here knows what is right: the oracle does.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

from .assembler import MASK64, RAM_BASE, Assembler, encode
from .random_programs import SATP_MODES, SCALAR_HART, Program

TOHOST = RAM_BASE + 0x40_0000
SAVE = RAM_BASE + 0x60_0000  # handler's: log pointer, then where to go on
LOG = SAVE + 0x1000
LOG_ENTRY = 96
LOG_ENTRIES = 5000
TABLES = RAM_BASE + 0x68_0000
DATA = RAM_BASE + 0x80_0000  # a 2 MiB boundary, for large pages
DATA_PAGES = 16
END = DATA + (DATA_PAGES << 12)
STUBS = RAM_BASE + 0x90_0000

MPRV, SUM, MXR, TVM, TW, TSR = (1 << i for i in range(17, 23))
ECALL = 0x73
# Registers: a0, a1 and a2 to a6 are the case's; t3 to t6 are the handlers'.
A0, A1, A2, A6, A7 = 10, 11, 12, 16, 17
RESUMED = 0x1D1E  # a7 of the supervisor handler's ecall
STATE_ENABLES = 3 << 62  # of mstateen0: SE0 and ENVCFG


class Frame:
    """The handlers, the stubs, the log, and the loop over cases that every program has."""

    def __init__(self, seed: int, *, scalar: bool = False) -> None:
        self.rng = random.Random(seed)
        self.scalar = scalar
        self.asm = Assembler()
        self.case = 0
        self.zero_edges = False
        self._init()

    def _init(self) -> None:
        asm = self.asm
        asm.la(5, "machine_vectors")
        asm.csrw("mtvec", 5)
        asm.li(5, SAVE)
        asm.csrw("mscratch", 5)
        asm.li(6, LOG)
        asm.op("sd", 0, 5, 6)
        for csr in (
            "medeleg",
            "mideleg",
            "mie",
            "mip",
            "satp",
            "menvcfg",
            "senvcfg",
            "sscratch",
            "mcounteren",
            "scounteren",
            "minstret",
        ):
            asm.csrw(csr, 0)
        if self.scalar:
            self.set_csr("mstateen0", STATE_ENABLES)
        # The timer of the CLINT is set far ahead, as is that of Sstc.
        asm.li(5, 0x200_4000)
        asm.li(6, MASK64)
        asm.op("sd", 0, 5, 6)
        asm.li(5, 1 << 63)
        asm.csrw("menvcfg", 5)
        asm.csrw("stimecmp", 6)
        asm.csrw("menvcfg", 0)
        # Some implementations start with an entry that allows everything; here it is the last one.
        asm.csrw("pmpcfg0", 0)
        for entry in range(15):
            asm.csrw(f"pmpaddr{entry}", 0)
        asm.li(5, MASK64 >> 10)
        asm.csrw("pmpaddr15", 5)
        asm.li(5, 0x1F << 56)
        asm.csrw("pmpcfg2", 5)
        asm.li(5, 3 << 13)
        asm.csrw("mstatus", 5)
        for register in range(32):
            asm.op("fmv.d.x", register, 0)

    def begin(self) -> None:
        """A case: from here, a trap goes on at the next one."""
        asm = self.asm
        asm.la(5, f"resume{self.case}")
        asm.li(6, SAVE)
        asm.op("sd", 0, 6, 5, imm=8)
        asm.li(A0, 0x1000 + self.case)
        for register in range(A1, A7 + 1):
            asm.op("addi", register, 0, imm=0)

    def end(self) -> None:
        """Where no trap ends the case, an ecall does."""
        self.asm.op("ecall")
        self.asm.label(f"resume{self.case}")
        self.case += 1

    def set_csr(self, csr: str | int, value: int) -> None:
        if value == 0:
            self.asm.csrw(csr, 0)
        else:
            self.asm.li(5, value)
            self.asm.csrw(csr, 5)

    def enter(self, mode: int, address: int, status: int = 0) -> None:
        """Returns into a mode at an address; `status` are further bits of mstatus."""
        self.set_csr("mepc", address)
        self.set_csr("mstatus", status | mode << 11)
        self.asm.op("mret")

    def finish(self, name: str) -> Program:
        asm = self.asm
        asm.li(5, TOHOST)
        asm.li(6, 1)
        asm.op("sd", 0, 5, 6)
        asm.label("end")
        asm.op("jal", 0, imm=0)
        self._machine_handler()
        if asm.here > TOHOST:
            raise ValueError("too many cases")
        asm.org(TOHOST)
        asm.label("tohost")
        asm.org(TOHOST + 64)
        asm.label("fromhost")
        asm.org(SAVE)
        asm.label("begin_signature")
        asm.org(TABLES)
        self.write_tables()
        asm.org(DATA)
        # Words are ecalls, so that data may be run; one lies across each page boundary, or else zeroes do.
        page = bytearray(struct.pack("<I", ECALL) * 1024)
        page[:8] = page[-8:] = bytes(8) if self.zero_edges else struct.pack("<II", ECALL << 16, ECALL << 16)
        asm.content += bytes(page) * DATA_PAGES
        asm.label("end_signature")
        asm.org(STUBS)
        self._stubs()
        hart = SCALAR_HART if self.scalar else {}
        return Program(name, asm.elf(), asm.labels["end"], (SAVE, END), **hart)

    def write_tables(self) -> None:
        """Page tables, where a program has some."""

    def _machine_handler(self) -> None:
        asm = self.asm
        asm.align(256)
        asm.label("machine_vectors")
        for slot in range(16):
            asm.jump(f"machine{slot}")
        for slot in range(16):
            asm.label(f"machine{slot}")
            asm.op("csrrw", 31, 31, csr="mscratch")
            asm.op("addi", 30, 0, imm=slot)
            asm.jump("machine_trap")
        asm.label("machine_trap")
        asm.csrr(28, "mstatus")
        asm.li(29, MPRV)
        asm.op("csrrc", 0, 29, csr="mstatus")
        asm.op("ld", 29, 31)
        asm.op("sd", 0, 29, 30)
        asm.op("sd", 0, 29, 28, imm=32)
        for offset, csr in ((8, "mcause"), (16, "mtval"), (24, "mepc"), (40, "mip")):
            asm.csrr(28, csr)
            asm.op("sd", 0, 29, 28, imm=offset)
        for i, register in enumerate((A0, A2, A2 + 1, A2 + 2, A2 + 3, A6)):
            asm.op("sd", 0, 29, register, imm=48 + 8 * i)
        asm.li(28, LOG + LOG_ENTRY * LOG_ENTRIES)
        asm.op("bgeu", 0, 29, 28, imm=12)
        asm.op("addi", 29, 29, imm=LOG_ENTRY)
        asm.op("sd", 0, 31, 29)
        # An interrupt is switched off in mie and the code goes on; likewise one that the supervisor handler reports.
        asm.csrr(28, "mcause")
        asm.jump("machine_interrupt", "blt", rs1=28)
        asm.op("addi", 28, 28, imm=-9)
        asm.jump("next_case", "bne", rs1=28)
        asm.li(28, RESUMED)
        asm.jump("next_case", "bne", rs1=28, rs2=A7)
        asm.op("addi", 28, A2, imm=0)
        asm.jump("next_case", "bge", rs1=28)
        self._leave_machine_handler()

    def _leave_machine_handler(self) -> None:
        """Behind an ecall that reports the interrupt in x28, behind an interrupt, or with the next case."""
        asm = self.asm
        asm.csrr(29, "mepc")
        asm.op("addi", 29, 29, imm=4)
        asm.csrw("mepc", 29)
        asm.label("machine_interrupt")
        asm.op("addi", 29, 0, imm=1)
        asm.op("sll", 29, 29, 28)
        asm.op("csrrc", 0, 29, csr="mie")
        asm.op("csrrw", 31, 31, csr="mscratch")
        asm.op("mret")
        asm.label("next_case")
        asm.op("ld", 28, 31, imm=8)
        asm.op("csrrw", 31, 31, csr="mscratch")
        asm.op("jalr", 0, 28)

    def _stubs(self) -> None:
        """One page that S-mode and U-mode run: an access or a privileged instruction each, then an ecall."""
        asm = self.asm
        for i, raw in enumerate(STUB_CODE):
            asm.org(STUBS + 16 * i)
            asm.word(raw)
            asm.op("ecall")
        asm.org(STUBS + SUPERVISOR_VECTORS)
        for slot in range(16):
            asm.jump(f"supervisor{slot}")
        for slot in range(16):
            asm.label(f"supervisor{slot}")
            asm.op("addi", A6, 0, imm=0x50 + slot)
            asm.jump("supervisor_trap")
        asm.label("supervisor_trap")
        for i, csr in enumerate(("scause", "stval", "sepc", "sstatus")):
            asm.csrr(A2 + i, csr)
        asm.li(A7, RESUMED)
        asm.op("ecall")
        asm.op("addi", A7, 0, imm=0)
        asm.op("sret")
        asm.align(4096)


SUPERVISOR_VECTORS = 0x800
LOADS = ("lb", "lbu", "lh", "lhu", "lw", "lwu", "ld")
STORES = ("sb", "sh", "sw", "sd")
CACHE = ("cbo.zero", "cbo.clean", "cbo.flush", "cbo.inval")
ACCESS_SIZE = {"lb": 1, "lbu": 1, "lh": 2, "lhu": 2, "lw": 4, "lwu": 4, "ld": 8, "sb": 1, "sh": 2, "sw": 4, "sd": 8,
               "amoadd.d": 8, "amoor.w": 4, "lr.d": 8, "lr.w": 4, "fld": 8, "fsw": 4,
               **dict.fromkeys(CACHE, 1)}  # fmt: skip


def access_code(name: str) -> int:
    """The access at a1; stores write the ecall word or its parts, loads read into a2."""
    if name in STORES:
        return encode(name, 0, A1, A7)
    if name in CACHE:
        return encode(name, 0, A1)
    if name == "fld":
        return encode(name, 1, A1)
    if name == "fsw":
        return encode(name, 0, A1, 0)
    return encode(name, A2, A1, 0)


PRIVILEGED = (
    [encode(name) for name in ("ecall", "ebreak", "mret", "sret", "sfence.w.inval", "sfence.inval.ir", "wfi")]
    + [encode(name, 0, 0, 0) for name in ("sfence.vma", "sinval.vma")]
    + [encode(name, 0, A1, A2) for name in ("sfence.vma", "sinval.vma")]
    + [encode("csrrs", A2, 0, csr=csr) for csr in ("satp", "stimecmp", "sstatus", "sip", "sie", "instret")]
    + [encode("csrrs", A2, 0, csr=csr) for csr in ("hpmcounter3", "mstatus", "fcsr")]
    + [encode("csrrw", A2, 0, csr=csr) for csr in ("satp", "sie", "sscratch", "instret", "scause")]
    + [encode("csrrsi", A2, csr="sip", imm=2), encode("csrrci", A2, csr="sip", imm=2)]
    + [0, 0xFFFF_FFFF, encode("addi", 0, 0, imm=1), encode("fadd.d", 1, 2, 3), encode("fmv.x.d", A2, 1)]
)  # fmt: skip
STUB_CODE = [access_code(name) for name in ACCESS_SIZE] + PRIVILEGED
STUB_OF = {name: 16 * i for i, name in enumerate(ACCESS_SIZE)}
WFI, SRET, MRET = (encode(name) for name in ("wfi", "sret", "mret"))


# --- page walks ---


@dataclass
class Table:
    """One page of page-table entries, meant for one level."""

    index: int
    level: int
    entries: dict[int, int] = field(default_factory=dict)

    @property
    def address(self) -> int:
        return TABLES + (self.index << 12)


class PageWalks(Frame):
    """Random page tables, and accesses of every kind through them."""

    INDICES = (0, 1, 2, 255, 256, 257, 510, 511)
    STUB_INDEX = 300

    def __init__(self, seed: int, cases: int = 700, *, scalar: bool = False) -> None:
        super().__init__(seed, scalar=scalar)
        self.seed, self.cases = seed, cases
        # Spike writes the first part of a store across pages before the second part faults, Wirt does not; both may.
        # Where such stores are drawn they write zeroes over zeroes.
        self.zero_edges = self.rng.random() < 0.5
        self.tables: list[Table] = []
        for level, count in enumerate((10, 6, 4, 3, 1)):
            for _ in range(count):
                self.tables.append(Table(len(self.tables), level))
        self.by_level = [[t for t in self.tables if t.level == level] for level in range(5)]
        self.roots = {"sv39": self.by_level[2][0], "sv48": self.by_level[3][0], "sv57": self.by_level[4][0]}
        for table in self.tables:
            for index in self.INDICES:
                table.entries[index] = self.entry(table.level)
        # The way to the stubs: one table a level, and two leaves, for S-mode and for U-mode.
        chain = [Table(len(self.tables) + level, level) for level in range(4)]
        self.tables += chain
        for table in chain[1:]:
            table.entries[self.STUB_INDEX] = chain[table.level - 1].address >> 2 | 1
        chain[0].entries[self.STUB_INDEX] = STUBS >> 2 | 0xCB
        chain[0].entries[self.STUB_INDEX + 1] = STUBS >> 2 | 0xDB
        for root in self.roots.values():
            root.entries[self.STUB_INDEX] = chain[root.level - 1].address >> 2 | 1
        self.initial = {(t.index, i): entry for t in self.tables for i, entry in t.entries.items()}

    def entry(self, level: int) -> int:
        """A page-table entry: mostly one that goes on, or a leaf, often with something wrong."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.03:
            return rng.getrandbits(64)
        if (level > 0 and kind < 0.55) or kind < 0.06:
            # Levels are skipped, but none is met twice: a large leaf there would lead to code, or to other devices.
            below = (
                self.by_level[level - 1]
                if level > 0 and rng.random() < 0.95
                else rng.choice(self.by_level[: level or 1])
            )
            flags = 1 | (rng.choice((32, 64, 128, 16, 2)) if rng.random() < 0.08 else 0) | rng.getrandbits(2) << 8
            address = rng.choice(below).address
            if rng.random() < 0.03:
                address = rng.choice((0x1800_0000, RAM_BASE + (16 << 20), 1 << 55, 0x1234_5678_9000))
            entry = address >> 2 | flags
        else:
            permissions = rng.choice((7, 7, 7, 3, 5, 1, 4, rng.randrange(8)))
            flags = (rng.random() < 0.97) | permissions << 1 | rng.getrandbits(1) << 4 | rng.getrandbits(1) << 5
            flags |= (rng.random() < 0.75) << 6 | (rng.random() < 0.7) << 7 | rng.getrandbits(2) << 8
            target = (
                DATA + (rng.randrange(DATA_PAGES) << 12)
                if level == 0
                else DATA
                if level == 1
                else RAM_BASE
                if level == 2
                else 0
            )
            if level > 0 and rng.random() < 0.1:
                target += 1 << 12 + rng.randrange(9 * level)
            if rng.random() < 0.06:
                target = rng.choice((0x1800_0000, RAM_BASE + (16 << 20), 1 << 55, 0x1_0000_0000))
            entry = (target >> 2 & (1 << 54) - 1) | flags
        if self.scalar:
            if level == 0 and rng.random() < 0.3:
                # 64 KiB, and sometimes a size that is reserved.
                entry = entry & ~(0xF << 10) | (8 if rng.random() < 0.8 else rng.randrange(16)) << 10 | 1 << 63
            elif rng.random() < 0.02:
                entry |= 1 << 63
            if rng.random() < 0.25:
                entry |= rng.choice((1, 1, 2, 2, 3)) << 61
        if rng.random() < 0.06:
            entry |= 1 << rng.randrange(54, 64)
        return entry

    def indices(self) -> list[int]:
        return [self.rng.choice(self.INDICES) for _ in range(5)]

    def path(self, mode: str, indices: list[int]) -> list[tuple[Table, int]]:
        """The entries that a walk with these indices, by level, goes through."""
        table = self.roots[mode]
        steps = []
        for level in range(table.level, -1, -1):
            steps.append((table, indices[level]))
            entry = table.entries.get(indices[level], 0)
            found = next((t for t in self.tables if t.address == entry >> 10 << 12 & (1 << 56) - 1), None)
            if entry & 0xF != 1 or found is None:
                break
            table = found
        return steps

    def address(self, mode: str, indices: list[int] | None = None) -> int:
        """A virtual address that finds its way through the tables for a while, and behind a large page to the data."""
        rng = self.rng
        indices = indices or self.indices()
        levels = self.roots[mode].level + 1
        end = levels - len(self.path(mode, indices))
        address = sum(indices[level] << 12 + 9 * level for level in range(end, levels))
        address |= DATA + (rng.randrange(DATA_PAGES) << 12) & (1 << 12 + 9 * end) - 1 & ~0xFFF
        address |= self.offset()
        top = 12 + 9 * levels
        if address >> top - 1 & 1:
            address |= MASK64 << top & MASK64
        if rng.random() < 0.04:
            address ^= 1 << rng.randrange(top - 1, 64)
        return address

    def strays(self, mode: str, address: int) -> bool:
        """Whether, by one of the lengths of pointer masks, a large page would be met that leads past the data.

        What is there is not the same in both: Spike has no window of PCI.
        """
        levels = self.roots[mode].level + 1
        for length in (0, 7, 16):
            top = 64 - length
            effective = address & (1 << top) - 1
            effective -= (effective >> top - 1) << top
            path = self.path(mode, [effective >> 12 + 9 * level & 511 for level in range(levels)])
            table, index = path[-1]
            mask = (1 << 12 + 9 * (levels - len(path))) - 1
            leaf = table.entries.get(index, 0) & 0xE != 0
            if leaf and mask > 0xFFF and (effective - DATA) & mask >= DATA_PAGES << 12:
                return True
        return False

    def offset(self) -> int:
        rng = self.rng
        return rng.choice(
            (rng.randrange(512) * 8, rng.randrange(512) * 8, rng.randrange(4096), rng.randrange(4088, 4096), 0xFFE)
        )

    def build(self) -> Program:
        for _ in range(self.cases):
            self.one()
        return self.finish(f"page walks, seed {self.seed}")

    def write_tables(self) -> None:
        content = bytearray(len(self.tables) << 12)
        for (table, index), entry in self.initial.items():
            struct.pack_into("<Q", content, (table << 12) + 8 * index, entry)
        self.asm.content += content

    def mutate(self, mode: str) -> int:
        """Changes an entry and orders it before what follows; returns an address whose walk may pass through it."""
        rng, asm = self.rng, self.asm
        indices = self.indices()
        steps = self.path(mode, indices)
        table, index = steps[-1] if rng.random() < 0.7 else rng.choice(steps)
        old, new = table.entries[index], self.entry(table.level)
        # By address it is leaves that are fenced, and by ASID what is not global (Privileged Architecture, SFENCE.VMA).
        leaves = old & 0xF != 1 and new & 0xF != 1
        local = not any(entry & 32 for entry in (new, *(t.entries.get(i, 0) for t, i in steps)))
        # Where PMP covers half an entry, storing a whole one fails in every mode, and the old one stays.
        if table.address + 8 * index != self.half:
            table.entries[index] = new
        address = self.address(mode, indices)
        asm.li(5, table.address + 8 * index)
        asm.li(6, new)
        asm.op("sd", 0, 5, 6)
        by_address, by_asid = leaves and rng.random() < 0.8, local and rng.random() < 0.5
        asm.li(5, address)
        asm.li(6, self.asid)
        self.fence(by_address, by_asid)
        # Other addresses and address spaces may go through the same entry.
        self.stale = by_address or by_asid
        return address

    def fence(self, by_address: bool, by_asid: bool) -> None:
        """Of the address in t0 and the ASID in t1, or of all."""
        asm = self.asm
        # x0 for the ASID means all, which a register holding 0 does not.
        operands = (0, 5 if by_address else 0, 6 if by_asid else 0)
        if self.rng.random() < 0.7:
            asm.op("sfence.vma", *operands)
        else:
            asm.op("sfence.w.inval")
            asm.op("sinval.vma", *operands)
            asm.op("sfence.inval.ir")

    def protect(self) -> None:
        """PMP over an entry, a table or a page of data: walks, and their updates of A and D, are accesses too."""
        rng, asm = self.rng, self.asm
        kind, permissions = rng.choice((0, 2, 3, 3)), rng.choice((0, 1, 3, 7))
        page = rng.choice([t.address for t in self.tables] + [DATA + (i << 12) for i in range(DATA_PAGES)])
        address = page >> 2 | (1 << 9) - 1 if kind == 3 else page + 8 * rng.choice(self.INDICES) >> 2
        self.set_csr("pmpaddr0", address)
        self.set_csr("pmpcfg0", kind << 3 | permissions)
        asm.op("sfence.vma", 0, 0, 0)
        self.half = address << 2 if kind == 2 else None

    asid = 0
    stale = False
    half: int | None = None  # the word that PMP covers, of an entry or a block of which it covers no more

    def one(self) -> None:
        rng, asm = self.rng, self.asm
        self.begin()
        mode = rng.choice(tuple(self.roots))
        if self.stale:
            asm.op("sfence.vma", 0, 0, 0)
            self.stale = False
        if rng.random() < 0.1:
            # What caches may keep changes with ADUE: fence.
            more = rng.choice((0, 1 << 62)) | rng.choice((0, 2, 3)) << 32 if self.scalar else 0
            self.set_csr("menvcfg", rng.choice((0, 1 << 61)) | 0xF0 | more)
            self.set_csr("senvcfg", 0xF0 | (rng.choice((0, 2, 3)) << 32 if self.scalar else 0))
            asm.op("sfence.vma", 0, 0, 0)
        if rng.random() < 0.15:
            self.protect()
        self.asid = rng.randrange(3)
        address = self.mutate(mode) if rng.random() < 0.5 else self.address(mode)
        self.set_csr("satp", SATP_MODES[mode] << 60 | self.asid << 44 | self.roots[mode].address >> 12)
        status = rng.choice((0, SUM)) | rng.choice((0, MXR)) | 3 << 13
        name = rng.choice((*ACCESS_SIZE, "fetch", "fetch", "fetch", "fetch", "ld", "sd"))
        privilege = rng.choice((0, 1))
        if name == "fetch":
            self.enter(privilege, address & ~1, status)
            self.end()
            return
        if self.scalar and rng.random() < 0.3:
            address ^= rng.choice((1 << rng.randrange(48, 64), rng.getrandbits(16) << 48, rng.getrandbits(7) << 57))
        while self.scalar and self.strays(mode, address):
            address = self.address(mode)
        if "amo" in name or "lr." in name:
            address &= -ACCESS_SIZE[name]
        elif name in CACHE and self.half is not None:
            # PMP has to cover the whole block. Spike asks for the byte that the address names, and zeroes a block in
            # parts, of which the first that is denied becomes tval.
            name = "sd"
        if name == "cbo.zero":
            # A fault of the others reports rs1, as the CMO chapter has it; that of this one, in Spike, the block.
            address &= -64
        elif rng.random() < 0.7:
            address &= -ACCESS_SIZE[name]
        if name in (*STORES, "fsw") and not self.zero_edges and (address & 0xFFF) + ACCESS_SIZE[name] > 0x1000:
            address &= -ACCESS_SIZE[name]
        near_edge = (address + 8 & 0xFFF) < 16
        value = 0 if address & ACCESS_SIZE[name] - 1 or (self.zero_edges and near_edge) else ECALL
        if rng.random() < 0.6:
            # The stubs are at the end of the chain, for this privilege.
            stub = (self.STUB_INDEX + (privilege == 0)) << 12
            for level in range(1, self.roots[mode].level + 1):
                stub |= self.STUB_INDEX << 12 + 9 * level
            top = 12 + 9 * (self.roots[mode].level + 1)
            stub |= MASK64 << top & MASK64
            asm.li(A1, address)
            asm.li(A7, value)
            self.enter(privilege, stub + STUB_OF[name], status)
        else:
            asm.li(A1, address)
            asm.li(A7, value)
            self.set_csr("mstatus", status | privilege << 11 | MPRV)
            asm.word(access_code(name))
            asm.li(5, MPRV)
            asm.op("csrrc", 0, 5, csr="mstatus")
        self.end()


# --- physical memory protection ---


class Protection(Frame):
    """Random PMP entries about the data, and accesses by all modes."""

    def __init__(self, seed: int, cases: int = 500, *, locks: bool = True) -> None:
        super().__init__(seed)
        self.seed, self.cases, self.locks = seed, cases, locks

    def boundary(self) -> int:
        rng = self.rng
        return DATA + rng.choice(
            (rng.randrange(0, 0x40, 4), 0x1000 + rng.randrange(-16, 20, 4), rng.randrange(0, DATA_PAGES << 12, 4))
        )

    def one(self) -> None:
        rng, asm = self.rng, self.asm
        self.begin()
        for _ in range(rng.randrange(4)):
            entry = rng.randrange(6)
            kind = rng.choice((1, 2, 3, 3))
            permissions = rng.randrange(8)
            address = self.boundary() >> 2
            if kind == 3:
                ones = rng.choice((0, 1, 2, 3, 8, 9, 10))
                address = address & -(1 << ones + 1) | (1 << ones) - 1
            lock = self.locks and rng.random() < 0.02 and (kind != 1 or entry > 0)
            self.set_csr(f"pmpaddr{entry}", address)
            if kind == 1 and entry > 0 and (lock or rng.random() < 0.5):
                self.set_csr(f"pmpaddr{entry - 1}", self.boundary() >> 2)
            byte = permissions | kind << 3 | lock << 7
            asm.li(5, 0xFF << 8 * entry)
            asm.op("csrrc", 0, 5, csr="pmpcfg0")
            asm.li(5, byte << 8 * entry)
            asm.op("csrrs", 0, 5, csr="pmpcfg0")
        # What the fields took, and the whole state.
        asm.csrr(A2 + 1, "pmpcfg0")
        asm.csrr(A2 + 2, f"pmpaddr{rng.randrange(6)}")
        asm.op("sfence.vma", 0, 0, 0)
        target = self.boundary() + rng.choice((0, 0, 0, 4, -4, 8, -8))
        # How much of a block its management checks is the implementation's choice.
        name = rng.choice((*sorted(set(ACCESS_SIZE) - set(CACHE)), "ld", "sd", "fetch", "fetch"))
        if name == "fetch":
            privilege = rng.choice((0, 1, 3))
            if target & 0xFFF in (0, 0xFFC) and rng.random() < 0.7:
                target = target & ~0xFFF | 0xFFE
            self.enter(privilege, target, 3 << 13)
            self.end()
            return
        # Misaligned accesses are checked in parts of the implementation's choice: not here.
        target &= -ACCESS_SIZE[name]
        asm.li(A1, target)
        asm.li(A7, ECALL)
        privilege = rng.choice((0, 1, 3))
        if privilege == 3:
            asm.word(access_code(name))
        elif rng.random() < 0.5:
            self.set_csr("mstatus", 3 << 13 | privilege << 11 | MPRV)
            asm.word(access_code(name))
            asm.li(5, MPRV)
            asm.op("csrrc", 0, 5, csr="mstatus")
        else:
            self.enter(privilege, STUBS + STUB_OF[name], 3 << 13)
        self.end()

    def build(self) -> Program:
        self.set_csr("menvcfg", 0xF0)
        self.set_csr("senvcfg", 0xF0)
        for _ in range(self.cases):
            self.one()
        return self.finish(f"PMP, seed {self.seed}")


# --- traps, delegation, interrupts, xRET ---

# The exceptions that the extensions here can raise below M-mode; which others medeleg takes is free.
DELEGABLE = 0xB1FE | 1 << 9


class Traps(Frame):
    """Random delegation, pending and enabled interrupts, vectors, and privileged instructions in every mode."""

    def __init__(self, seed: int, cases: int = 500, *, scalar: bool = False) -> None:
        super().__init__(seed, scalar=scalar)
        self.seed, self.cases = seed, cases

    def one(self) -> None:
        rng, asm = self.rng, self.asm
        asm.csrw("mie", 0)
        self.begin()
        # An ecall from S-mode is how its handler reports, hence not delegated.
        self.set_csr("medeleg", rng.choice((0, MASK64, rng.getrandbits(64))) & DELEGABLE & ~(1 << 9))
        self.set_csr("mideleg", rng.choice((0, MASK64, rng.getrandbits(64))))
        self.set_csr("stvec", STUBS + SUPERVISOR_VECTORS | rng.getrandbits(1))
        asm.la(5, "machine_vectors")
        if rng.random() < 0.5:
            asm.op("addi", 5, 5, imm=1)
        asm.csrw("mtvec", 5)
        self.set_csr("mcounteren", rng.choice((0, 0xFFFF_FFFF, rng.getrandbits(32))))
        self.set_csr("scounteren", rng.choice((0, 0xFFFF_FFFF, rng.getrandbits(32))))
        # Cleared first, for Spike keeps an STIP that software set when STCE makes it read-only.
        self.set_csr("menvcfg", 0)
        asm.csrw("mip", 0)
        self.set_csr("menvcfg", rng.choice((0, 1 << 63)) | rng.choice((0, 0xF0)))
        self.set_csr("stimecmp", rng.choice((0, MASK64)))
        if rng.random() < 0.3:
            # mtimecmp and msip of hart 0.
            asm.li(5, 0x200_4000)
            asm.li(6, rng.choice((0, MASK64)))
            asm.op("sd", 0, 5, 6)
            asm.li(5, 0x200_0000)
            asm.op("addi", 6, 0, imm=rng.getrandbits(1))
            asm.op("sw", 0, 5, 6)
            asm.op("fence", imm=0xFF)
        self.set_csr("mip", rng.getrandbits(14 if self.scalar else 12))
        asm.csrr(A2, "mip")
        asm.csrr(A2 + 1, "sip")
        asm.csrr(A2 + 2, "mideleg")
        asm.csrr(A2 + 3, "medeleg")
        privilege = rng.choice((0, 0, 1, 1, 1, 3))
        status = sum(
            bit for bit in (1 << 1, 1 << 3, 1 << 5, 1 << 7, 1 << 8, TVM, TW, TSR, MXR, SUM) if rng.random() < 0.5
        )
        status |= rng.choice((0, 3 << 13, 3 << 13))
        code = rng.choice(PRIVILEGED)
        wakes = False
        if code == WFI and (privilege == 3 or (privilege == 1 and not status & TW)):
            # It must not wait: SSI is pending and enabled, and not taken.
            wakes = True
            status &= ~(1 << 7) if privilege == 3 else ~(1 << 1)
            self.set_csr("mideleg", MASK64)
            self.set_csr("mip", 1 << 1)
        if privilege == 3 and code == MRET:
            code = PRIVILEGED[0]
        # Where an sret goes: not to itself, and not to sleep.
        self.set_csr("sepc", self.stub(rng.choice([raw for raw in STUB_CODE if raw not in (SRET, WFI)])))
        enabled = rng.choice((0, MASK64, rng.getrandbits(14 if self.scalar else 12)))
        self.set_csr("mie", enabled | wakes << 1)
        asm.li(A1, DATA)
        self.enter(privilege, self.stub(code), status)
        self.end()
        self.set_csr("mstatus", 3 << 13)

    @staticmethod
    def stub(raw: int) -> int:
        return STUBS + 16 * STUB_CODE.index(raw)

    def build(self) -> Program:
        for _ in range(self.cases):
            self.one()
        return self.finish(f"traps, seed {self.seed}")


# --- CSR fields ---

MISA = 0x301
# mstatus.MPP, and CBIE of senvcfg and menvcfg: what a field becomes when the reserved value 2 is written is free.
RESERVED_TWO = {0x300: 11, 0x10A: 4, 0x30A: 4}
# Fields whose writability is the implementation's choice: FIOM is read-only in Spike, counters without a function here
# have nothing to inhibit, and a lock would last.
WRITABLE = {
    0x10A: ~1,  # senvcfg
    0x30A: ~1,  # menvcfg
    0x302: DELEGABLE,  # medeleg
    0x320: 5,  # mcountinhibit
    0x3A0: 0x7F7F_7F7F_7F7F_7F7F,  # pmpcfg0
    0x3A2: 0x7F7F_7F7F_7F7F_7F7F,  # pmpcfg2
}
# Identity, and counters that run.
UNSHARED_CSRS = {0xF11, 0xF12, 0xF13, 0xB00, 0xB02, 0xC00, 0xC01, 0xC02}
# In Spike only: the debug specification's, and the numbers of PMP entries beyond the 16, which read as 0 there.
ABSENT_HERE = {*range(0x7A0, 0x7B4), 0x5A8, 0x6A8, *range(0x3A4, 0x3B0), *range(0x3C0, 0x3F0)}
# Of a hart with all scalar extensions: counters in Spike count nothing and select nothing, its triggers can do more,
# and it has custom state and the privilege modes' enables of other extensions.
TDATA1 = 0x7A1
WRITABLE_SCALAR = WRITABLE | {
    0x30C: STATE_ENABLES,
    0x10C: 0,
    0x747: 3 << 8,  # mseccfg
    0x320: 0x7D,
    TDATA1: 0x0240_07DF,  # hit, match, modes and accesses of mcontrol6
    0x7A3: 0,  # tdata3
    **dict.fromkeys(range(0x323, 0x327), 15 << 60),
    **dict.fromkeys(range(0x327, 0x340), 0),
    **dict.fromkeys(range(0xB03, 0xB20), 0),
}
UNSHARED_SCALAR = UNSHARED_CSRS | {0x015, 0x7A4}  # seed, tinfo
ABSENT_SCALAR = ABSENT_HERE - set(range(0x7A0, 0x7A5))


class Registers(Frame):
    """Reads and writes of every CSR number, from every mode."""

    RESERVED_TWO = RESERVED_TWO
    WRITABLE = WRITABLE
    # Registers whose fields others share.
    ALSO: tuple[str, ...] = ("sstatus", "sie", "sip", "fcsr")

    def __init__(self, seed: int, *, scalar: bool = False) -> None:
        super().__init__(seed, scalar=scalar)
        self.seed = seed
        if scalar:
            self.WRITABLE = WRITABLE_SCALAR
        self.unshared = UNSHARED_SCALAR if scalar else UNSHARED_CSRS
        self.absent = ABSENT_SCALAR if scalar else ABSENT_HERE

    def one(self, number: int) -> None:
        rng, asm = self.rng, self.asm
        values = [
            value & self.WRITABLE.get(number, MASK64) & MASK64
            for value in (MASK64, 0, rng.getrandbits(64), rng.getrandbits(64))
        ]
        rng.shuffle(values)
        self.begin()
        asm.csrr(A2, number)
        self.end()
        # Extensions may be switched off in Spike's misa.
        for value in values if number != MISA else []:
            self.begin()
            shift = self.RESERVED_TWO.get(number)
            if shift is not None and value >> shift & 3 == 2:
                value ^= 3 << shift
            if number == TDATA1:
                value |= 6 << 60
            asm.li(7, value)
            # Setting and clearing could make a reserved value.
            asm.op(
                "csrrw" if number in self.RESERVED_TWO or number == TDATA1 else rng.choice(("csrrw", "csrrs", "csrrc")),
                A2,
                7,
                csr=number,
            )
            asm.csrr(A2 + 1, number)
            asm.csrr(A2 + 2, rng.choice(self.ALSO))
            asm.csrr(A2 + 3, rng.choice(("mstatus", "mie", "mip", "satp")))
            self.restore()
            self.end()

    def restore(self) -> None:
        """Back to what the frame needs."""
        asm = self.asm
        asm.la(5, "machine_vectors")
        asm.csrw("mtvec", 5)
        asm.li(5, SAVE)
        asm.csrw("mscratch", 5)
        for csr in ("mie", "satp", "medeleg", "mideleg", "pmpcfg0"):
            asm.csrw(csr, 0)
        if self.scalar:
            asm.csrw("tdata1", 0)
            asm.csrw("tselect", 0)
            self.set_csr("mstateen0", STATE_ENABLES)
        asm.li(5, MASK64 >> 10)
        asm.csrw("pmpaddr15", 5)
        asm.li(5, 0x1F << 56)
        asm.csrw("pmpcfg2", 5)
        asm.li(5, 1 << 63)
        asm.csrw("menvcfg", 5)
        self.set_csr("stimecmp", MASK64)
        asm.csrw("menvcfg", 0)
        asm.li(5, 3 << 13)
        asm.csrw("mstatus", 5)

    def retired(self) -> None:
        """Writes of minstret, and what inhibits it."""
        asm = self.asm
        before = 0
        for inhibited in (0, 4, 4, 0):
            self.begin()
            self.set_csr("mcountinhibit", inhibited)
            if inhibited == before:  # whether the write itself counts by the old or the new setting is free
                asm.csrr(A2, "minstret")
            before = inhibited
            self.set_csr("minstret", self.rng.getrandbits(64))
            asm.csrr(A2 + 1, "minstret")
            asm.op("addi", 0, 0, imm=0)
            asm.csrr(A2 + 2, "minstret")
            asm.csrr(A2 + 3, "instret")
            self.end()

    def from_below(self, number: int, privilege: int, write: bool, status: int = 3 << 13) -> None:
        """The code for it is put into the data and run there."""
        asm = self.asm
        self.begin()
        target = 0 if write or number in self.unshared else A2
        raw = encode("csrrs", target, 0, csr=number) | (1 << 15 if write else 0)
        asm.li(5, DATA + 64)
        asm.li(6, raw)
        asm.op("sw", 0, 5, 6)
        asm.op("fence.i")
        asm.op("addi", 1, 0, imm=0)
        self.enter(privilege, DATA + 64, status)
        self.end()

    def build(self, numbers: list[int]) -> Program:
        rng = self.rng
        self.retired()
        for number in numbers:
            if number in self.absent:
                continue
            if number not in self.unshared:
                self.one(number)
            if self.scalar:
                self.set_csr("mstateen0", rng.choice((0, STATE_ENABLES)))
                self.set_csr("mstateen1", rng.choice((0, 1 << 63)))
                self.set_csr("mseccfg", rng.choice((0, 1, 2, 3)) << 8)
            self.set_csr("mcounteren", rng.choice((0, MASK64)))
            self.set_csr("scounteren", rng.choice((0, MASK64)))
            self.set_csr("menvcfg", rng.choice((0, 1 << 63)))
            for privilege in (0, 1):
                self.from_below(number, privilege, write=rng.random() < 0.3)
            self.set_csr("menvcfg", 0)
            self.set_csr("fcsr", 0)
        return self.finish(f"CSRs, seed {self.seed}")
