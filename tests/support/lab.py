"""A hart at rest, which executes what it is given, one instruction at a time."""

from __future__ import annotations

import struct

import wirt
from support.assembler import encode
from wirt import Privilege

CODE = 0x8000_1000
HANDLER = 0x8000_2000
ILLEGAL = 2
ALL = (1 << 64) - 1
STCE = 1 << 63
NOP = 0x13


class Lab:
    """A hart at rest, which executes what it is given."""

    def __init__(self, vm: wirt.Machine) -> None:
        self.vm, self.hart = vm, vm.harts[0]
        self.csr, self.x = self.hart.csr, self.hart.x
        # All of memory is open to every mode.
        self.csr["pmpaddr0"], self.csr["pmpcfg0"] = ALL >> 10, 0x1F
        self.csr["mtvec"] = self.csr["stvec"] = HANDLER
        self.vm.memory[HANDLER : HANDLER + 4] = struct.pack("<I", NOP)
        self.csr["menvcfg"] = STCE
        self.csr["stimecmp"] = ALL

    def run(self, raw: int = NOP, mode: Privilege = Privilege.machine) -> int | None:
        """Steps over one instruction in a mode; the cause of the trap, if there was one."""
        self.vm.memory[CODE : CODE + 8] = struct.pack("<II", raw, NOP)
        self.csr["mcause"] = self.csr["scause"] = 0x123
        self.hart.privilege = mode
        self.hart.pc = CODE
        self.vm.step()
        causes = {self.csr["mcause"], self.csr["scause"]} - {0x123}
        assert len(causes) <= 1
        return causes.pop() if causes else None

    def access(self, csr: str | int, name: str = "csrrs", operand: int = 0, mode: Privilege = Privilege.machine) -> int:
        """What one CSR instruction reads; it does not trap. Without an operand rs1 is x0."""
        self.x["t1"] = operand
        assert self.run(encode(name, 5, 6 if operand else 0, csr=csr), mode) is None, csr
        return self.x["t0"]

    def illegal(self, csr: str | int, mode: Privilege = Privilege.machine, *, write: bool = False) -> bool:
        cause = self.run(encode("csrrw" if write else "csrrs", 5, 6 if write else 0, csr=csr), mode)
        assert cause in (None, ILLEGAL)
        return cause == ILLEGAL
