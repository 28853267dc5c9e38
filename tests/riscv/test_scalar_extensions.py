"""What Spike does not show of the scalar and supervisor extensions: counters that count, entropy, and state."""

from __future__ import annotations

import struct

import pytest

import wirt
from support.assembler import Assembler, encode
from support.firmware import SPIN
from support.lab import ALL, CODE, HANDLER, ILLEGAL, NOP, Lab
from wirt import Privilege, isa

ISA = "rv64gcb_zicntr_sscofpmf_sstc_svadu_zkr_smstateen_sdtrig_ssnpm_smnpm"
MINH, SINH, UINH, OF = (1 << i for i in (62, 61, 60, 63))
CYCLES, INSTRUCTIONS, EXCEPTIONS, INTERRUPTS, LOAD_MISSES = 1, 2, 0x100, 0x101, 0x10019
LCOFI = 13
BREAKPOINT = 3


def machine(text: str = ISA, **options) -> wirt.Machine:
    return wirt.Machine(firmware=SPIN, memory="16M", isa=text, **options)


@pytest.fixture
def lab():
    with machine(deterministic=True) as vm:
        yield Lab(vm)


# --- counters ---


def test_a_counter_counts_its_event_in_the_modes_that_are_not_inhibited(lab: Lab):
    lab.csr["mhpmevent3"] = INSTRUCTIONS | MINH | SINH
    lab.csr["mhpmevent4"] = INSTRUCTIONS | UINH
    lab.csr["mhpmevent5"] = EXCEPTIONS
    for mode, times in ((Privilege.user, 5), (Privilege.supervisor, 3), (Privilege.machine, 2)):
        for _ in range(times):
            assert lab.run(NOP, mode) is None
    assert lab.csr["mhpmcounter3"] == 5
    assert lab.csr["mhpmcounter4"] == 5
    assert lab.run(0, Privilege.user) == ILLEGAL  # which retires nothing
    assert (lab.csr["mhpmcounter3"], lab.csr["mhpmcounter5"]) == (5, 1)
    lab.csr["mcountinhibit"] = 1 << 4
    for _ in range(4):
        lab.run(NOP)
    assert lab.csr["mhpmcounter4"] == 5


def test_a_counter_reads_what_came_before_the_instruction_that_reads(lab: Lab):
    lab.csr["mhpmevent3"] = CYCLES
    code = [encode("csrrw", 0, 0, csr="mhpmcounter3"), NOP, NOP, encode("csrrs", 5, 0, csr="mhpmcounter3"), NOP]
    code += [encode("csrrs", 6, 0, csr="hpmcounter3"), encode("csrrs", 7, 0, csr="mhpmcounter3")]
    lab.vm.memory[CODE : CODE + 4 * len(code)] = struct.pack(f"<{len(code)}I", *code)
    lab.hart.privilege, lab.hart.pc = Privilege.machine, CODE
    lab.vm.step(len(code))
    assert [lab.x[name] for name in ("t0", "t1", "t2")] == [2, 4, 5]


@pytest.mark.parametrize("event", [CYCLES, INSTRUCTIONS])
@pytest.mark.parametrize("left", [1, 2, 100, 5000])
def test_an_overflow_interrupts_behind_the_instruction_that_causes_it(lab: Lab, event: int, left: int):
    # A loop of two instructions in S-mode, to which the interrupt is delegated.
    loop = [encode("addi", 5, 5, imm=1), encode("jal", 0, imm=-4)]
    lab.vm.memory[CODE : CODE + 8] = struct.pack("<II", *loop)
    lab.vm.memory[HANDLER : HANDLER + 4] = struct.pack("<I", encode("jal", 0, imm=0))
    lab.csr["mideleg"] = lab.csr["mie"] = 1 << LCOFI
    lab.csr["mcounteren"] = ALL
    lab.csr["mstatus"] = 1 << 1
    lab.csr["mhpmcounter6"] = -left & ALL
    lab.csr["mhpmevent6"] = event | MINH
    lab.hart.privilege, lab.hart.pc, lab.x["t0"] = Privilege.supervisor, CODE, 0
    lab.vm.step(left + 50)
    assert lab.hart.pc == HANDLER
    assert lab.csr["scause"] == 1 << 63 | LCOFI
    assert lab.x["t0"] == (left + 1) // 2
    assert lab.csr["sepc"] == CODE + 4 * (left % 2)
    assert lab.csr["mhpmevent6"] & OF
    assert lab.access("scountovf", mode=Privilege.supervisor) == 1 << 6
    lab.csr["mcounteren"] = ALL ^ 1 << 6
    assert lab.access("scountovf", mode=Privilege.supervisor) == 0
    # As long as OF is set no other overflow is told of.
    lab.csr["mip"] = 0
    lab.csr["mhpmcounter6"] = ALL
    lab.run(NOP, Privilege.user)
    lab.run(NOP, Privilege.user)
    assert not lab.csr["mip"] >> LCOFI & 1


