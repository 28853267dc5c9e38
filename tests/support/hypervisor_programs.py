"""Random programs for the hypervisor extension: two-stage walks, traps and interrupts of guests, CSRs, HLV and HSV.

They are `privileged_programs` with more modes and a longer log. Spike writes zero to ``mtinst`` and ``htinst`` where it
might write a transformed instruction: such a value is logged as zero, and `comparison` knows of it. Without guest
interrupt files bit 12 is absent here and not there: it is not drawn.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from .assembler import MASK64, RAM_BASE, encode
from .privileged_programs import (
    A0,
    A1,
    A2,
    A6,
    A7,
    ABSENT_HERE,
    ACCESS_SIZE,
    CACHE,
    DATA,
    DATA_PAGES,
    DELEGABLE,
    ECALL,
    LOADS,
    LOG,
    MPRV,
    MXR,
    PRIVILEGED,
    RESUMED,
    STORES,
    STUBS,
    SUM,
    TABLES,
    TSR,
    TVM,
    TW,
    UNSHARED_CSRS,
    WRITABLE,
    Frame,
    PageWalks,
    Registers,
    access_code,
)
from .random_programs import SATP_MODES, Program

MPV = 1 << 39
VTVM, VTW, VTSR, HU, SPVP, SPV = 1 << 20, 1 << 21, 1 << 22, 1 << 9, 1 << 8, 1 << 7
FS = 3 << 13
ADUE, STCE = 1 << 61, 1 << 63
SGEI = 1 << 12
GUEST_EXCEPTIONS = 1 << 10 | 0xF << 20
CLEARED = (
    "hedeleg",
    "hideleg",
    "hvip",
    "hcounteren",
    "htimedelta",
    "hgatp",
    "vsatp",
    "vsstatus",
    "hstatus",
    "vstvec",
    "vsscratch",
    "vsepc",
    "vscause",
    "vstval",
    "mtval2",
    "mtinst",
    "htval",
    "htinst",
    "stvec",
    "sepc",
    "scause",
    "stval",
)
# After the handler's slot number.
LOGGED = (
    "mcause",
    "mtval",
    "mepc",
    "mstatus",
    "mip",
    "mtval2",
    "mtinst",
    "hstatus",
    "htval",
    "htinst",
    "vsstatus",
    "vscause",
    "vstval",
    "vsepc",
    "scause",
    "stval",
    "sepc",
)
GUEST_LOG_ENTRY = 8 * (1 + len(LOGGED) + 6)
GUEST_LOG_ENTRIES = (TABLES - LOG) // GUEST_LOG_ENTRY - 1
GUEST_LOADS = ("hlv.b", "hlv.bu", "hlv.h", "hlv.hu", "hlvx.hu", "hlv.w", "hlv.wu", "hlvx.wu", "hlv.d")
GUEST_STORES = ("hsv.b", "hsv.h", "hsv.w", "hsv.d")
GUEST_SIZE = {name: {"b": 1, "h": 2, "w": 4, "d": 8}[name.split(".")[1][0]] for name in (*GUEST_LOADS, *GUEST_STORES)}


def guest_code(name: str) -> int:
    return encode(name, 0, A1, A7) if name in GUEST_STORES else encode(name, A2, A1)


HYPERVISOR = (
    [encode(name, 0, 0, 0) for name in ("hfence.vvma", "hfence.gvma", "hinval.vvma", "hinval.gvma")]
    + [encode(name, 0, A1, A2) for name in ("hfence.vvma", "hfence.gvma", "hinval.vvma", "hinval.gvma")]
    + [guest_code(name) for name in GUEST_SIZE]
    + [encode("csrrs", A2, 0, csr=csr) for csr in ("hstatus", "hip", "hvip", "vsip", "vsie", "hgatp", "vsatp", "hgeip")]
    + [encode("csrrs", A2, 0, csr=csr) for csr in ("vstimecmp", "time", "htimedelta", "mtinst", "vsstatus", "senvcfg")]
    + [encode("csrrw", A2, 0, csr=csr) for csr in ("hgatp", "hvip", "vsatp", "vsie", "hgeip", "htval", "vscause")]
    + [encode("csrrsi", A2, csr=csr, imm=2) for csr in ("vsip", "sie", "sip", "sstatus", "vsstatus")]
    + [encode("csrrsi", A2, csr="hvip", imm=4), encode("csrrci", A2, csr="hip", imm=4)]
    + [encode("csrrs", A2, 0, csr=0x5A0)]
    + [encode(name, 0, A1) for name in ("cbo.zero", "cbo.clean", "cbo.inval", "cbo.flush")]
    + [encode("wrs.nto"), encode("wrs.sto")]
)  # fmt: skip
# `time` runs: read where it traps, or into nothing.
TIME = encode("csrrs", A2, 0, csr="time")
CODE = [access_code(name) for name in ACCESS_SIZE] + PRIVILEGED + [raw for raw in HYPERVISOR if raw != TIME]
CODE.append(encode("csrrs", 0, 0, csr="time"))
STUB_PAGES = (16 * len(CODE) + 4095) // 4096 + 1
HANDLER = STUBS + (STUB_PAGES << 12) - 0x800
SRET, MRET, WFI = encode("sret"), encode("mret"), encode("wfi")
ADD_DOUBLE = encode("fadd.d", 1, 2, 3)
SAFE = (ADD_DOUBLE, *(access_code(name) for name in (*LOADS, *STORES)))


def stub(raw: int) -> int:
    return STUBS + 16 * CODE.index(raw)


class GuestFrame(Frame):
    """Handlers and a log that know of guests."""

    def _init(self) -> None:
        super()._init()
        asm = self.asm
        self.quiet_timers()
        for csr in CLEARED:
            asm.csrw(csr, 0)

    def quiet_timers(self) -> None:
        """Spike forgets VSTIP only where `vstimecmp` is written with STCE set."""
        asm = self.asm
        asm.csrw("htimedelta", 0)
        asm.li(5, STCE | ADUE | 0xF0)
        asm.csrw("menvcfg", 5)
        asm.csrw("henvcfg", 5)
        asm.li(6, MASK64)
        asm.csrw("stimecmp", 6)
        asm.csrw("vstimecmp", 6)
        asm.csrw("henvcfg", 0)
        asm.csrw("menvcfg", 0)

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
        asm.op("ld", 29, 31)
        asm.op("sd", 0, 29, 30)
        for i, csr in enumerate(LOGGED):
            asm.csrr(28, csr)
            if csr.endswith("tinst"):
                asm.op("andi", 30, 28, imm=1)
                asm.op("addi", 30, 30, imm=-1)
                asm.op("and", 28, 28, 30)
            asm.op("sd", 0, 29, 28, imm=8 + 8 * i)
        for i, register in enumerate((A0, A2, A2 + 1, A2 + 2, A2 + 3, A6)):
            asm.op("sd", 0, 29, register, imm=8 + 8 * len(LOGGED) + 8 * i)
        asm.li(28, MPRV)
        asm.op("csrrc", 0, 28, csr="mstatus")
        asm.li(28, LOG + GUEST_LOG_ENTRY * GUEST_LOG_ENTRIES)
        asm.op("bgeu", 0, 29, 28, imm=12)
        asm.op("addi", 29, 29, imm=GUEST_LOG_ENTRY)
        asm.op("sd", 0, 31, 29)
        # An interrupt is switched off in mie and the code goes on; likewise one that another handler reports.
        asm.csrr(28, "mcause")
        asm.jump("machine_interrupt", "blt", rs1=28)
        asm.op("addi", 30, 28, imm=-9)
        asm.op("sltiu", 28, 30, imm=2)
        asm.jump("next_case", "beq", rs1=28)
        asm.li(28, RESUMED)
        asm.jump("next_case", "bne", rs1=28, rs2=A7)
        asm.op("addi", 28, A2, imm=0)
        asm.jump("next_case", "bge", rs1=28)
        # What VS-mode numbers 1, 5 and 9 is 2, 6 and 10 elsewhere.
        asm.op("add", 28, 28, 30)
        self._leave_machine_handler()

    def _stubs(self) -> None:
        asm = self.asm
        for i, raw in enumerate(CODE):
            asm.org(STUBS + 16 * i)
            asm.word(raw)
            asm.op("ecall")
        asm.org(HANDLER)
        for slot in range(16):
            asm.jump(f"supervisor{slot}")
        for slot in range(16):
            asm.label(f"supervisor{slot}")
            asm.op("addi", A6, 0, imm=0x50 + slot)
            asm.jump("supervisor_trap")
        asm.label("supervisor_trap")
        asm.csrr(A2, "scause")
        asm.li(A7, RESUMED)
        asm.op("ecall")
        asm.op("addi", A7, 0, imm=0)
        asm.op("sret")
        asm.align(4096)

    def finish(self, name: str) -> Program:
        return replace(super().finish(name), hypervisor=True)


# --- traps, delegation, interrupts, virtual-instruction exceptions ---


class GuestTraps(GuestFrame):
    """Random delegation through both levels, virtual interrupts, and privileged instructions in all five modes."""

    def __init__(self, seed: int, cases: int = 500) -> None:
        super().__init__(seed)
        self.seed, self.cases = seed, cases

    def some(self, width: int) -> int:
        return self.rng.choice((0, MASK64, self.rng.getrandbits(width))) & (1 << width) - 1

    def flags(self, *choices: int) -> int:
        return sum(bit for bit in choices if self.rng.random() < 0.5)

    def delegate(self) -> None:
        rng, asm = self.rng, self.asm
        self.set_csr("medeleg", self.some(24) & (DELEGABLE & ~(1 << 9) | GUEST_EXCEPTIONS & ~(1 << 10)))
        self.set_csr("hedeleg", self.some(24) & ~(1 << 18))
        self.set_csr("mideleg", self.some(13))
        self.set_csr("hideleg", self.some(13))
        self.set_csr("stvec", HANDLER | rng.getrandbits(1))
        self.set_csr("vstvec", HANDLER | rng.getrandbits(1))
        asm.la(5, "machine_vectors")
        if rng.random() < 0.5:
            asm.op("addi", 5, 5, imm=1)
        asm.csrw("mtvec", 5)

    def one(self) -> None:
        rng, asm = self.rng, self.asm
        asm.csrw("mie", 0)
        self.begin()
        self.delegate()
        for csr in ("mcounteren", "hcounteren", "scounteren"):
            self.set_csr(csr, self.some(32))
        asm.csrw("hvip", 0)
        self.quiet_timers()
        asm.csrw("mip", 0)
        self.set_csr("menvcfg", self.flags(STCE, ADUE) | rng.choice((0, 0xF0, 0xC0, 0x30)))
        self.set_csr("henvcfg", self.flags(STCE, ADUE) | rng.choice((0, 0xF0, 0xC0, 0x30)))
        self.set_csr("senvcfg", rng.choice((0, 0xF0, 0xC0, 0x30)))
        self.set_csr("htimedelta", rng.choice((0, rng.getrandbits(63))))
        # In Spike a write of either clears what the other made pending: one is due at most, and is the last.
        for csr in rng.choice((("vstimecmp", "stimecmp"), ("stimecmp", "vstimecmp"))):
            self.set_csr(csr, MASK64)
        self.set_csr(csr, rng.choice((0, MASK64)))
        self.set_csr("mip", rng.getrandbits(12))
        self.set_csr("hvip", rng.getrandbits(12))
        if rng.random() < 0.5:
            self.set_csr(rng.choice(("vsip", "hip")), rng.getrandbits(12))
        self.set_csr("hstatus", self.flags(VTVM, VTW, VTSR, HU, SPVP, SPV))
        code = rng.choice(CODE)
        # Which instructions that may dirty the state do is free, but for those that surely do.
        contexts = (0, 1 << 13, 2 << 13, FS) if code == ADD_DOUBLE else (0, FS, FS)
        self.set_csr("vsstatus", self.flags(1 << 1, 1 << 5, 1 << 8, SUM, MXR) | rng.choice(contexts))
        self.set_csr("vscause", rng.getrandbits(64))
        asm.csrr(A2 + 1, rng.choice(("sip", "vsip", "hip", "hvip")))
        asm.csrr(A2 + 2, rng.choice(("hideleg", "hedeleg", "medeleg", "henvcfg")))
        asm.csrr(A2 + 3, rng.choice(("mip", "vsstatus", "sstatus", "hstatus")))
        guest = rng.random() < 0.65
        privilege = rng.choice((0, 1)) if guest else rng.choice((0, 1, 3))
        status = self.flags(1 << 1, 1 << 3, 1 << 5, 1 << 7, 1 << 8, TVM, TW, TSR, MXR, SUM) | (MPV if guest else 0)
        status |= rng.choice(contexts)
        if code == WFI and not status & TW:
            # It has to trap, for nothing may come.
            waits = privilege != 0 and not (guest and privilege == 1)
            if guest and privilege == 1:
                self.set_csr("hstatus", self.flags(VTVM, VTSR, HU, SPVP, SPV) | VTW)
            if waits:
                code = CODE[0]
        if privilege == 3 and code in (MRET, WFI):
            code = CODE[0]
        # Where an sret goes: not to itself, and not to sleep.
        sleepless = [raw for raw in CODE if raw not in (SRET, WFI) and (raw in SAFE or len(contexts) == 3)]
        self.set_csr("sepc", stub(rng.choice(sleepless)))
        self.set_csr("vsepc", stub(rng.choice(sleepless)))
        self.set_csr("mie", self.some(12))
        if rng.random() < 0.3:
            self.set_csr(rng.choice(("hie", "vsie", "sie")), rng.getrandbits(12))
        asm.li(A1, DATA)
        self.enter(privilege, stub(code), status)
        self.end()
        self.set_csr("mstatus", FS)

    def build(self) -> Program:
        for _ in range(self.cases):
            self.one()
        return self.finish(f"traps of guests, seed {self.seed}")


# --- two-stage walks ---

GUEST_TABLES = TABLES + 0x8_0000
GUEST_ROOTS = {"sv39": GUEST_TABLES, "sv48": GUEST_TABLES + 0x4000, "sv57": GUEST_TABLES + 0x8000}
# One table of 512 entries a level below the roots, and two last ones: guest physical addresses of the tables of the
# first stage, and of data and code.
LEVEL3, LEVEL2, LEVEL1, LEVEL0_TABLES, LEVEL0_DATA = (GUEST_TABLES + 0xC000 + (i << 12) for i in range(5))
ALL_FLAGS = 0xDF  # V, R, W, X, U, A, D
ALIAS = 1 << 30  # a second guest physical address of RAM


class TwoStage(GuestFrame, PageWalks):
    """Random tables in both stages, and accesses through them: by guests, HLV and HSV, and MPRV."""

    def __init__(self, seed: int, cases: int = 500) -> None:
        PageWalks.__init__(self, seed, cases)
        rng = self.rng
        self.guest: dict[int, int] = {}
        for root, below in (("sv39", None), ("sv48", LEVEL2), ("sv57", LEVEL3)):
            if below is not None:
                self.guest[GUEST_ROOTS[root]] = below >> 2 | 1
        self.guest[LEVEL3] = LEVEL2 >> 2 | 1
        for table, last in ((GUEST_ROOTS["sv39"], 2047), (LEVEL2, 511)):
            for index, entry in (
                (1, RAM_BASE >> 2 | ALL_FLAGS),
                (2, LEVEL1 >> 2 | 1),
                (last, RAM_BASE >> 2 | ALL_FLAGS),
            ):
                self.guest[table + 8 * index] = entry
        for index in range(8):
            below = {3: LEVEL0_TABLES, 4: LEVEL0_DATA}.get(index)
            entry = below >> 2 | 1 if below is not None else (RAM_BASE + (index << 21)) >> 2 | ALL_FLAGS
            self.guest[LEVEL1 + 8 * index] = entry
        for table, base in ((LEVEL0_TABLES, RAM_BASE + 0x60_0000), (LEVEL0_DATA, DATA)):
            for index in range(512):
                self.guest[table + 8 * index] = base + (index << 12) >> 2 | ALL_FLAGS
        # What may be damaged, and what it was: not the code's pages, and rarely what everything goes through.
        self.leaves = [LEVEL0_DATA + 8 * i for i in range(DATA_PAGES)]
        self.leaves += [LEVEL0_TABLES + 8 * ((t.address - RAM_BASE - 0x60_0000) >> 12) for t in self.tables[:-4]]
        self.trunks = [
            LEVEL1 + 8 * 3,
            LEVEL2 + 8,
            LEVEL2 + 8 * 511,
            GUEST_ROOTS["sv39"] + 8,
            GUEST_ROOTS["sv39"] + 8 * 2047,
        ]
        self.whole = dict(self.guest)
        for place in self.leaves:
            if rng.random() < 0.25:
                self.guest[place] = self.damaged(place)
        self.first = dict(self.guest)
        self.unfenced: set[int] = set()

    def damaged(self, place: int) -> int:
        """A second-stage entry with something wrong, or different."""
        rng, entry = self.rng, self.whole[place]
        kind = rng.random()
        if kind < 0.3:
            return entry & ~(1 << rng.choice((0, 1, 2, 3, 4)))
        if kind < 0.55:
            return entry & ~(rng.choice((1, 2, 3)) << 6)
        if kind < 0.63:
            return entry | 1 << rng.randrange(54, 64)
        if kind < 0.7:
            # To where there is neither memory nor a device.
            return entry ^ 1 << rng.choice((*range(22, 29), *range(34, 54)))
        if kind < 0.75:
            return rng.getrandbits(64)
        if kind < 0.8:
            return entry & ~0xE
        if LEVEL0_DATA <= place < LEVEL0_DATA + 0x1000:
            entry = DATA + (rng.randrange(DATA_PAGES) << 12) >> 2 | entry & 0x3FF
        return entry | rng.getrandbits(2) << 8 | rng.getrandbits(1) << 5

    def write_tables(self) -> None:
        super().write_tables()
        self.asm.org(GUEST_TABLES)
        content = bytearray(LEVEL0_DATA + 0x1000 - GUEST_TABLES)
        for place, entry in self.first.items():
            struct.pack_into("<Q", content, place - GUEST_TABLES, entry & MASK64)
        self.asm.content += content

    def fence(self, by_address: bool, by_asid: bool) -> None:
        operands = (0, 5 if by_address else 0, 6 if by_asid else 0)
        self.asm.op(self.rng.choice(("hfence.vvma", "hinval.vvma")), *operands)
        self.unfenced.update(range(8))
        self.unfenced.discard(self.vmid)

    def change_guest_entry(self) -> None:
        """One entry of the second stage, and the fence that it takes."""
        rng, asm = self.rng, self.asm
        place = rng.choice(self.leaves) if rng.random() < 0.9 else rng.choice(self.trunks)
        intact = self.guest[place] == self.whole[place]
        self.guest[place] = self.damaged(place) if intact or rng.random() < 0.2 else self.whole[place]
        asm.li(5, place)
        asm.li(6, self.guest[place])
        asm.op("sd", 0, 5, 6)
        by_address = place in self.leaves and rng.random() < 0.5
        by_vmid = rng.random() < 0.5
        if by_address:
            base = RAM_BASE + 0x60_0000 if place < LEVEL0_DATA else DATA
            page = place - (LEVEL0_TABLES if place < LEVEL0_DATA else LEVEL0_DATA) >> 3
            asm.li(5, base + (page << 12) >> 2)
        asm.li(6, self.vmid)
        asm.op(rng.choice(("hfence.gvma", "hinval.gvma")), 0, 5 if by_address else 0, 6 if by_vmid else 0)
        if by_vmid:
            self.unfenced.update(range(8))
            self.unfenced.discard(self.vmid)

    vmid = 0

    def enter_guest_space(self) -> str:
        """Chooses and sets hgatp; its mode."""
        rng, asm = self.rng, self.asm
        second = rng.choice(("bare", *GUEST_ROOTS, *GUEST_ROOTS))
        # A VMID keeps its mode.
        self.vmid = 0 if second == "bare" else 2 * list(GUEST_ROOTS).index(second) + rng.choice((1, 2))
        root = 0 if second == "bare" else GUEST_ROOTS[second] >> 12
        self.set_csr("hgatp", SATP_MODES[second] << 60 | self.vmid << 44 | root)
        if self.vmid in self.unfenced:
            self.unfenced.discard(self.vmid)
            asm.op("hfence.gvma", 0, 0, 0)
            asm.op("hfence.vvma", 0, 0, 0)
        return second

    def physical(self, second: str) -> int:
        """A guest physical address, for where there is no first stage."""
        rng = self.rng
        address = DATA + (rng.randrange(DATA_PAGES) << 12) | self.offset()
        if second == "bare" or rng.random() < 0.6:
            return address
        base = rng.choice((ALIAS, ALIAS, 511 << 30, 2047 << 30))
        address = base + address - RAM_BASE
        return address ^ 1 << rng.randrange(39, 64) if rng.random() < 0.2 else address

    def stub_address(self, name: str, privilege: int, first: str) -> int:
        place = 16 * list(ACCESS_SIZE).index(name)
        if first == "bare":
            return STUBS + place
        address = (self.STUB_INDEX + (privilege == 0)) << 12
        for level in range(1, self.roots[first].level + 1):
            address |= self.STUB_INDEX << 12 + 9 * level
        top = 12 + 9 * (self.roots[first].level + 1)
        return (address | MASK64 << top & MASK64) + place

    def one(self) -> None:
        rng, asm = self.rng, self.asm
        self.begin()
        if rng.random() < 0.1:
            self.set_csr("menvcfg", rng.choice((0, ADUE, ADUE)) | 0xF0)
            self.set_csr("henvcfg", rng.choice((0, ADUE, ADUE)) | 0xF0)
            self.set_csr("senvcfg", 0xF0)
            asm.op("hfence.gvma", 0, 0, 0)
            self.unfenced.update(range(8))
        if rng.random() < 0.05:
            self.protect()
            self.unfenced.update(range(8))
        second = self.enter_guest_space()
        if self.stale:
            asm.op("hfence.vvma", 0, 0, 0)
            self.stale = False
        if second != "bare" and rng.random() < 0.4:
            self.change_guest_entry()
        first = rng.choice(("bare", *self.roots, *self.roots, *self.roots))
        self.asid = rng.randrange(3)
        if first == "bare":
            address = self.physical(second)
            self.set_csr("vsatp", 0)
        else:
            address = self.mutate(first) if rng.random() < 0.3 else self.address(first)
            self.set_csr("vsatp", SATP_MODES[first] << 60 | self.asid << 44 | self.roots[first].address >> 12)
        self.set_csr("vsstatus", rng.choice((0, SUM)) | rng.choice((0, MXR)) | (FS if rng.random() < 0.97 else 0))
        self.set_csr("hstatus", rng.choice((0, SPVP)) | rng.choice((0, HU, HU)))
        self.access(address, first, rng.choice((0, SUM)) | rng.choice((0, 0, MXR)) | FS)
        self.end()

    def aligned(self, address: int, size: int, name: str) -> int:
        rng = self.rng
        if "amo" in name or "lr." in name or rng.random() < 0.7:
            address &= -size
        if name in (*STORES, "fsw", *GUEST_STORES) and not self.zero_edges and (address & 0xFFF) + size > 0x1000:
            address &= -size
        return address

    def access(self, address: int, first: str, status: int) -> None:
        rng, asm = self.rng, self.asm
        kind = rng.random()
        privilege = rng.choice((0, 1))
        near_edge = (address + 8 & 0xFFF) < 16
        if kind < 0.15:
            self.enter(privilege, address & ~1, status | MPV)
            return
        if kind < 0.45:
            name = rng.choice((*GUEST_SIZE, *GUEST_SIZE))
            size = GUEST_SIZE[name]
            address = self.aligned(address, size, name)
        else:
            # As though in a guest, Spike's GVA of cache-block management is that of the mode itself.
            names = [*ACCESS_SIZE, "ld", "sd", "sw"]
            name = rng.choice(names if kind < 0.75 else [name for name in names if name not in CACHE])
            if name in CACHE and self.half is not None:
                name = "sd"
            size = ACCESS_SIZE[name]
            address = address & -64 if name == "cbo.zero" else self.aligned(address, size, name)
        value = 0 if address & size - 1 or (self.zero_edges and near_edge) else ECALL
        asm.li(A1, address)
        asm.li(A7, value)
        if name in GUEST_SIZE:
            mode = rng.choice((0, 1, 3, 3))
            if mode == 3:
                self.set_csr("mstatus", status)
                asm.word(guest_code(name))
            else:
                self.enter(mode, stub(guest_code(name)), status)
        elif kind < 0.75:
            self.enter(privilege, self.stub_address(name, privilege, first), status | MPV)
        else:
            self.set_csr("mstatus", status | privilege << 11 | MPRV | MPV)
            asm.word(access_code(name))
            asm.li(5, MPRV)
            asm.op("csrrc", 0, 5, csr="mstatus")

    def build(self) -> Program:
        for _ in range(self.cases):
            self.one()
        return self.finish(f"two-stage walks, seed {self.seed}")


# --- CSR fields ---

GUEST_WRITABLE = WRITABLE | {
    0x302: DELEGABLE | GUEST_EXCEPTIONS,  # medeleg
    0x303: ~SGEI,  # mideleg
    0x304: ~SGEI,  # mie
    0x602: ~(1 << 18),  # hedeleg: that of software checks
    0x604: ~SGEI,  # hie
    0x60A: ~1,  # henvcfg
}


class GuestRegisters(GuestFrame, Registers):
    """Reads and writes of every CSR number, from all five modes."""

    RESERVED_TWO = Registers.RESERVED_TWO | {0x60A: 4}
    WRITABLE = GUEST_WRITABLE
    ALSO = ("hstatus", "vsstatus", "hip", "hie", "vsie", "vsip", "hvip", "sie", "sip", "sstatus")

    def restore(self) -> None:
        asm = self.asm
        Registers.restore(self)
        self.quiet_timers()
        for csr in ("hideleg", "hedeleg", "hvip", "hgatp", "vsatp", "hstatus", "vsstatus", "mip"):
            asm.csrw(csr, 0)

    def one_from(self, number: int) -> None:
        rng = self.rng
        for csr in ("mcounteren", "hcounteren", "scounteren"):
            self.set_csr(csr, rng.choice((0, MASK64)))
        self.set_csr("menvcfg", rng.choice((0, STCE, STCE)))
        self.set_csr("henvcfg", rng.choice((0, STCE, STCE)))
        self.set_csr("hstatus", rng.choice((0, VTVM)))
        self.set_csr("vsstatus", rng.choice((0, FS, FS)))
        status = FS | rng.choice((0, TVM))
        for mode in (0, 1, MPV, MPV | 1):
            self.from_below(number, mode & 3, write=rng.random() < 0.4, status=status | mode & MPV)
        self.restore()

    def build(self, numbers: list[int]) -> Program:
        for number in numbers:
            if number in ABSENT_HERE:
                continue
            # Those of mideleg read one in Spike.
            if number not in UNSHARED_CSRS and number not in (0x303,):
                self.one(number)
            self.one_from(number)
            self.set_csr("fcsr", 0)
        return self.finish(f"CSRs with guests, seed {self.seed}")
