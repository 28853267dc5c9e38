"""The hypervisor extension, one instruction at a time: what Spike cannot be asked, or does differently.

Which instruction traps how, two-stage walks and delegation are compared with Spike: see test_conformance_hypervisor.py.
"""

from __future__ import annotations

import struct

import pytest

import wirt
from support.assembler import Assembler, encode
from support.firmware import SPIN
from support.lab import ALL, CODE, HANDLER, ILLEGAL, MPV, GuestLab
from wirt import Privilege, isa

ISA = isa.DEFAULT + "_h"
INTERRUPT = 1 << 63
SIE, GVA = 1 << 1, 1 << 38
VIRTUAL_INSTRUCTION, LOAD_GUEST_FAULT, STORE_GUEST_FAULT = 22, 21, 23
VSSI, VSTI, VSEI, SGEI = 1 << 2, 1 << 6, 1 << 10, 1 << 12
HU, SPVP, SPV = 1 << 9, 1 << 8, 1 << 7
VTI, DPR, IPRIOM = 1 << 30, 1 << 9, 1 << 8
GUEST_FILES = 3  # of a region of four pages a hart
NOWHERE = 1 << 39  # no guest physical address of the tables here


def hypervisor_csrs() -> list[str]:
    """Those of HS-mode's numbers, but for the state enables, which need Smstateen."""
    return [name for name, number in isa.csrs().items() if number >> 8 & 3 == 2 and "stateen" not in name]


def machine(**options) -> wirt.Machine:
    chosen = {"memory": "16M", "interrupts": "aia", "guest_files": GUEST_FILES, "isa": ISA, "deterministic": True}
    return wirt.Machine(firmware=SPIN, **(chosen | options))


@pytest.fixture
def lab():
    with machine() as vm:
        yield GuestLab(vm)


# --- without it ---


def test_without_the_extension_nothing_of_it_is_there():
    with machine(isa=None) as vm:
        lab = GuestLab(vm)
        names = hypervisor_csrs()
        assert len(names) > 30
        for name in (*names, "mtval2", "mtinst"):
            assert lab.illegal(name), name
            with pytest.raises(KeyError, match="no such"):
                lab.csr[name]
        for name in ("hfence.vvma", "hfence.gvma", "hinval.vvma", "hinval.gvma", "hlv.d", "hsv.d"):
            assert lab.run(encode(name)) == ILLEGAL, name
        lab.csr["mstatus"] = ALL
        assert lab.csr["mstatus"] & (MPV | GVA) == 0
        lab.csr["mideleg"] = lab.csr["medeleg"] = lab.csr["mie"] = 0
        assert (lab.csr["mideleg"], lab.csr["misa"] & 1 << 7) == (0, 0)


# --- transformed instructions ---


LOADS = {"lb": 1, "lbu": 1, "lh": 2, "lhu": 2, "lw": 4, "lwu": 4, "ld": 8, "flw": 4, "fld": 8}
STORES = {"sb": 1, "sh": 2, "sw": 4, "sd": 8, "fsw": 4, "fsd": 8}


def no_guest_memory(lab: GuestLab) -> None:
    """A second stage that maps RAM's first 16 MiB to themselves, and nothing else."""
    root, table = 0x8080_0000, 0x8081_0000
    lab.csr["hgatp"] = 8 << 60 | root >> 12
    lab.vm.memory[root : root + 0x4000] = bytes(0x4000)
    lab.vm.memory[root + 16 : root + 24] = struct.pack("<Q", table >> 2 | 1)
    entries = [(0x8000_0000 + (i << 21)) >> 2 | 0xDF if i < 4 else 0 for i in range(512)]
    lab.vm.memory[table : table + 4096] = struct.pack("<512Q", *entries)


@pytest.mark.parametrize("name", [*LOADS, *STORES])
def test_htinst_of_loads_and_stores(lab: GuestLab, name: str):
    no_guest_memory(lab)
    lab.csr["vsstatus"] = 3 << 13
    lab.x["a1"] = NOWHERE - 16
    raw = encode(name, 13, 11, imm=16) if name in LOADS else encode(name, 0, 11, 13, imm=16)
    assert lab.guest(raw) == (LOAD_GUEST_FAULT if name in LOADS else STORE_GUEST_FAULT)
    assert (lab.csr["mtval"], lab.csr["mtval2"]) == (NOWHERE, NOWHERE >> 2)
    # Neither the offset nor rs1; the difference to the address of the access is zero.
    kept = 0x7FFF if name in LOADS else 0x01F0_707F
    assert lab.csr["mtinst"] == raw & kept
    assert lab.csr["mstatus"] & (MPV | GVA) == MPV | GVA


