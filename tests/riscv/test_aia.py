"""The hart's side of the Advanced Interrupt Architecture 1.0 (chapters 2 and 5), one instruction at a time."""

from __future__ import annotations

import pytest

import wirt
from support.assembler import encode
from support.firmware import SPIN
from support.lab import ALL, CODE, Lab
from wirt import Privilege, isa

SSI, MSI, STI, MTI, SEI, MEI = 1, 3, 5, 7, 9, 11
INTERRUPT = 1 << 63
SIE, MIE = 1 << 1, 1 << 3
AIA = ("siselect", "sireg", "stopei", "stopi", "mvien", "mvip", "miselect", "mireg", "mtopei", "mtopi")
IMSIC = {"m": 0x2400_0000, "s": 0x2800_0000}


class AiaLab(Lab):
    """With an IMSIC."""

    def indirect(self, level: str, select: int, value: int | None = None) -> int:
        self.csr[f"{level}iselect"] = select
        if value is not None:
            self.csr[f"{level}ireg"] = value
        return self.csr[f"{level}ireg"]

    def receive(self, level: str, identity: int) -> None:
        self.vm.bus.write(IMSIC[level], 4, identity)

    def open_file(self, level: str) -> None:
        self.indirect(level, 0x70, 1)
        for word in range(4):
            self.indirect(level, 0xC0 + 2 * word, ALL)


@pytest.fixture
def lab():
    with wirt.Machine(firmware=SPIN, memory="16M", interrupts="aia", deterministic=True) as vm:
        yield AiaLab(vm)


# --- which registers there are ---


@pytest.mark.parametrize("interrupts", ["plic", "aplic"])
def test_without_an_imsic_there_is_none_of_it(interrupts: str):
    with wirt.Machine(firmware=SPIN, memory="16M", interrupts=interrupts) as vm:
        lab = AiaLab(vm)
        for name in AIA:
            assert lab.illegal(name)
            with pytest.raises(KeyError, match="no such"):
                lab.csr[name]


def test_who_may_access_what(lab: AiaLab):
    for name in AIA:
        number = isa.csrs()[name]
        lab.csr["miselect"] = lab.csr["siselect"] = 0x30
        for mode, level in ((Privilege.machine, 3), (Privilege.supervisor, 1), (Privilege.user, 0)):
            allowed = level >= number >> 8 & 3
            assert lab.illegal(name, mode) == (not allowed), name
            assert lab.illegal(name, mode, write=True) == (not allowed or number >> 10 == 3), name


def test_registers_of_other_extensions_are_absent(lab: AiaLab):
    # mireg2 to mireg6 and sireg2 to sireg6 (Smcsrind, Sscsrind), the high halves of RV32, vs* and h* (H).
    for number in (*range(0x352, 0x358), *range(0x152, 0x158), 0x354, 0x318, 0x319, 0x250, 0x251, 0x25C, 0xEB0, 0x645):
        assert lab.illegal(number), hex(number)


@pytest.mark.parametrize("level", ["m", "s"])
def test_which_selections_are_legal(lab: AiaLab, level: str):
    for select in range(0x200):
        legal = ((0x30 <= select < 0x40 or 0x80 <= select <= 0xFF) and select % 2 == 0) or 0x70 <= select < 0x80
        lab.csr[f"{level}iselect"] = select
        assert lab.csr[f"{level}iselect"] == select
        assert lab.illegal(f"{level}ireg") == (not legal), hex(select)
        assert lab.illegal(f"{level}ireg", write=True) == (not legal), hex(select)
    lab.csr[f"{level}iselect"] = ALL
    assert lab.csr[f"{level}iselect"] == 0x1FF


# --- interrupt files through CSRs ---


@pytest.mark.parametrize("level", ["m", "s"])
def test_any_write_of_topei_claims_what_it_reads(lab: AiaLab, level: str):
    lab.open_file(level)
    topei = f"{level}topei"
    for identity in (5, 70, 200, 201):
        lab.receive(level, identity)
    assert lab.access(topei) == 5 << 16 | 5  # csrrs with x0 only reads
    assert lab.access(topei, "csrrw", 99) == 5 << 16 | 5
    assert lab.access(topei, "csrrs", 1) == 70 << 16 | 70
    assert lab.access(topei, "csrrc", 1) == 200 << 16 | 200
    assert lab.access(topei, "csrrw") == 201 << 16 | 201
    assert lab.access(topei, "csrrw") == 0


