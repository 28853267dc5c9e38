"""Fences on other harts: of translations taken away under stores, with A and D bits set, and of code that is called.

One hart, the manager, changes a page-table entry or an instruction that the others, the workers, use without a pause.
Then it has them fence: by an inter-processor interrupt whose handler does it and acknowledges (firmware in M-mode,
workers in S-mode), or by the SBI's RFENCE extension (all in S-mode, under the monitor's SBI). Where the fence is one
for guests the workers are in VS-mode, under a translation of one stage. What has to hold afterwards is counted where it
does not:

LATE       no store goes through the old entry any more
LOST       D is set in an entry through which something was stored
REVIVED    an entry that was made invalid stays so, whatever walk was going to set A and D in it
STRAYED    nothing is stored through one entry into the page that another had
OLD        a call behind the fence runs the new instruction
FUTURE     and never one that is not yet written
"""

from __future__ import annotations

from dataclasses import dataclass

import wirt
from wirt import isa

from .assembler import RAM_BASE, Assembler, encode

BASE = RAM_BASE + 0x20_0000
CELLS = RAM_BASE + 0x40_0000
ROOT = CELLS + 0x4000  # of four pages, as a second stage has it
MIDDLE, LAST = ROOT + 0x4000, ROOT + 0x5000
FRAMES = RAM_BASE + 0x50_0000
# Not a page that shares a place in the TLB with the cells: the entry has to survive the worker's other stores.
VIRTUAL = (1 << 30) + 0x5000
ERRORS = ("LATE", "LOST", "REVIVED", "STRAYED", "OLD", "FUTURE")
POWER_OFF = 0x10_0000
# From CELLS on, a line each.
READY, ANNOUNCED, BEGUN, BROKEN, OUTPUT, MAPPED = 0, 128, 256, 384, 512, 640
PROGRESS, ACKNOWLEDGED, FAULTS = 1024, 1152, 1280  # of the first worker
LINES_OF_HART = 512
MSIP, MSIE = 0x200_0000, 1 << 3
VALID, READ, WRITE, USER, ACCESSED, DIRTY = 1, 2, 4, 16, 64, 128
ADUE = 1 << 61
MPV, SPV = 1 << 39, 1 << 7
RFENCE, HSM, HART_START = 0x52464E43, 0x48534D, 0

# The ways to fence: what the RFENCE extension numbers it, and the instruction.
FENCES = {
    "fence.i": (0, "fence.i"),
    "sfence.vma": (1, "sfence.vma"),
    "sfence.vma by ASID": (2, "sfence.vma"),
    "hfence.gvma by VMID": (3, "hfence.gvma"),
    "hfence.gvma": (4, "hfence.gvma"),
    "hfence.vvma by ASID": (5, "hfence.vvma"),
    "hfence.vvma": (6, "hfence.vvma"),
}
ASID = 5  # and the VMID
CELL, CHANGES, ENTRY, COUNT, PAGE = 8, 9, 18, 19, 20  # s0 to s4: what all code keeps
RA, A0, A1, A2, A3, A4, A6, A7 = 1, 10, 11, 12, 13, 14, 16, 17
T0, T1, T2 = 5, 6, 7
H0, H1, H2 = 28, 29, 30  # the handlers'


@dataclass(frozen=True)
class Report:
    """What a run counted."""

    changes: int
    errors: dict[str, int]
    accesses: int
    faults: int