@pytest.mark.parametrize("name", ["lr.w", "sc.d", "amoadd.w", "amomaxu.d"])
def test_htinst_of_atomics(lab: GuestLab, name: str):
    no_guest_memory(lab)
    lab.x["a1"] = NOWHERE
    raw = encode(name, 13, 11, 0 if "lr" in name else 14) | 3 << 25
    assert lab.guest(raw) == (LOAD_GUEST_FAULT if "lr" in name else STORE_GUEST_FAULT)
    assert lab.csr["mtinst"] == raw & ~(31 << 15)


def test_htinst_of_compressed_instructions(lab: GuestLab):
    no_guest_memory(lab)
    lab.x["a1"] = lab.x["sp"] = NOWHERE
    assert lab.guest(0x4594) == LOAD_GUEST_FAULT  # c.lw a3,8(a1)
    assert lab.csr["mtinst"] == encode("lw", 13, 0) & ~2
    assert lab.guest(0xE422) == STORE_GUEST_FAULT  # c.sdsp s0,8(sp)
    assert lab.csr["mtinst"] == encode("sd", 0, 0, 8) & ~2


def test_htinst_says_how_far_into_a_misaligned_access_the_fault_is(lab: GuestLab):
    no_guest_memory(lab)
    edge = 0x8080_0000  # the last mapped page lies before it
    lab.x["a1"] = edge - 3
    assert lab.guest(encode("ld", 13, 11)) == LOAD_GUEST_FAULT
    assert lab.csr["mtval"] == edge
    assert lab.csr["mtinst"] == encode("ld", 13, 0) | 3 << 15
    lab.x["a1"] = edge - 1
    assert lab.guest(encode("sw", 0, 11, 13)) == STORE_GUEST_FAULT
    assert lab.csr["mtinst"] == encode("sw", 0, 0, 13) | 1 << 15


@pytest.mark.parametrize("name", ["hlv.bu", "hlv.w", "hlvx.hu", "hlvx.wu", "hsv.d"])
def test_htinst_of_loads_and_stores_in_a_guests_memory(lab: GuestLab, name: str):
    no_guest_memory(lab)
    lab.x["a1"] = NOWHERE
    raw = encode(name, 0, 11, 13) if name == "hsv.d" else encode(name, 13, 11)
    assert lab.run(raw) == (STORE_GUEST_FAULT if name == "hsv.d" else LOAD_GUEST_FAULT)
    assert lab.csr["mtinst"] == raw & ~(31 << 15)
    assert lab.csr["mstatus"] & (MPV | GVA) == GVA


def test_htinst_is_zero_for_everything_else(lab: GuestLab):
    no_guest_memory(lab)
    lab.csr["mtinst"] = lab.csr["mtval2"] = ALL
    assert lab.guest(encode("ebreak")) == 3
    assert (lab.csr["mtinst"], lab.csr["mtval2"]) == (0, 0)
    assert lab.csr["mstatus"] & GVA
    assert lab.guest(encode("hlv.d", 5, 11)) == VIRTUAL_INSTRUCTION
    assert lab.csr["mtinst"] == 0
    # Outside of guests nobody needs it.
    lab.x["a1"] = 0x1800_0000
    assert lab.run(encode("ld", 13, 11)) == 5
    assert lab.csr["mtinst"] == 0
    lab.csr["menvcfg"] = lab.csr["henvcfg"] = 0xF0
    lab.x["a1"] = NOWHERE
    assert lab.guest(encode("cbo.zero", 0, 11)) == STORE_GUEST_FAULT
    assert lab.csr["mtinst"] == 0