def test_setting_and_clearing_change_their_bits_alone(lab: AiaLab):
    lab.csr["siselect"] = 0x82
    for identity in (64, 66):
        lab.receive("s", identity)
    assert lab.access("sireg", "csrrs", 0b10) == 0b101
    assert lab.access("sireg", "csrrc", 0b100) == 0b111
    assert lab.access("sireg", "csrrw", 0b1000) == 0b011
    assert lab.access("sireg") == 0b1000


def test_mvien_takes_the_file_from_supervisor_mode(lab: AiaLab):
    lab.csr["mvien"] = 1 << SEI
    for select in (0x70, 0x72, 0x80, 0xFE):
        lab.csr["siselect"] = select
        assert lab.illegal("sireg", Privilege.supervisor)
        assert not lab.illegal("sireg")
    assert lab.illegal("stopei", Privilege.supervisor)
    assert not lab.illegal("stopei")
    lab.csr["siselect"] = 0x30
    assert not lab.illegal("sireg", Privilege.supervisor)
    assert not lab.illegal("stopi", Privilege.supervisor)


# --- priorities ---


def test_priority_numbers_are_settable_where_they_may_be(lab: AiaLab):
    def bytes_of(level: str) -> dict[int, int]:
        shown = {}
        for register in range(8):
            value = lab.indirect(level, 0x30 + 2 * register, ALL)
            shown |= {8 * register + i: value >> 8 * i & 0xFF for i in range(8)}
        return {which: number for which, number in shown.items() if number}

    # The external interrupt's own is read-only zero (5.2.1, 5.4.1), and so are those that sie cannot enable.
    assert bytes_of("m") == dict.fromkeys((SSI, MSI, STI, MTI, SEI), 0xFF)
    assert bytes_of("s") == {}
    lab.csr["mideleg"] = ALL
    assert bytes_of("s") == dict.fromkeys((SSI, STI), 0xFF)
    lab.csr["mideleg"] = 0
    lab.csr["mvien"] = ALL
    assert bytes_of("s") == {SSI: 0xFF}


def pend(lab: AiaLab, *interrupts: int) -> None:
    """Makes machine-level interrupts pending, the external one as identity 100."""
    for which in interrupts:
        match which:
            case 1 | 9:
                lab.csr["mip"] = lab.csr["mip"] & (1 << SSI) | 1 << which
            case 3:
                lab.vm.bus.write(0x200_0000, 4, 1)
            case 11:
                lab.receive("m", 100)
    lab.csr["mie"] = ALL


def test_mtopi_follows_the_default_order_and_shows_the_lowest_priority(lab: AiaLab):
    assert lab.csr["mtopi"] == 0
    pend(lab, SSI)
    assert lab.csr["mtopi"] == SSI << 16 | 255
    pend(lab, MSI)
    assert lab.csr["mtopi"] == MSI << 16 | 255
    lab.open_file("m")
    pend(lab, MEI)
    assert lab.csr["mtopi"] == MEI << 16 | 100
    # mie and mideleg matter, mstatus.MIE does not.
    lab.csr["mie"] = 1 << MSI
    assert lab.csr["mtopi"] == MSI << 16 | 255
    lab.csr["mie"] = 1 << SSI
    lab.csr["mideleg"] = 1 << SSI
    assert (lab.csr["mtopi"], lab.csr["stopi"]) == (0, SSI << 16 | 255)


@pytest.mark.parametrize(
    ("number", "top"),
    [
        (99, MSI << 16 | 99),
        (100, MEI << 16 | 100),  # ties go by the default order
        (101, MEI << 16 | 100),
        (0, MEI << 16 | 100),
    ],
)
def test_a_priority_number_mixes_with_identities(lab: AiaLab, number: int, top: int):
    lab.open_file("m")
    pend(lab, MSI, MEI)
    lab.indirect("m", 0x30, number << 8 * MSI)
    assert lab.csr["mtopi"] == top
    lab.csr["mstatus"] = MIE
    assert lab.run() == INTERRUPT | top >> 16


def test_stopi_and_the_supervisors_external_interrupt(lab: AiaLab):
    lab.csr["mideleg"] = 1 << SSI | 1 << STI | 1 << SEI
    lab.csr["sie"] = ALL
    lab.open_file("s")
    lab.receive("s", 30)
    lab.csr["sip"] = 1 << SSI
    assert lab.csr["stopi"] == SEI << 16 | 30
    lab.indirect("s", 0x30, 29 << 8 * SSI)
    assert lab.csr["stopi"] == SSI << 16 | 29
    assert lab.run(mode=Privilege.user) == INTERRUPT | SSI
    assert lab.hart.privilege is Privilege.supervisor
    # Made pending by software alone, it has priority 256 (5.4.1).
    assert lab.access("stopei", "csrrw") == 30 << 16 | 30
    lab.csr["mvip"] = 1 << SEI | 1 << SSI
    lab.indirect("s", 0x30, 255 << 8 * SSI)
    assert lab.csr["stopi"] == SSI << 16 | 255
    lab.indirect("s", 0x30, 0)
    assert lab.csr["stopi"] == SEI << 16 | 255


