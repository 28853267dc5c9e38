"""What counters, triggers, state enables and masked pointers are in a guest of the hypervisor extension."""

from __future__ import annotations

import struct

import pytest

import wirt
from support.assembler import encode
from support.firmware import SPIN
from support.lab import ALL, CODE, HANDLER, ILLEGAL, NOP, GuestLab
from wirt import Privilege, isa

ISA = isa.DEFAULT + "_h_smstateen_ssnpm_smnpm_sscofpmf_sdtrig_zkr_svpbmt"
VIRTUAL_INSTRUCTION, BREAKPOINT, LOAD_ACCESS = 22, 3, 5
SE, ENVCFG, PBMTE = 1 << 63, 1 << 62, 1 << 62
MINH, SINH, UINH, VSINH, VUINH = (1 << i for i in (62, 61, 60, 59, 58))
LCOFI, OF, SPV, SPVP = 13, 1 << 63, 1 << 7, 1 << 8
SUPERVISOR, USER = Privilege.supervisor, Privilege.user


@pytest.fixture
def lab():
    with wirt.Machine(firmware=SPIN, memory="16M", isa=ISA, deterministic=True) as vm:
        yield GuestLab(vm)


def test_a_hypervisor_withholds_what_it_was_granted(lab: GuestLab):
    senvcfg, sstateen = (encode("csrrs", 5, 0, csr=name) for name in ("senvcfg", "sstateen0"))
    lab.csr["mstateen0"] = 0
    lab.csr["hstateen0"] = ALL
    assert lab.csr["hstateen0"] == 0  # a zero of mstateen is a read-only zero
    assert lab.guest(senvcfg) == ILLEGAL
    assert lab.guest(sstateen) == ILLEGAL
    for name in ("henvcfg", "senvcfg", "hstateen0", "sstateen0"):
        assert lab.illegal(name, SUPERVISOR)
    lab.csr["mstateen0"] = SE | ENVCFG
    for name in ("henvcfg", "senvcfg", "hstateen0", "sstateen0"):
        assert not lab.illegal(name, SUPERVISOR)
    assert lab.guest(senvcfg) == VIRTUAL_INSTRUCTION
    assert lab.guest(sstateen) == VIRTUAL_INSTRUCTION
    lab.csr["hstateen0"] = ALL
    assert lab.csr["hstateen0"] == SE | ENVCFG
    assert lab.guest(senvcfg) is None
    assert lab.guest(sstateen) is None
    assert lab.guest(encode("csrrs", 5, 0, csr="hstateen0")) == VIRTUAL_INSTRUCTION


def test_counters_tell_guests_from_hosts(lab: GuestLab):
    lab.csr["mhpmevent3"] = 2 | MINH | SINH | UINH | VUINH
    lab.csr["mhpmevent4"] = 2 | MINH | SINH | UINH | VSINH
    for mode, times in ((SUPERVISOR, 3), (USER, 2)):
        for _ in range(times):
            assert lab.guest(NOP, mode) is None
            assert lab.run(NOP, mode) is None
    assert (lab.csr["mhpmcounter3"], lab.csr["mhpmcounter4"]) == (3, 2)


@pytest.mark.parametrize("mode", [SUPERVISOR, USER])
@pytest.mark.parametrize("left", [1, 2, 101, 4000])
def test_an_overflow_in_a_guest_interrupts_its_hypervisor(lab: GuestLab, left: int, mode: Privilege):
    """Behind the instruction that causes it, whatever the guest's SIE and that of HS-mode; not the guest, for hideleg
    has no such bit without Shlcofideleg."""
    lab.csr["hideleg"] = ALL
    assert not lab.csr["hideleg"] >> LCOFI & 1
    loop = [encode("addi", 5, 5, imm=1), encode("jal", 0, imm=-4)]
    lab.vm.memory[CODE : CODE + 8] = struct.pack("<II", *loop)
    lab.vm.memory[HANDLER : HANDLER + 4] = struct.pack("<I", encode("jal", 0, imm=0))
    lab.csr["mideleg"] = lab.csr["mie"] = 1 << LCOFI
    lab.csr["mhpmcounter5"] = -left & ALL
    # Of a guest's modes this one alone; M-mode, in which the way there begins, does not count.
    lab.csr["mhpmevent5"] = 2 | MINH | SINH | UINH | (VUINH if mode == SUPERVISOR else VSINH)
    lab.x["t0"] = 0
    lab.enter(CODE, mode)
    lab.vm.step(left + 50)
    assert lab.hart.pc == HANDLER
    assert not lab.hart.virtualized
    assert lab.csr["scause"] == 1 << 63 | LCOFI
    assert lab.csr["hstatus"] & SPV
    assert bool(lab.csr["hstatus"] & SPVP) is (mode == SUPERVISOR)
    assert lab.x["t0"] == (left + 1) // 2
    assert lab.csr["sepc"] == CODE + 4 * (left % 2)
    assert lab.csr["mhpmevent5"] & OF