def test_what_the_host_decides_is_no_event_of_a_deterministic_machine(lab: Lab):
    lab.csr["mhpmevent3"] = LOAD_MISSES
    assert lab.csr["mhpmevent3"] == 0
    with machine() as vm:
        other = Lab(vm)
        other.csr["mhpmevent3"] = LOAD_MISSES
        other.x["t1"] = CODE + 0x8000
        for _ in range(3):
            assert other.run(encode("ld", 5, 6)) is None
        assert other.csr["mhpmcounter3"] == 1
        other.csr["mhpmevent3"] = 0x1234
        assert other.csr["mhpmevent3"] == 0


def test_without_sscofpmf_there_is_nothing_to_program():
    with machine("rv64gc_zicntr_zihpm") as vm:
        lab = Lab(vm)
        lab.csr["mhpmevent3"] = ALL
        assert lab.csr["mhpmevent3"] == 0
        assert lab.illegal("scountovf")
        lab.csr["mie"] = ALL
        assert not lab.csr["mie"] >> LCOFI & 1


# --- entropy ---


def test_the_seed_is_the_machines_entropy():
    def drawn(seed: int) -> list[int]:
        with machine(deterministic=True, seed=seed) as vm:
            lab = Lab(vm)
            return [lab.access("seed", "csrrw", 1) for _ in range(8)]

    first = drawn(5)
    assert first == drawn(5)
    assert first != drawn(6)
    assert {value >> 16 for value in first} == {0x8000}  # ES16, and reserved bits are zero
    assert len(set(first)) > 4


def test_who_may_read_the_seed(lab: Lab):
    assert lab.illegal("seed")  # without a write
    for mode, bit in ((Privilege.supervisor, 1 << 9), (Privilege.user, 1 << 8)):
        lab.csr["mseccfg"] = ALL ^ bit
        assert lab.illegal("seed", mode, write=True)
        lab.csr["mseccfg"] = bit
        assert not lab.illegal("seed", mode, write=True)
        assert lab.csr["mseccfg"] == bit


# --- state ---


def test_the_registers_are_state(tmp_path):
    chosen = {"mseccfg": 0x300, "mstateen0": 3 << 62, "mstateen2": 1 << 63, "mhpmevent4": INSTRUCTIONS | SINH,
              "mhpmcounter4": 12345, "tselect": 2, "tdata2": 0x1234, "mie": 1 << LCOFI}  # fmt: skip
    with machine() as vm:
        for name, value in chosen.items():
            vm.harts[0].csr[name] = value
        vm.harts[0].csr["tdata1"] = 6 << 60 | 0x5A
        vm.snapshot(tmp_path / "one")
        with wirt.Machine.restore(tmp_path / "one") as restored:
            csr = restored.harts[0].csr
            assert {name: csr[name] for name in chosen} == chosen
            assert csr["tdata1"] == 6 << 60 | 0x5A
            csr["tselect"] = 1
            assert csr["tdata1"] == 15 << 60
            restored.step(4)
            assert csr["mhpmcounter4"] == 12349


def test_reset_values(lab: Lab):
    for name in ("mseccfg", "mstateen0", "mstateen3", "mhpmevent3", "mhpmcounter6", "tselect"):
        assert lab.csr[name] == 0
    assert lab.csr["tdata1"] == 15 << 60


# --- triggers, where Spike and a guest cannot look ---


def test_a_trigger_and_a_breakpoint_of_the_host_at_one_place(lab: Lab):
    lab.csr["tdata2"] = CODE
    lab.csr["tdata1"] = 6 << 60 | 1 << 6 | 1 << 4 | 1 << 3 | 1 << 2
    lab.vm.add_breakpoint(CODE)
    lab.vm.memory[CODE : CODE + 4] = struct.pack("<I", NOP)
    lab.hart.privilege, lab.hart.pc = Privilege.user, CODE
    assert lab.run(NOP, Privilege.user) == BREAKPOINT
    assert lab.csr["mtval"] == CODE == lab.csr["mepc"]
    assert lab.csr["tdata1"] >> 22 & 1
    lab.csr["tdata1"] = 0
    assert lab.run(NOP, Privilege.user) is None