# --- virtual interrupts ---


def test_mvien_and_mvip_are_warl(lab: AiaLab):
    lab.csr["mvien"] = ALL
    assert lab.csr["mvien"] == 1 << SSI | 1 << SEI
    lab.csr["mvip"] = ALL
    assert lab.csr["mvip"] == 1 << SSI | 1 << SEI
    lab.csr["mvip"] = 0
    lab.csr["mvien"] = 0
    lab.csr["menvcfg"] = 0
    lab.csr["mvip"] = ALL
    assert lab.csr["mvip"] == lab.csr["mip"] == 1 << SSI | 1 << STI | 1 << SEI


def test_mvip_is_mip_or_its_own(lab: AiaLab):
    lab.csr["mip"] = 1 << SSI | 1 << SEI
    assert lab.csr["mvip"] == 1 << SSI | 1 << SEI
    # Bit 9 stays what it was and leaves mip; bit 1 becomes another one.
    lab.csr["mvien"] = 1 << SSI | 1 << SEI
    assert lab.csr["mip"] == 1 << SSI
    assert lab.csr["mvip"] & 1 << SEI
    lab.csr["mvip"] = 0
    assert lab.csr["mip"] == 1 << SSI
    lab.csr["mip"] = 1 << SEI
    assert (lab.csr["mip"], lab.csr["mvip"]) == (0, 0)
    lab.csr["mvip"] = 1 << SSI
    assert (lab.csr["mip"], lab.csr["mvip"]) == (0, 1 << SSI)


def test_mip_shows_the_wire_alone_under_mvien(lab: AiaLab):
    lab.csr["mvien"] = 1 << SEI
    lab.csr["mvip"] = 1 << SEI
    assert lab.csr["mip"] == 0
    lab.open_file("s")
    lab.receive("s", 1)
    assert lab.csr["mip"] == 1 << SEI


@pytest.mark.parametrize("which", [SSI, SEI])
def test_a_virtual_interrupt_traps_to_supervisor_mode(lab: AiaLab, which: int):
    lab.csr["sie"] = ALL
    assert lab.csr["sie"] == 0
    lab.csr["mvien"] = 1 << which
    lab.csr["sie"] = ALL
    assert (lab.csr["sie"], lab.csr["mie"]) == (1 << which, 0)
    assert lab.csr["stopi"] == 0
    lab.csr["mvip"] = 1 << which
    assert (lab.csr["sip"], lab.csr["mtopi"], lab.csr["stopi"]) == (1 << which, 0, which << 16 | 255)
    assert lab.run() is None
    assert lab.run(mode=Privilege.supervisor) is None
    assert lab.run(mode=Privilege.user) == INTERRUPT | which
    assert lab.hart.privilege is Privilege.supervisor
    # SSIP is cleared in sip, as ever; SEIP is the firmware's.
    assert lab.access("sip", "csrrc", 1 << which, Privilege.supervisor) & 1 << which
    assert lab.csr["mvip"] == (0 if which == SSI else 1 << SEI)


def test_a_virtual_interrupt_is_taken_as_soon_as_it_is_enabled(lab: AiaLab):
    lab.csr["mvien"] = 1 << SSI
    lab.csr["sie"] = 1 << SSI
    lab.csr["mvip"] = 1 << SSI
    # The return to S-mode with SPIE set is followed by the interrupt, not by the instruction.
    lab.csr["mepc"] = CODE + 4
    lab.csr["mstatus"] = 1 << 11 | SIE
    assert lab.run(encode("mret")) is None
    lab.vm.step()
    assert (lab.csr["scause"], lab.csr["sepc"]) == (INTERRUPT | SSI, CODE + 4)


def test_wfi_goes_on_for_a_virtual_interrupt(lab: AiaLab):
    lab.csr["mvien"] = 1 << SSI
    lab.csr["sie"] = 1 << SSI
    lab.csr["mvip"] = 1 << SSI
    assert lab.run(encode("wfi")) is None
    assert lab.hart.pc == CODE + 4
    # Were it waiting, it would wait for ever.
    lab.vm.run_for(100)
    assert lab.vm.stop_reason == "step"
