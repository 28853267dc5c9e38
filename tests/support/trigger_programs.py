"""Random programs for Sdtrig: triggers on addresses of code and data, and what is executed and accessed about them."""

from __future__ import annotations

from .assembler import MASK64
from .privileged_programs import (
    A1,
    ACCESS_SIZE,
    CACHE,
    DATA,
    MPRV,
    STUB_OF,
    STUBS,
    SUPERVISOR_VECTORS,
    Frame,
    access_code,
)
from .random_programs import Program

MIE, SIE, MPIE, SPIE = 1 << 3, 1 << 1, 1 << 7, 1 << 5
EQUAL, NAPOT, NOT_BELOW, BELOW, MASK_LOW, MASK_HIGH = range(6)


class TriggerHits(Frame):
    """One or two triggers, then an access or a jump near what they watch."""

    def __init__(self, seed: int, cases: int = 500) -> None:
        super().__init__(seed, scalar=True)
        self.seed, self.cases = seed, cases

    def compared(self, match: int, address: int, fetch: bool) -> int:
        """tdata2 that matches the address or its neighbours. Of code Spike compares both halves of an instruction, and
        Wirt the first: nothing here tells them apart."""
        rng = self.rng
        if match == NAPOT:
            ones = rng.choice((1, 2, 3, 4, 11, 12, 20, 29))
            return address & -(2 << ones) | (1 << ones) - 1
        if match in (MASK_LOW, MASK_HIGH):
            mask = rng.getrandbits(32) & (0xFFFF_FFFC if fetch else 0xFFFF_FFFF)
            part = address >> 32 if match == MASK_HIGH else address & 0xFFFF_FFFF
            return mask << 32 | part & mask
        return address

    def arm(self, index: int, name: str, target: int) -> None:
        rng = self.rng
        match = rng.choice((EQUAL, EQUAL, NAPOT, NAPOT, NOT_BELOW, BELOW, MASK_LOW, MASK_HIGH, rng.randrange(16)))
        fetch = name == "fetch"
        kinds = 4 if fetch else rng.choice((1, 2, 3))
        step = 4 if fetch else 1
        address = target + rng.choice((0, 0, 0, 0, rng.randrange(-8, 9) * step)) & MASK64
        modes = rng.choice((0x58, 0x58, 0x40, 0x10, 8, 0x18))
        self.set_csr("tselect", index)
        self.set_csr("tdata2", self.compared(match, address, fetch))
        self.set_csr("tdata1", 6 << 60 | match << 7 | modes | kinds)

    def one(self) -> None:
        rng, asm = self.rng, self.asm
        self.begin()
        name = rng.choice((*sorted(set(ACCESS_SIZE) - set(CACHE)), "fetch", "fetch", "fetch", "fetch"))
        stub = STUBS + STUB_OF["ld" if name == "fetch" else name]
        target = stub if name == "fetch" else DATA + rng.choice((0, 0x1000, rng.randrange(0x4000)))
        if name != "fetch":
            target += rng.randrange(-8, 9) if target > DATA else 0
            target &= -ACCESS_SIZE[name]
        self.set_csr("medeleg", rng.choice((0, 1 << 3)))
        self.set_csr("stvec", STUBS + SUPERVISOR_VECTORS)
        indices = rng.sample(range(4), rng.choice((1, 1, 2)))
        for index in indices:
            self.arm(index, name, target)
        asm.li(A1, target if name != "fetch" else DATA + 64)
        asm.op("addi", 17, 0, imm=0)
        privilege = rng.choice((0, 0, 1, 1, 3))
        status = 3 << 13 | sum(bit for bit in (SIE, SPIE, MPIE) if rng.random() < 0.7)
        if privilege == 3 and name != "fetch":
            enabled = MIE if rng.random() < 0.7 else 0
            through = rng.choice((0, MPRV)) | rng.choice((0, 1, 3)) << 11
            self.set_csr("mstatus", status | enabled | through)
            asm.word(access_code(name))
            asm.li(5, MPRV | MIE)
            asm.op("csrrc", 0, 5, csr="mstatus")
        else:
            self.enter(privilege, stub, status)
        self.end()
        # What was hit, and the end of it.
        for i, index in enumerate(indices):
            self.set_csr("tselect", index)
            asm.csrr(6, "tdata1")
            asm.li(5, DATA + 0x8000 + 8 * (2 * self.case + i))
            asm.op("sd", 0, 5, 6)
            asm.csrw("tdata1", 0)
        self.set_csr("mstatus", 3 << 13)

    def build(self) -> Program:
        self.set_csr("menvcfg", 0xF0)
        self.set_csr("senvcfg", 0xF0)
        for _ in range(self.cases):
            self.one()
        return self.finish(f"triggers, seed {self.seed}")