def test_implicit_accesses_have_a_pseudoinstruction(lab: GuestLab):
    no_guest_memory(lab)
    lab.csr["vsatp"] = 8 << 60 | NOWHERE >> 12
    lab.x["a1"] = 0x1000
    lab.csr["mstatus"] = MPV | 1 << 11 | 1 << 17
    assert lab.run(encode("ld", 13, 11)) == LOAD_GUEST_FAULT
    assert (lab.csr["mtinst"], lab.csr["mtval2"]) == (0x3000, NOWHERE >> 2)
    # Tables that the second stage lets nobody write: with ADUE the VS-stage has to.
    root = 0x8060_0000
    lab.csr["vsatp"] = 8 << 60 | root >> 12
    lab.vm.memory[root : root + 8] = struct.pack("<Q", 0x8000_0000 >> 2 | 0xF)
    lab.vm.memory[0x8081_0018:0x8081_0020] = struct.pack("<Q", root >> 2 | 0x5B)
    lab.csr["menvcfg"] = 1 << 61
    lab.csr["henvcfg"] = 1 << 61
    assert lab.run(encode("hfence.gvma")) is None
    lab.csr["mstatus"] = MPV | 1 << 11 | 1 << 17
    assert lab.run(encode("ld", 13, 11)) == LOAD_GUEST_FAULT
    assert (lab.csr["mtinst"], lab.csr["mtval2"]) == (0x3020, root >> 2)


# --- guest interrupt files ---


def test_geilen_is_the_number_of_guest_files(lab: GuestLab):
    lab.csr["hgeie"] = ALL
    assert lab.csr["hgeie"] == 0b1110
    assert lab.csr["mideleg"] == VSSI | VSTI | VSEI | SGEI
    lab.csr["hstatus"] = GUEST_FILES << 12
    lab.csr["hstatus"] = (GUEST_FILES + 1) << 12  # WLRL: stays
    assert lab.csr["hstatus"] >> 12 & 63 == GUEST_FILES


def test_without_guest_files_there_is_no_sgei():
    with machine(guest_files=0) as vm:
        lab = GuestLab(vm)
        lab.csr["hgeie"] = lab.csr["hie"] = lab.csr["hstatus"] = ALL
        assert (lab.csr["hgeie"], lab.csr["hie"]) == (0, VSSI | VSTI | VSEI)
        assert lab.csr["mideleg"] == VSSI | VSTI | VSEI
        assert lab.csr["hstatus"] >> 12 & 63 == 0
        lab.csr["vsiselect"] = 0x80
        assert lab.illegal("vsireg")
        assert lab.illegal("vstopei")
        assert lab.guest(encode("csrrs", 5, 0, csr="sireg")) == VIRTUAL_INSTRUCTION
        assert lab.guest(encode("csrrs", 5, 0, csr="stopei")) == VIRTUAL_INSTRUCTION


def test_a_message_to_a_guest_file(lab: GuestLab):
    for file in range(1, GUEST_FILES + 1):
        lab.open_guest_file(file)
    lab.receive(2, 77)
    lab.run()
    assert lab.csr["hgeip"] == 1 << 2
    assert lab.csr["hip"] == 0
    lab.csr["hgeie"] = 1 << 2
    assert lab.csr["hip"] == SGEI
    lab.csr["hgeie"] = 1 << 1
    lab.csr["hstatus"] = 2 << 12
    assert lab.csr["hip"] == VSEI
    lab.csr["hideleg"] = VSEI
    assert lab.csr["vsip"] == 1 << 9
    lab.csr["vsie"] = 1 << 9
    assert lab.csr["vstopei"] == 77 << 16 | 77
    assert lab.csr["vstopi"] == 9 << 16 | 1
    lab.csr["hvictl"] = IPRIOM
    assert lab.csr["vstopi"] == 9 << 16 | 77
    # The guest takes it, and claims it.
    lab.csr["vstvec"] = HANDLER
    lab.csr["vsstatus"] = SIE
    lab.enter(CODE)
    lab.vm.step()
    assert (lab.csr["vscause"], lab.hart.virtualized) == (INTERRUPT | 9, True)
    lab.csr["vsstatus"] = 0
    assert lab.guest_access("stopei", "csrrw", 1) == 77 << 16 | 77
    lab.run()
    assert (lab.csr["hgeip"], lab.csr["hip"], lab.csr["vstopi"]) == (0, 0, 0)