class RemoteFences:
    """The programs of a manager and its workers."""

    def __init__(
        self, fence: str, changes: int, *, sbi: bool, workers: int = 1, near: bool = False, forgetful: bool = False
    ) -> None:
        """With `near`, what is called is in the worker's own page; with `forgetful`, its handler does not fence."""
        self.function, self.instruction = FENCES[fence]
        self.fence, self.changes, self.sbi, self.workers, self.near = fence, changes, sbi, workers, near
        self.forgetful = forgetful
        self.by_space = "by" in fence
        if not 1 <= workers <= 2 or (near and workers > 1):
            raise ValueError("one worker, or two that call the same code")
        if fence == "fence.i" and changes > 2047:
            raise ValueError("the function returns an immediate: 2047 changes at most")
        self.asm = Assembler(BASE if sbi else RAM_BASE)
        self._labels = 0
        self._build()

    @property
    def guest(self) -> bool:
        return self.instruction.startswith("h")

    @property
    def second_stage(self) -> bool:
        return self.instruction == "hfence.gvma"

    # --- small change ---

    def fresh(self) -> str:
        self._labels += 1
        return f"label{self._labels}"

    def wrong(self, error: str) -> None:
        """Counts one."""
        asm = self.asm
        place = BROKEN + 8 * ERRORS.index(error)
        asm.op("ld", T0, CELL, imm=place)
        asm.op("addi", T0, T0, imm=1)
        asm.op("sd", 0, CELL, T0, imm=place)

    def full_fence(self) -> None:
        self.asm.op("fence", imm=0x33)

    # --- all harts ---

    def _build(self) -> None:
        asm = self.asm
        if self.sbi:
            asm.op("addi", T0, A0, imm=0)
        else:
            asm.csrr(T0, "mhartid")
        asm.li(CELL, CELLS)
        for hart in range(1, self.workers + 1):
            asm.op("addi", T1, T0, imm=-hart)
            asm.op("bne", 0, T1, 0, imm=8)
            asm.jump(f"worker{hart}")
        self._manager()
        for hart in range(1, self.workers + 1):
            self._worker(hart)
        for hart in range(1, self.workers + 1):
            self._handler(hart)
        asm.align(4096)
        asm.label("function")
        asm.word(encode("addi", A0, 0, imm=0))
        asm.op("jalr", 0, RA)

    # --- the manager ---

    def _manager(self) -> None:
        asm = self.asm
        self._tables()
        self.full_fence()
        asm.op("addi", T0, 0, imm=1)
        asm.op("sd", 0, CELL, T0, imm=MAPPED)
        if self.sbi:
            for hart in range(1, self.workers + 1):
                asm.li(A0, hart)
                asm.la(A1, "entry")
                asm.li(A2, 0)
                asm.li(A6, HART_START)
                asm.li(A7, HSM)
                asm.op("ecall")
        # Until all are at work.
        asm.label("awaited")
        asm.op("ld", T0, CELL, imm=READY)
        asm.op("addi", T0, T0, imm=-self.workers)
        asm.jump("awaited", "bne", rs1=T0)
        asm.li(CHANGES, 0)
        asm.li(ENTRY, LAST + (VIRTUAL >> 9 & 0xFF8))
        asm.label("change")
        asm.op("addi", CHANGES, CHANGES, imm=1)
        if self.fence == "fence.i":
            self._change_code()
        else:
            self._change_translation()
        asm.li(T0, self.changes)
        asm.jump("change", "bne", rs1=CHANGES, rs2=T0)
        asm.op("sd", 0, CELL, CHANGES, imm=OUTPUT)
        asm.li(T0, POWER_OFF)
        asm.li(T1, 0x5555)
        asm.op("sw", 0, T0, T1)
        asm.label("asleep")
        asm.op("wfi")
        asm.jump("asleep")
        if self.sbi:
            asm.label("entry")
            asm.li(CELL, CELLS)
            for hart in range(1, self.workers + 1):
                asm.op("addi", T1, A0, imm=-hart)
                asm.op("bne", 0, T1, 0, imm=8)
                asm.jump(f"worker{hart}")

    def _tables(self) -> None:
        """One way to the page, and for S-mode a gigapage of all memory as it is."""
        asm = self.asm
        for place, entry in (
            (ROOT + 8 * 1, MIDDLE >> 2 | VALID),
            (ROOT + 8 * 2, RAM_BASE >> 2 | 0xCF | (USER if self.second_stage else 0)),
            (MIDDLE, LAST >> 2 | VALID),
        ):
            asm.li(T0, place)
            asm.li(T1, entry)
            asm.op("sd", 0, T0, T1)

    def _wait_while(self, branch: str, cell: int, than: int) -> None:
        """As long as a cell, as t0, compares so with a register."""
        again = self.fresh()
        self.asm.label(again)
        self.asm.op("pause")
        self.asm.op("ld", T0, CELL, imm=cell)
        self.asm.jump(again, branch, rs1=T0, rs2=than)

    def _wait_for_progress(self) -> None:
        """Until each worker has made two more rounds: the second began after this."""
        asm = self.asm
        self.full_fence()
        for hart in range(1, self.workers + 1):
            progress = PROGRESS + LINES_OF_HART * (hart - 1)
            asm.op("ld", T1, CELL, imm=progress)
            asm.op("addi", T1, T1, imm=2)
            self._wait_while("blt", progress, T1)
        self.full_fence()

    def _fence_workers(self) -> None:
        asm = self.asm
        if self.sbi:
            asm.li(A0, sum(1 << hart for hart in range(1, self.workers + 1)))
            asm.li(A1, 0)
            asm.li(A2, VIRTUAL)
            asm.li(A3, 4096)
            asm.li(A4, ASID)
            asm.li(A6, self.function)
            asm.li(A7, RFENCE)
            asm.op("ecall")
            refused = self.fresh()
            asm.jump(refused, "beq", rs1=A0)
            self.wrong("OLD" if self.fence == "fence.i" else "LATE")
            asm.label(refused)
            return
        self.full_fence()
        asm.li(T0, MSIP)
        asm.li(T1, 1)
        for hart in range(1, self.workers + 1):
            asm.op("sw", 0, T0, T1, imm=4 * hart)
        for hart in range(1, self.workers + 1):
            self._wait_while("bne", ACKNOWLEDGED + LINES_OF_HART * (hart - 1), CHANGES)
        self.full_fence()

    def _change_translation(self) -> None:
        asm = self.asm
        # The page: each of two by turns.
        asm.op("andi", PAGE, CHANGES, imm=1)
        asm.op("slli", PAGE, PAGE, imm=12)
        asm.li(T0, FRAMES)
        asm.op("add", PAGE, PAGE, T0)
        for hart in range(1, self.workers + 1):  # what is in both pages before
            asm.op("ld", 20 + hart, PAGE, imm=8 * hart)
        asm.li(T1, 4096)
        asm.op("xor", T2, PAGE, T1)
        asm.op("ld", 24, T2, imm=8)
        asm.op("srli", T0, PAGE, imm=2)
        flags = VALID | READ | WRITE | (USER if self.second_stage else 0)
        asm.op("addi", T0, T0, imm=flags)
        asm.op("sd", 0, ENTRY, T0)
        self._wait_for_progress()
        asm.op("amoswap.d", COUNT, ENTRY, 0)  # what it was, A and D with it
        self._fence_workers()
        for hart in range(1, self.workers + 1):
            asm.op("ld", T0, PAGE, imm=8 * hart)
            # D, where something was stored.
            unchanged, dirty = self.fresh(), self.fresh()
            asm.jump(unchanged, "beq", rs1=T0, rs2=20 + hart)
            asm.op("andi", T1, COUNT, imm=DIRTY)
            asm.jump(dirty, "bne", rs1=T1)
            self.wrong("LOST")
            asm.op("ld", T0, PAGE, imm=8 * hart)
            asm.label(dirty)
            asm.label(unchanged)
            # And nothing later.
            asm.op("addi", 20 + hart, T0, imm=0)
        asm.li(T1, 100)
        asm.op("addi", T1, T1, imm=-1)
        asm.op("bne", 0, T1, 0, imm=-4)
        for hart in range(1, self.workers + 1):
            right = self.fresh()
            asm.op("ld", T0, PAGE, imm=8 * hart)
            asm.jump(right, "beq", rs1=T0, rs2=20 + hart)
            self.wrong("LATE")
            asm.label(right)
        right, intact = self.fresh(), self.fresh()
        asm.li(T1, 4096)
        asm.op("xor", T2, PAGE, T1)
        asm.op("ld", T0, T2, imm=8)
        asm.jump(intact, "beq", rs1=T0, rs2=24)
        self.wrong("STRAYED")
        asm.label(intact)
        asm.op("ld", T0, ENTRY)
        asm.jump(right, "beq", rs1=T0)
        self.wrong("REVIVED")
        asm.label(right)

    def _change_code(self) -> None:
        asm = self.asm
        asm.op("sd", 0, CELL, CHANGES, imm=BEGUN)
        self.full_fence()
        asm.op("slli", T0, CHANGES, imm=20)
        asm.li(T1, encode("addi", A0, 0))
        asm.op("or", T0, T0, T1)
        asm.la(T1, self._function(1))
        asm.op("sw", 0, T1, T0)
        self._fence_workers()
        asm.op("sd", 0, CELL, CHANGES, imm=ANNOUNCED)
        self._wait_for_progress()

    def _function(self, hart: int) -> str:
        return f"near{hart}" if self.near else "function"

    # --- a worker ---

    def _worker(self, hart: int) -> None:
        asm = self.asm
        asm.align(4096)
        asm.label(f"worker{hart}")
        unmapped = self.fresh()
        asm.label(unmapped)
        asm.op("ld", T0, CELL, imm=MAPPED)
        asm.jump(unmapped, "beq", rs1=T0)
        self.full_fence()
        mode = "s" if self.sbi else "m"
        asm.la(T0, f"handler{hart}")
        asm.csrw(f"{mode}tvec", T0)
        root = 8 << 60 | ASID << 44 | ROOT >> 12
        if not self.sbi:
            asm.li(T0, (1 << 54) - 1)
            asm.csrw("pmpaddr0", T0)
            asm.li(T0, 0x1F)
            asm.csrw("pmpcfg0", T0)
            asm.li(T0, MSIE)
            asm.csrw("mie", T0)
            asm.li(T0, ADUE)
            asm.csrw("menvcfg", T0)
        asm.li(T0, root)
        if self.guest:
            asm.csrw("hgatp" if self.second_stage else "vsatp", T0)
            asm.csrw("vsatp" if self.second_stage else "hgatp", 0)
            asm.li(T0, ADUE)
            asm.csrw("henvcfg", T0)
        else:
            asm.csrw("satp", T0)
        asm.op("sfence.vma")
        if not self.sbi:
            asm.li(T0, 3 << 11)
            asm.op("csrrc", 0, T0, csr="mstatus")
            asm.li(T0, 1 << 11 | self.guest * MPV)
            asm.op("csrrs", 0, T0, csr="mstatus")
        elif self.guest:
            asm.li(T0, SPV)
            asm.csrw("hstatus", T0)
        if self.guest or not self.sbi:
            # Into S-mode, or VS-mode.
            asm.la(T0, f"work{hart}")
            asm.csrw(f"{mode}epc", T0)
            if self.sbi:
                asm.li(T0, 1 << 8)
                asm.op("csrrs", 0, T0, csr="sstatus")
            asm.op(f"{mode}ret")
        asm.label(f"work{hart}")
        asm.li(COUNT, 0)
        asm.li(PAGE, VIRTUAL)
        asm.op("addi", T0, CELL, imm=READY)
        asm.li(T1, 1)
        asm.op("amoadd.d", 0, T0, T1)
        asm.label(f"again{hart}")
        asm.op("addi", COUNT, COUNT, imm=1)
        if self.fence == "fence.i":
            asm.op("ld", 21, CELL, imm=ANNOUNCED)
            self.full_fence()
            asm.jump(self._function(hart), rd=RA)
            self.full_fence()
            asm.op("ld", 22, CELL, imm=BEGUN)
            new, past = self.fresh(), self.fresh()
            asm.jump(new, "bge", rs1=A0, rs2=21)
            self.wrong("OLD")
            asm.label(new)
            asm.jump(past, "bge", rs1=22, rs2=A0)
            self.wrong("FUTURE")
            asm.label(past)
        else:
            asm.op("sd", 0, PAGE, COUNT, imm=8 * hart)
            asm.op("ld", T1, PAGE, imm=8 * hart)
        asm.op("sd", 0, CELL, COUNT, imm=PROGRESS + LINES_OF_HART * (hart - 1))
        asm.jump(f"again{hart}")
        if self.near:
            asm.label(f"near{hart}")
            asm.word(encode("addi", A0, 0, imm=0))
            asm.op("jalr", 0, RA)

    def _handler(self, hart: int) -> None:
        """Of page faults, which skip the access, and of the interrupt that asks for a fence."""
        asm = self.asm
        mode = "s" if self.sbi else "m"
        asm.align(4)
        asm.label(f"handler{hart}")
        asm.csrr(H0, f"{mode}cause")
        if not self.sbi:
            asm.jump(f"fault{hart}", "bge", rs1=H0)
            asm.li(H0, MSIP)
            asm.op("sw", 0, H0, 0, imm=4 * hart)
            self.full_fence()
            if not self.forgetful:
                self._local_fence()
            asm.op("ld", H0, CELL, imm=ACKNOWLEDGED + LINES_OF_HART * (hart - 1))
            asm.op("addi", H0, H0, imm=1)
            self.full_fence()
            asm.op("sd", 0, CELL, H0, imm=ACKNOWLEDGED + LINES_OF_HART * (hart - 1))
            asm.op("mret")
            asm.label(f"fault{hart}")
        asm.csrr(H0, f"{mode}epc")
        asm.op("addi", H0, H0, imm=4)
        asm.csrw(f"{mode}epc", H0)
        asm.op("ld", H0, CELL, imm=FAULTS + LINES_OF_HART * (hart - 1))
        asm.op("addi", H0, H0, imm=1)
        asm.op("sd", 0, CELL, H0, imm=FAULTS + LINES_OF_HART * (hart - 1))
        asm.op(f"{mode}ret")

    def _local_fence(self) -> None:
        asm = self.asm
        if self.fence == "fence.i":
            asm.op("fence.i")
            return
        # HFENCE.GVMA takes the guest physical address shifted by two.
        asm.li(H1, VIRTUAL >> (2 if self.second_stage else 0))
        asm.li(H2, ASID)
        asm.op(self.instruction, 0, H1, H2 if self.by_space else 0)

    # --- a run ---

    def run(self, timeout: float = 600) -> Report:
        """Runs the program to its end on harts in threads of the host."""
        image = {"kernel" if self.sbi else "firmware": self.asm.elf()}
        text = isa.DEFAULT + "_h"
        with wirt.Machine(memory="16M", cpus=self.workers + 1, isa=text, **image) as vm:  # type: ignore[arg-type]
            vm.start()
            if not vm.wait(timeout):
                raise TimeoutError("the manager did not reach the end")
            cells = memoryview(bytes(vm.memory[CELLS : CELLS + 4096])).cast("Q")
        harts = [LINES_OF_HART * i for i in range(self.workers)]
        return Report(
            cells[OUTPUT // 8],
            {error: cells[BROKEN // 8 + i] for i, error in enumerate(ERRORS) if cells[BROKEN // 8 + i]},
            sum(cells[(PROGRESS + at) // 8] for at in harts),
            sum(cells[(FAULTS + at) // 8] for at in harts),
        )