def test_triggers_tell_guests_from_hosts(lab: GuestLab):
    load = encode("ld", 5, 6)
    lab.x["t1"] = lab.csr["tdata2"] = CODE + 0x4000
    for fields, fires in ((1 << 24, SUPERVISOR), (1 << 23, USER)):
        lab.csr["tdata1"] = 6 << 60 | fields | 1
        for mode in (SUPERVISOR, USER):
            assert lab.guest(load, mode) == (BREAKPOINT if mode == fires else None)
            assert lab.run(load, mode) is None


def test_pointers_of_a_guest_are_masked_by_henvcfg_and_senvcfg(lab: GuestLab):
    load = encode("ld", 5, 6)
    lab.x["t1"] = CODE + 0x4000 | 0x5A << 57
    assert lab.guest(load) == LOAD_ACCESS
    lab.csr["mstateen0"] = ALL
    lab.csr["henvcfg"] = 2 << 32
    assert lab.guest(load, SUPERVISOR) is None
    assert lab.guest(load, USER) == LOAD_ACCESS
    lab.csr["senvcfg"] = 2 << 32
    lab.csr["henvcfg"] = 0
    assert lab.guest(load, SUPERVISOR) == LOAD_ACCESS
    assert lab.guest(load, USER) is None
    # A hypervisor's own loads from the guest go by the guest's mode, those of its user by HUPMM.
    hlv = encode("hlv.d", 5, 6)
    lab.csr["hstatus"] = 1 << 9  # HU, and SPVP clear: as VU-mode
    assert lab.run(hlv, SUPERVISOR) is None
    assert lab.run(hlv, USER) == LOAD_ACCESS
    lab.csr["hstatus"] = 1 << 9 | 3 << 48
    assert lab.run(hlv, USER) is None


def test_fields_that_the_level_above_grants(lab: GuestLab):
    lab.csr["henvcfg"] = ALL
    assert not lab.csr["henvcfg"] & PBMTE
    lab.csr["menvcfg"] = lab.csr["menvcfg"] | PBMTE
    lab.csr["henvcfg"] = ALL
    assert lab.csr["henvcfg"] & PBMTE
    lab.csr["hstatus"] = 1 << 48
    assert lab.csr["hstatus"] >> 48 == 0


def test_no_guest_gets_entropy(lab: GuestLab):
    seed = encode("csrrw", 5, 6, csr="seed")
    assert lab.guest(seed) == ILLEGAL
    lab.csr["mseccfg"] = 1 << 9
    assert lab.guest(seed) == VIRTUAL_INSTRUCTION
    assert lab.guest(encode("csrrs", 5, 0, csr="seed")) == ILLEGAL


def test_a_profile_is_an_isa():
    with wirt.Machine(firmware=SPIN, memory="16M", isa="rva23s64_svadu") as vm:
        misa = vm.harts[0].csr["misa"]
        assert "".join(chr(97 + bit) for bit in range(26) if misa >> bit & 1) == "abcdfhimsuv"
        for name in (b"zfhmin", b"zcb", b"svnapot", b"sscofpmf", b"shvsatpa", b"ssstateen", b"zvbb", b"supm"):
            assert b"\0" + name + b"\0" in vm.dtb