def test_sgei_traps_to_hs(lab: GuestLab):
    lab.open_guest_file(1)
    lab.csr["hgeie"], lab.csr["hie"], lab.csr["hstatus"] = 1 << 1, SGEI, 0
    lab.csr["hideleg"] = ALL
    lab.receive(1, 5)
    lab.csr["stvec"] = HANDLER
    lab.enter(CODE)
    lab.vm.step()
    assert (lab.csr["scause"], lab.hart.virtualized, lab.hart.privilege) == (
        INTERRUPT | 12,
        False,
        Privilege.supervisor,
    )
    assert lab.csr["hstatus"] & (SPV | SPVP) == SPV | SPVP


def test_what_a_guest_selects(lab: GuestLab):
    for select in range(0x200):
        lab.csr["hstatus"] = 1 << 12
        lab.csr["vsiselect"] = select
        assert lab.guest_access("siselect") == select
        file = 0x70 <= select <= 0xFF
        absent = select >= 0x80 and select % 2 == 1
        expected = None if file and not absent else ILLEGAL if file else VIRTUAL_INSTRUCTION
        assert lab.guest(encode("csrrs", 5, 0, csr="sireg")) == expected, hex(select)
        assert lab.illegal("vsireg") == (expected is not None), hex(select)
        assert lab.guest(encode("csrrs", 5, 0, csr="vsireg")) == VIRTUAL_INSTRUCTION
        assert lab.guest(encode("csrrs", 5, 0, csr="sireg"), Privilege.user) == VIRTUAL_INSTRUCTION


def test_state_enables_come_before_the_guests_rules():
    """AIA 1.0, 2.4 and 2.5: what M-mode denies HS-mode is illegal in a guest, not virtual."""
    enables = {"vsiselect": 60, "vsireg": 60, "vstopei": 58, "vstopi": 59, "henvcfg": 62, "hstateen0": 63}
    enables |= dict.fromkeys(("hvien", "hvictl", "hviprio1", "hviprio2"), 59)
    with machine(isa=ISA + "_smstateen") as vm:
        lab = GuestLab(vm)
        lab.csr["hstatus"], lab.csr["vsiselect"] = 1 << 12, 0x80
        for name, number in enables.items():
            read = encode("csrrs", 5, 0, csr=name)
            lab.csr["mstateen0"] = ALL
            assert not lab.illegal(name, Privilege.supervisor), name
            assert lab.guest(read) == VIRTUAL_INSTRUCTION, name
            lab.csr["mstateen0"] = ALL ^ 1 << number
            assert lab.illegal(name, Privilege.supervisor), name
            assert lab.guest(read) == ILLEGAL, name
        read = encode("csrrs", 5, 0, csr="sireg")
        lab.csr["mstateen0"], lab.csr["hstateen0"] = ALL, ALL
        assert lab.guest(read) is None
        lab.csr["hstateen0"] = ALL ^ 1 << 58
        assert lab.guest(read) == VIRTUAL_INSTRUCTION
        lab.csr["mstateen0"] = ALL ^ 1 << 58
        assert lab.guest(read) == ILLEGAL
        # Of M-mode's bits CSRIND alone matters where a guest may never go.
        assert lab.guest(encode("csrrs", 5, 0, csr="vsireg")) == VIRTUAL_INSTRUCTION
        assert lab.guest(read, Privilege.user) == VIRTUAL_INSTRUCTION


# --- what the hypervisor injects ---


def test_hvictl_injects_an_interrupt(lab: GuestLab):
    lab.csr["hvictl"] = VTI | 20 << 16 | IPRIOM | 7
    assert lab.csr["vstopi"] == 20 << 16 | 7
    lab.csr["vsstatus"], lab.csr["vstvec"] = SIE, HANDLER | 1
    lab.enter(CODE)
    lab.vm.step()
    assert (lab.csr["vscause"], lab.csr["vsepc"]) == (INTERRUPT | 20, CODE)
    for name in ("sip", "sie"):
        lab.csr["vsstatus"] = 0
        assert lab.guest(encode("csrrs", 5, 0, csr=name)) == VIRTUAL_INSTRUCTION
    lab.csr["hvictl"] = VTI | 9 << 16  # none
    assert lab.csr["vstopi"] == 0


