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
MPV = 1 << 39
IMSIC_S = 0x2800_0000


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


class GuestLab(Lab):
    """Steps over instructions in VS- and VU-mode as well."""

    def guest(self, raw: int = NOP, mode: Privilege = Privilege.supervisor) -> int | None:
        """Steps over one instruction of a guest; the cause of the trap into M-mode, if there was one."""
        width = 4 if raw & 3 == 3 else 2
        self.vm.memory[CODE : CODE + 4 + width] = raw.to_bytes(width, "little") + struct.pack("<I", NOP)
        self.csr["mcause"] = 0x123
        self.enter(CODE, mode)
        self.vm.step()
        cause = self.csr["mcause"]
        return None if cause == 0x123 else cause

    def enter(self, pc: int, mode: Privilege = Privilege.supervisor) -> None:
        self.hart.privilege = Privilege.machine
        level = {Privilege.user: 0, Privilege.supervisor: 1}[mode]
        self.csr["mstatus"] = self.csr["mstatus"] & ~(3 << 11 | 1 << 3) | level << 11 | MPV | 3 << 13
        self.csr["mepc"] = pc
        self.vm.memory[CODE - 4 : CODE] = struct.pack("<I", encode("mret"))
        self.hart.pc = CODE - 4
        self.vm.step()
        assert self.hart.virtualized
        assert self.hart.pc == pc

    def guest_access(self, csr: str | int, name: str = "csrrs", operand: int = 0) -> int:
        self.x["t1"] = operand
        assert self.guest(encode(name, 5, 6 if operand else 0, csr=csr)) is None, csr
        return self.x["t0"]

    def guest_file(self, file: int, select: int, value: int | None = None) -> int:
        self.csr["hstatus"] = file << 12
        self.csr["vsiselect"] = select
        if value is not None:
            self.csr["vsireg"] = value
        return self.csr["vsireg"]

    def open_guest_file(self, file: int) -> None:
        self.guest_file(file, 0x70, 1)
        for word in range(4):
            self.guest_file(file, 0xC0 + 2 * word, ALL)

    def receive(self, file: int, identity: int) -> None:
        self.vm.bus.write(IMSIC_S + (file << 12), 4, identity)
