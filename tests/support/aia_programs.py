"""Random programs for Smaia and Ssaia: what the registers that decide on interrupts make of each other.

Spike has no IMSIC and priorities of the default order only: none is set, and of ``mtopi`` and ``stopi`` the identity
is compared. It takes a virtual interrupt again at the first instruction of its handler, with SIE clear, without end:
none is taken here.
"""

from __future__ import annotations

from dataclasses import replace

from .assembler import MASK64
from .privileged_programs import A2, Frame
from .random_programs import Program

SSI_AND_SEI = 1 << 1 | 1 << 9
# Interrupts of the hypervisor extension, which Spike has here and Wirt has not.
HYPERVISOR = 1 << 2 | 1 << 6 | 1 << 10 | 1 << 12
CONTROLS = ("mideleg", "mvien", "mvip", "mip", "mie", "sie", "sip")


class VirtualInterrupts(Frame):
    """Random writes of what decides on interrupts, and all its views after them."""

    def __init__(self, seed: int, cases: int = 500) -> None:
        super().__init__(seed)
        self.seed, self.cases = seed, cases

    def one(self) -> None:
        rng, asm = self.rng, self.asm
        self.begin()
        self.set_csr("menvcfg", 0)
        asm.csrw("mip", 0)
        self.set_csr("menvcfg", rng.choice((0, 1 << 63)))
        self.set_csr("stimecmp", rng.choice((0, MASK64)))
        for csr in rng.choices(CONTROLS, k=6):
            value = rng.choice((0, MASK64, SSI_AND_SEI, rng.getrandbits(12), rng.getrandbits(64)))
            asm.li(5, value & ~HYPERVISOR)
            asm.op(rng.choice(("csrrw", "csrrs", "csrrc")), 0, 5, csr=csr)
        # What came of it, thirteen bits a view.
        asm.li(6, ~HYPERVISOR)
        for i, views in enumerate((("mip", "sip", "mvip", "sie"), ("mie", "mideleg", "mvien"))):
            asm.op("addi", A2 + i, 0, imm=0)
            for csr in views:
                asm.csrr(5, csr)
                asm.op("and", 5, 5, 6)
                asm.op("slli", A2 + i, A2 + i, imm=13)
                asm.op("add", A2 + i, A2 + i, 5)
        for i, csr in enumerate(("mtopi", "stopi")):
            asm.csrr(A2 + 2 + i, csr)
            asm.op("srli", A2 + 2 + i, A2 + 2 + i, imm=16)
        self.end()

    def build(self) -> Program:
        for _ in range(self.cases):
            self.one()
        program = self.finish(f"virtual interrupts, seed {self.seed}")
        return replace(program, aia=True)