@pytest.mark.parametrize(
    ("hvictl", "external", "expected"),
    [
        (VTI | 20 << 16 | IPRIOM, False, 20 << 16),
        (VTI | 20 << 16 | IPRIOM | DPR, False, 20 << 16 | 255),
        (VTI | 20 << 16 | IPRIOM, True, 20 << 16),
        (VTI | 20 << 16 | IPRIOM | DPR, True, 9 << 16 | 255),
        (VTI | 20 << 16 | IPRIOM | DPR | 40, True, 20 << 16 | 40),
        (9 << 16 | IPRIOM | 33, True, 9 << 16 | 33),
        (VTI | 9 << 16 | IPRIOM | 33, True, 9 << 16 | 33),
    ],
)
def test_which_of_two_is_first(lab: GuestLab, hvictl: int, external: bool, expected: int):
    lab.csr["hideleg"] = lab.csr["hie"] = VSEI
    lab.csr["hvip"] = VSEI if external else 0
    lab.csr["hvictl"] = hvictl
    assert lab.csr["vstopi"] == expected


def test_priorities_of_the_guests_own_interrupts(lab: GuestLab):
    lab.csr["hideleg"] = lab.csr["hie"] = lab.csr["hvip"] = VSSI | VSTI
    lab.csr["hvictl"] = IPRIOM
    assert lab.csr["vstopi"] == 1 << 16 | 255
    lab.csr["hviprio1"] = ALL
    assert lab.csr["hviprio1"] == 0xFF00_FF00
    lab.csr["hviprio1"] = 9 << 8 | 8 << 24
    assert lab.csr["vstopi"] == 5 << 16 | 8


def test_a_guests_timer(lab: GuestLab):
    lab.csr["menvcfg"] = lab.csr["henvcfg"] = 1 << 63
    lab.csr["htimedelta"] = 1000
    lab.csr["vstimecmp"] = 1500
    assert lab.csr["hip"] == 0
    lab.csr["mideleg"], lab.csr["hideleg"], lab.csr["hie"] = 0, VSTI, VSTI
    lab.csr["vstvec"], lab.csr["vsstatus"] = HANDLER, SIE
    lab.vm.memory[HANDLER : HANDLER + 4] = struct.pack("<I", encode("jal", 0, imm=0))
    lab.vm.memory[CODE : CODE + 4] = struct.pack("<I", encode("jal", 0, imm=0))
    lab.enter(CODE)
    lab.vm.run_for(200_000)  # 2000 ticks of the clock
    assert (lab.hart.pc, lab.csr["vscause"]) == (HANDLER, INTERRUPT | 5)
    lab.csr["vstimecmp"] = ALL
    assert lab.csr["hip"] == 0


# --- world switches ---


def test_a_world_switch_flushes_nothing(lab: GuestLab):
    """Two guests and the hypervisor each find their own memory, and a page mapped anew needs the fence."""
    no_guest_memory(lab)
    other, table = 0x8084_0000, 0x8085_0000
    lab.vm.memory[other : other + 0x4000] = bytes(0x4000)
    lab.vm.memory[other + 16 : other + 24] = struct.pack("<Q", table >> 2 | 1)
    entries = [(0x8000_0000 + (i << 21)) >> 2 | 0xDF for i in range(8)]
    entries[3] = 0x8040_0000 >> 2 | 0xDF
    lab.vm.memory[table : table + 64] = struct.pack("<8Q", *entries)
    for address, value in ((0x8060_0000, 6), (0x8040_0000, 4)):
        lab.vm.memory[address : address + 8] = struct.pack("<Q", value)
    guests = {1: (8 << 60 | 1 << 44 | 0x8080_0000 >> 12, 6), 2: (8 << 60 | 2 << 44 | other >> 12, 4)}
    lab.x["a1"] = 0x8060_0000
    for which in (1, 2, 1, 0, 2, 1):
        if which == 0:
            assert lab.run(encode("ld", 5, 11)) is None
            assert lab.x["t0"] == 6
            continue
        lab.csr["hgatp"], expected = guests[which]
        assert lab.guest(encode("ld", 5, 11)) is None
        assert lab.x["t0"] == expected
        lab.csr["hstatus"] = SPVP
        lab.x["t0"] = 0
        assert lab.run(encode("hlv.d", 5, 11)) is None
        assert lab.x["t0"] == expected


def second_stage(lab: GuestLab) -> int:
    """A second stage of small pages for CODE, of large ones for the rest; where the entry of CODE's page is."""
    no_guest_memory(lab)
    table, pages = 0x8081_0000, 0x8082_0000
    lab.vm.memory[table : table + 8] = struct.pack("<Q", pages >> 2 | 1)
    lab.vm.memory[pages : pages + 4096] = struct.pack(
        "<512Q", *((0x8000_0000 + (i << 12)) >> 2 | 0xDF for i in range(512))
    )
    return pages + (CODE - 0x8000_0000 >> 12) * 8


