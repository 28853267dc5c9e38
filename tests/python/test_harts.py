"""Registers, translation and disassembly."""

from __future__ import annotations

import pytest

import wirt
from support.firmware import COUNT, RAM
from wirt import isa


def test_registers_by_any_name(build):
    hart = build().harts[0]
    hart.x[10] = 5
    assert hart.x["a0"] == hart.x["x10"] == 5
    hart.x["fp"] = 6
    assert hart.x["s0"] == hart.x[8] == 6
    hart.x["a1"] = 2**64 - 1
    assert hart.x[11] == 2**64 - 1
    hart.x[0] = 1
    assert hart.x["zero"] == 0
    assert len(list(hart.x)) == len(hart.x) == 32
    hart.f["fa0"] = 0x3FF0_0000_0000_0000
    assert hart.f[10] == hart.f["f10"] == 0x3FF0_0000_0000_0000


def test_registers_that_are_not_there(build):
    hart = build().harts[0]
    with pytest.raises(IndexError):
        hart.x[32]
    with pytest.raises(KeyError):
        hart.x["rax"]
    with pytest.raises(KeyError):
        hart.csr["cr3"]
    with pytest.raises(KeyError):
        hart.csr[0x7FF]


def test_control_registers_follow_their_rules(build):
    hart = build().harts[0]
    assert hart.privilege is wirt.Privilege.machine
    assert hart.csr["mhartid"] == 0
    hart.csr["mscratch"] = 42
    assert hart.csr[0x340] == 42
    with pytest.raises(KeyError, match="read-only"):
        hart.csr["mhartid"] = 1
    # A reserved MODE leaves satp alone (privileged architecture, satp).
    hart.csr["satp"] = 1 << 60
    assert hart.csr["satp"] == 0


def test_pc(build):
    vm = build(COUNT)
    vm.harts[0].pc = RAM + 4
    vm.step()
    assert vm.harts[0].pc == RAM


def test_translation(build):
    vm = build()
    hart = vm.harts[0]
    assert hart.translate(RAM + 0x123) == RAM + 0x123
    # One Sv39 leaf of 1 GiB at virtual 0x40000000, readable and executable, for U-mode not.
    table = RAM + 0x10_0000
    vm.bus.write(table + 8, 8, (RAM >> 12 << 10) | 0xCB)
    hart.csr["satp"] = 8 << 60 | table >> 12
    hart.csr["pmpaddr0"] = 2**54 - 1
    hart.csr["pmpcfg0"] = 0x1F
    hart.privilege = wirt.Privilege.supervisor
    assert hart.translate(0x4000_0000) == RAM
    assert hart.translate(0x4000_1234, "fetch") == RAM + 0x1234
    with pytest.raises(wirt.AddressError, match="store"):
        hart.translate(0x4000_0000, "store")
    with pytest.raises(wirt.AddressError):
        hart.translate(0x8000_0000)
    with pytest.raises(ValueError, match="load"):
        hart.translate(0, "look")


def test_disassembly(build):
    vm = build(COUNT)
    code = vm.harts[0].disassemble(2)
    assert [instruction.address for instruction in code] == [RAM, RAM + 4]
    assert code[0].raw == 0x0015_0513
    assert code[0].text.split() == ["addi", "a0,a0,1"]
    assert f"{RAM:x}" in code[1].text
    assert vm.harts[0].disassemble(4, address=0x1234) == []
    assert wirt.disassemble(0x0000_0013).split()[0] in ("addi", "nop")


def test_instruction_tables():
    rows = isa.instructions()
    assert len(rows) > 200
    assert {"i", "m", "a", "f", "d", "c", "zba"} <= {row.extension for row in rows}
    for row in rows:
        assert row.match & ~row.mask == 0, row.name
    assert isa.csrs()["satp"] == 0x180
    assert isa.register_names()[10] == "a0"
    assert isa.float_register_names()[10] == "fa0"
