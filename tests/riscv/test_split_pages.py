"""Pages of which PMP lets a part be executed: every parcel of every instruction is asked for, also in one go."""

from __future__ import annotations

import struct

import pytest

import wirt
from support.assembler import encode
from support.firmware import SPIN
from support.lab import CODE, HANDLER, NOP

LOCKED_NA4 = 0x90
FETCH_ACCESS = 1
C_NOP = 0x0001


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize(
    ("code", "forbidden", "mepc", "mtval"),
    [
        (struct.pack("<IIII", NOP, NOP, NOP, NOP), CODE + 8, CODE + 8, CODE + 8),
        (struct.pack("<HHHH", C_NOP, C_NOP, C_NOP, C_NOP), CODE + 4, CODE + 4, CODE + 4),
        # The second half alone: the first is executed in vain.
        (struct.pack("<HIHI", C_NOP, NOP, C_NOP, NOP), CODE + 4, CODE + 2, CODE + 4),
    ],
)
def test_execution_ends_where_pmp_forbids_it(code, forbidden, mepc, mtval, stepwise):
    with wirt.Machine(firmware=SPIN, memory="16M", deterministic=True) as vm:
        hart = vm.harts[0]
        vm.memory[CODE : CODE + len(code)] = code
        vm.memory[HANDLER : HANDLER + 4] = struct.pack("<I", encode("jal", 0, imm=0))
        hart.csr["mtvec"], hart.pc = HANDLER, CODE
        vm.run_for(20)  # Without a trap: what is decoded now must not be what runs then.
        hart.csr["pmpaddr0"], hart.csr["pmpcfg0"] = forbidden >> 2, LOCKED_NA4
        hart.csr["mcause"], hart.pc = 0, CODE
        if stepwise:
            for _ in range(20):
                vm.step()
        else:
            vm.run_for(20)
        assert hart.pc == HANDLER
        assert (hart.csr["mcause"], hart.csr["mepc"], hart.csr["mtval"]) == (FETCH_ACCESS, mepc, mtval)