def clear_accessed(lab: GuestLab, entry: int) -> None:
    (value,) = struct.unpack("<Q", lab.vm.memory[entry : entry + 8])
    lab.vm.memory[entry : entry + 8] = struct.pack("<Q", value & ~0x40)


@pytest.mark.parametrize("name", ["wfi", "hfence.gvma"])
def test_a_refused_instruction_is_told_though_its_page_has_lost_a(lab: GuestLab, name: str):
    """Sstvala; KVM clears A in second stages without a fence, and would try for ever what it is told nothing of."""
    entry = second_stage(lab)
    lab.csr["hstatus"] = 1 << 21  # VTW
    raw = encode(name)
    for again in range(2):
        lab.vm.memory[CODE : CODE + 4] = struct.pack("<I", raw)
        lab.csr["mcause"] = lab.csr["mtval"] = 0
        lab.enter(CODE)
        lab.vm.step()
        assert (lab.csr["mcause"], lab.csr["mtval"]) == (VIRTUAL_INSTRUCTION, raw), again
        clear_accessed(lab, entry)


def test_what_hlvx_cannot_read_is_not_fetched_from_a_cache_either(lab: GuestLab):
    entry = second_stage(lab)
    assert lab.guest() is None
    clear_accessed(lab, entry)
    assert lab.guest() is None
    lab.x["a1"] = CODE
    lab.csr["hstatus"] = SPVP
    at = HANDLER + 0x1000
    lab.vm.memory[at : at + 4] = struct.pack("<I", encode("hlvx.hu", 5, 11))
    lab.csr["mcause"] = 0
    lab.hart.privilege, lab.hart.pc = Privilege.machine, at
    lab.vm.step()
    assert (lab.csr["mcause"], lab.csr["mtval"]) == (LOAD_GUEST_FAULT, CODE)
    # The fault may come with the jump there.
    lab.csr["mstatus"] = lab.csr["mstatus"] & ~(3 << 11) | 1 << 11 | MPV
    lab.csr["mepc"] = CODE
    lab.vm.memory[at : at + 4] = struct.pack("<I", encode("mret"))
    lab.hart.pc = at
    lab.vm.step(2)
    assert (lab.csr["mcause"], lab.csr["mtval"]) == (20, CODE)


def test_state_goes_through_a_snapshot(tmp_path):
    with machine() as vm:
        lab = GuestLab(vm)
        lab.open_guest_file(2)
        lab.receive(2, 9)
        no_guest_memory(lab)
        lab.csr["hstatus"] = 2 << 12 | SPVP
        names = hypervisor_csrs()
        lab.enter(CODE)
        before = {name: lab.csr[name] for name in names}
        vm.snapshot(tmp_path / "one")
        with wirt.Machine.restore(tmp_path / "one") as restored:
            hart = restored.harts[0]
            assert hart.virtualized
            assert {name: hart.csr[name] for name in names} == before
            assert before["hgeip"] == 1 << 2
            assert before["hip"] == VSEI


# --- the monitor's SBI ---


def test_of_the_sbi_nested_acceleration_is_absent_and_the_fences_of_guests_are_there():
    """NACL is nothing for firmware on harts that have the extension themselves (SBI 2.0, chapter 15)."""
    calls = [(0x10, 3, 0x4E41434C), (0x4E41434C, 0, 0), (0x52464E43, 6, 0)]
    asm = Assembler(0x8020_0000)
    for i, (extension, function, argument) in enumerate(calls):
        for register, value in ((17, extension), (16, function), (10, argument), (11, 0), (12, 0), (13, 0)):
            asm.li(register, value)
        asm.op("ecall")
        asm.op("addi", 18 + i, 10, imm=0)
        asm.op("addi", 24 + i, 11, imm=0)
    asm.op("jal", 0, imm=0)
    with wirt.Machine(asm.elf(()), memory="16M", isa=ISA, deterministic=True) as vm:
        vm.run_for(10_000)
        x = vm.harts[0].x
        assert [x[18 + i] for i in range(3)] == [0, ALL - 1, 0]
