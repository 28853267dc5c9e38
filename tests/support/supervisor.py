"""S-mode software that a test writes an instruction at a time, under the monitor's SBI."""

from __future__ import annotations

import struct

import wirt
from support.assembler import RAM_BASE, encode, write_elf
from wirt import Privilege

CODE = RAM_BASE + 0x40_0000


def kernel() -> bytes:
    """One that does nothing."""
    return write_elf(RAM_BASE, struct.pack("<I", encode("jal", 0, imm=0)) * 64, {})


class Supervisor:
    """S-mode software in the test's hand."""

    def __init__(self, vm: wirt.Machine) -> None:
        self.vm, self.hart, self.csr = vm, vm.harts[0], vm.harts[0].csr
        vm.step()

    def execute(self, *code: int) -> None:
        self.vm.memory[CODE : CODE + 4 * len(code)] = struct.pack(f"<{len(code)}I", *code)
        self.hart.privilege, self.hart.pc = Privilege.supervisor, CODE
        self.vm.step(len(code))
        assert self.hart.pc == CODE + 4 * len(code)

    def call(self, extension: int, function: int, *arguments: int) -> tuple[int, int]:
        """An SBI call: error and value."""
        for i in range(6):
            self.hart.x[10 + i] = arguments[i] if i < len(arguments) else 0
        self.hart.x[16], self.hart.x[17] = function, extension
        self.execute(encode("ecall"))
        error = self.hart.x[10]
        return error - (1 << 64) if error >> 63 else error, self.hart.x[11]