def test_a_watched_page_is_as_it_was_when_the_trigger_is_gone(lab: Lab):
    store = encode("sd", 0, 6, 5)
    lab.x["t1"] = CODE + 0x4000
    assert lab.run(store) is None
    lab.csr["tdata2"] = CODE + 0x4007
    lab.csr["tdata1"] = 6 << 60 | 1 << 6 | 2
    lab.csr["mstatus"] = 1 << 3
    assert lab.run(store) == BREAKPOINT
    assert lab.run(encode("ld", 5, 6)) is None
    lab.csr["tdata1"] = 0
    assert lab.run(store) is None


# --- compare and swap between harts ---


def test_amocas_q_loses_no_update_of_another_hart():
    """Two harts count up one pair of doublewords, whose upper half is twice the lower; the last one powers off."""
    rounds = 2000
    asm = Assembler()
    asm.li(10, 0x8001_0000)
    asm.li(11, rounds)
    asm.label("again")
    asm.op("ld", 6, 10)
    asm.op("ld", 7, 10, imm=8)
    for to, register, by in ((28, 6, 1), (29, 7, 2), (12, 6, 0), (13, 7, 0)):
        asm.op("addi", to, register, imm=by)
    asm.op("amocas.q", 6, 10, 28)
    asm.jump("again", "bne", rs1=6, rs2=12)
    asm.jump("again", "bne", rs1=7, rs2=13)
    asm.op("addi", 11, 11, imm=-1)
    asm.jump("again", "bne", rs1=11)
    asm.op("addi", 10, 10, imm=64)
    asm.op("addi", 5, 0, imm=1)
    asm.op("amoadd.d", 5, 10, 5)
    asm.label("rest")
    asm.jump("rest", "beq", rs1=5)
    asm.li(5, 0x10_0000)
    asm.li(6, 0x5555)
    asm.op("sw", 0, 5, 6)
    asm.jump("rest")
    with wirt.Machine(firmware=asm.assemble(), memory="16M", cpus=2, isa="rv64gc_zacas") as vm:
        vm.start()
        assert vm.wait(120)
        assert struct.unpack("<QQ", vm.memory[0x8001_0000:0x8001_0010]) == (2 * rounds, 4 * rounds)


# --- names ---


@pytest.mark.parametrize(
    ("text", "there", "absent"),
    [
        ("rv64ic_zbkb", {"ror", "packh", "andn"}, {"clz", "clmul"}),
        ("rv64ic_zbkc", {"clmul"}, {"clmulr", "pack"}),
        ("rv64ic_zbc", {"clmul", "clmulr"}, {"pack"}),
        ("rv64ic_zkne", {"aes64ks2", "aes64es"}, {"aes64ds"}),
        ("rv64imac_zabha", {"amoadd.b"}, {"amocas.b", "amocas.w"}),
        ("rv64imac_zabha_zacas", {"amocas.b", "amocas.w"}, {"flh"}),
        ("rv64ifc_zfa_zfhmin", {"fli.s", "flh"}, {"fli.d", "fli.h", "fadd.h", "fcvt.d.h"}),
        ("rv64idc_zfa_zfh", {"fli.d", "fli.h", "fadd.h", "fcvt.d.h"}, {"amoadd.b"}),
        ("rv64ic_zkn", {"pack", "xperm4", "clmulh", "sha512sum0", "aes64im"}, {"clmulr"}),
    ],
)
def test_what_needs_several_extensions_or_one_of_several(text: str, there: set[str], absent: set[str]):
    rows = {row.name: row for row in isa.instructions()}
    with machine(text) as vm:
        lab = Lab(vm)
        lab.csr["mstatus"] = 3 << 13
        lab.x["t1"] = CODE + 0x4000
        for name in there | absent:
            raw = rows[name].match | (6 << 15 if rows[name].mask >> 15 & 31 == 0 else 0)
            assert (lab.run(raw) == ILLEGAL) == (name in absent), name


def test_a_compressed_form_needs_what_it_stands_for():
    with machine("rv64ic_zcb") as vm:
        lab = Lab(vm)
        for raw, legal in ((0x9C61, True), (0x9C75, True), (0x9C65, False), (0x9C71, False), (0x9C41, False)):
            # c.zext.b, c.not; c.sext.b needs Zbb, c.zext.w Zba, c.mul M
            assert (lab.run(raw) is None) == legal, hex(raw)
