"""The 82574L (Intel 82574 GbE Controller Family Datasheet): configuration, registers, NVM, PHY, link and interrupts."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import wirt
from support import e1000e_driver as e
from support.e1000e_driver import E1000eDriver, wait_until
from support.firmware import words

MAC = "52:54:00:12:34:56"
PEER = bytes.fromhex("020000000001")
OWN = bytes.fromhex(MAC.replace(":", ""))


@pytest.fixture
def lan() -> wirt.Switch:
    return wirt.Switch()


@pytest.fixture
def port(lan: wirt.Switch) -> wirt.net.Port:
    return lan.port(MAC, model="e1000e")


@pytest.fixture
def vm(port: wirt.net.Port) -> Iterator[wirt.Machine]:
    with wirt.Machine(memory="64M", nets=[port]) as machine:
        yield machine


@pytest.fixture
def nic(vm: wirt.Machine) -> E1000eDriver:
    return E1000eDriver(vm)


@pytest.fixture
def peer(lan: wirt.Switch) -> wirt.EndPoint:
    return lan.endpoint()


def frame(size: int = 64, to: bytes = OWN) -> bytes:
    source = OWN if to == PEER else PEER
    return (to + source + b"\x88\xb5").ljust(size, b".")


# --- configuration space and BARs ---


def test_identity_and_bars(vm: wirt.Machine, nic: E1000eDriver) -> None:
    assert nic.slot == 4, "the first slot for NICs"
    assert nic.config(8) >> 8 == 0x020000
    assert nic.config(0x3D, 1) == 1, "INTA"
    sizes = []
    for index in range(4):
        before = nic.config(0x10 + 4 * index)
        nic.set_config(0x10 + 4 * index, 4, 0xFFFF_FFFF)
        sizes.append(nic.config(0x10 + 4 * index))
        nic.set_config(0x10 + 4 * index, 4, before)
    assert sizes == [0xFFFE_0000, 0xFFFF_0000, 0xFFFF_FFE1, 0xFFFF_F000]
    for which in (0x01, 0x05, 0x10, 0x11):
        nic.capability(which)
    assert nic.config(nic.capability(0x11) + 2, 2) & 0x7FF == 4, "five vectors"
    assert vm.bus.read(nic.bar + 0x10_0000, 4) == 0xFFFF_FFFF, "an empty flash"
    (info,) = (device for device in vm.devices if device.name == "e1000e0")
    assert (info.base, info.size) == (nic.bar, 0x2_0000)


def test_registers_through_the_io_window(vm: wirt.Machine, nic: E1000eDriver) -> None:
    io = e.IO_WINDOW + e.IO
    vm.bus.write(io, 4, e.VET)
    assert vm.bus.read(io, 4) == e.VET
    assert vm.bus.read(io + 4, 4) == 0x8100
    vm.bus.write(io + 4, 4, 0x88A8)
    assert nic.read(e.VET) == 0x88A8
    vm.bus.write(io, 4, 0xFFFF_FFFC)
    assert vm.bus.read(io + 4, 4) == 0


def test_a_group_address_is_refused(lan: wirt.Switch) -> None:
    with pytest.raises(wirt.ConfigError, match="group address"):
        lan.port("01:00:00:00:00:01", model="e1000e")


def test_registers_of_old_addresses(nic: E1000eDriver) -> None:
    nic.write(e.RDBAL, 0x1234_5670)
    assert nic.read(0x110) == 0x1234_5670
    nic.write(0x200 + 4 * 7, 0xABCD)
    assert nic.read(e.MTA + 4 * 7) == 0xABCD
    assert nic.read(0x40) == nic.read(e.RAL)


@pytest.mark.parametrize("seed", range(2))
def test_every_register_at_every_width_and_offset(vm: wirt.Machine, nic: E1000eDriver, seed: int) -> None:
    """Anything may be written anywhere: the machine lives, and a reset brings every register back."""
    random.seed(seed)
    # The NVM may be written to, and with it the address; the PHY's reset is a change of the link.
    compared = [offset for offset in range(0, 0x2_0000, 64) if offset not in (e.RAL, 0x40, e.ICR)]
    fresh = {offset: nic.read(offset) for offset in compared}
    for size in (1, 2, 4, 8):
        for offset in range(0, 0x2_0000, 4 * max(size, 4)):
            at = min(offset // size * size + random.choice((0, size)), 0x2_0000 - size)
            value = random.choice((0, (1 << 8 * size) - 1, random.getrandbits(8 * size)))
            vm.bus.write(nic.bar + at, size, value)
            assert 0 <= vm.bus.read(nic.bar + at, size) < 1 << 8 * size
    nic.write(e.CTRL, e.RST | e.PHY_RST)
    nic.write(e.STATUS, 0)
    assert {offset: nic.read(offset) for offset in compared} == fresh


def test_a_register_is_written_as_a_whole(vm: wirt.Machine, nic: E1000eDriver) -> None:
    vm.bus.write(nic.bar + e.VET, 2, 0x1234)
    vm.bus.write(nic.bar + e.VET, 1, 0x12)
    assert nic.read(e.VET) == 0x8100
    assert vm.bus.read(nic.bar + e.VET, 2) == 0x8100
    assert vm.bus.read(nic.bar + e.VET + 1, 1) == 0x81
    vm.bus.write(nic.bar + e.RDBAL, 8, 0x1_2345_6780)
    assert (nic.read(e.RDBAL), nic.read(e.RDBAH)) == (0x2345_6780, 1)


# --- NVM, semaphores, PHY ---


def test_nvm_has_the_address_and_a_checksum(nic: E1000eDriver) -> None:
    words = [nic.nvm(word) for word in range(64)]
    assert b"".join(word.to_bytes(2, "little") for word in words[:3]) == OWN
    assert sum(words) & 0xFFFF == 0xBABA
    assert (words[0x0E], words[0x0D]) == (0x8086, 0x10D3)
    assert nic.read(e.EEC) & 0x300 == 0x300, "present, and read"
    assert nic.nvm(0x3FFF) == 0xFFFF, "no such word"


def test_nvm_can_be_written_and_gives_the_address_after_a_reset(nic: E1000eDriver) -> None:
    nic.write(e.EEWR, 0xAABB << 16 | 2 << 2 | 1)
    assert nic.read(e.EEWR) & 2
    assert nic.nvm(2) == 0xAABB
    assert nic.read(e.RAH) == 0x8000_5634
    nic.write(e.CTRL, e.RST)
    assert nic.read(e.RAH) == 0x8000_AABB
    nic.write(e.EEWR, 0x1234 << 16 | 0x3FFF << 2 | 1)  # nowhere


def test_semaphores(nic: E1000eDriver) -> None:
    assert nic.read(e.SWSM) & 1 == 0
    assert nic.read(e.SWSM) & 1 == 1, "reading takes it"
    nic.write(e.SWSM, 0)
    assert nic.read(e.SWSM) & 1 == 0
    nic.write(e.SWSM, 2)
    assert nic.read(e.SWSM) & 2
    nic.write(e.EXTCNF_CTRL, 1 << 5)
    assert nic.read(e.EXTCNF_CTRL) & 1 << 5
    nic.write(e.EEC, 1 << 6)
    assert nic.read(e.EEC) & 1 << 7, "granted"
    assert nic.read(0x5B54) & 0xE == 0, "no management firmware"


def test_phy(nic: E1000eDriver) -> None:
    assert (nic.phy(2), nic.phy(3)) == (0x0141, 0x0CB1)
    nic.phy(1)
    assert nic.phy(1) & 0x24 == 0x24, "link, and negotiated"
    assert nic.phy(10) & 0x3000
    nic.set_phy(22, 2)
    nic.set_phy(21, 0x1046)
    assert nic.phy(21) == 0x1046
    nic.set_phy(22, 0)
    assert nic.phy(21) == 0
    nic.set_phy(22, 0xFFFF)
    nic.set_phy(31, 1)
    assert nic.phy(31) == 0, "there is no such page"
    nic.set_phy(2, 0)
    assert nic.phy(2) == 0x0141
    nic.write(e.MDIC, 2 << 26 | 5 << 21)
    assert nic.read(e.MDIC) >> 28 & 7 == 5, "ready, with an error: nobody is there"
    nic.write(e.MDIC, 2 << 26 | 1 << 21 | 2 << 16 | 1 << 29)
    assert nic.read(e.ICR) & e.MDAC


def test_phy_power_and_reset_change_the_link(nic: E1000eDriver) -> None:
    assert nic.read(e.STATUS) & e.LU
    nic.read(e.ICR)
    nic.set_phy(0, 0x1940)
    assert not nic.read(e.STATUS) & e.LU
    assert nic.read(e.ICR) & e.LSC
    assert nic.phy(1) & 0x24 == 0
    nic.set_phy(0, 0x9140)
    assert nic.phy(0) == 0x1140, "the reset bit clears itself"
    assert nic.read(e.STATUS) & e.LU
    assert nic.phy(1) & 4 == 0, "a link that was lost is shown once"
    assert nic.phy(1) & 4
    nic.write(e.CTRL, nic.read(e.CTRL) | e.PHY_RST)
    assert nic.read(e.STATUS) & e.PHYRA
    nic.write(e.STATUS, 0)
    assert not nic.read(e.STATUS) & e.PHYRA


def test_the_cable_is_pulled_and_put_back(nic: E1000eDriver, port: wirt.net.Port, peer: wirt.EndPoint) -> None:
    nic.start()
    nic.read(e.ICR)
    assert port.link
    port.link = False
    assert wait_until(lambda: not nic.read(e.STATUS) & e.LU)
    assert nic.read(e.ICR) & e.LSC
    assert nic.phy(1) & 4 == 0
    nic.send(frame(to=PEER))
    peer.send(frame())
    assert peer.waiting == 0
    assert port.link is False
    port.link = True
    assert wait_until(lambda: bool(nic.read(e.STATUS) & e.LU))
    assert nic.read(e.ICR) & e.LSC
    nic.phy(1)
    assert nic.phy(1) & 4
    peer.send(frame(100))
    assert nic.receive().data == frame(100)
    nic.send(frame(to=PEER))
    assert peer.recv(5) == frame(to=PEER)


def test_a_machine_may_begin_without_the_cable(lan: wirt.Switch) -> None:
    port = lan.port(model="e1000e")
    port.link = False
    with wirt.Machine(memory="64M", nets=[port]) as vm:
        assert not E1000eDriver(vm).read(e.STATUS) & e.LU


def test_system_time_goes_on_in_steps(nic: E1000eDriver) -> None:
    nic.write(0xB608, 1 << 24 | 40 << 18)
    nic.write(0xB600, 0x1000)
    nic.write(0xB604, 0x2)
    low = nic.read(0xB600)
    assert nic.read(0xB604) << 32 | low == 0x2_0000_1000, "the machine's clock stands still"


# --- interrupts ---


def asserted(nic: E1000eDriver) -> bool:
    return bool(nic.config(6, 2) & 8)


def test_causes_and_masks(nic: E1000eDriver) -> None:
    nic.write(e.ICS, e.LSC | e.RXT0)
    assert not asserted(nic), "nothing is enabled"
    nic.write(e.IMS, e.LSC)
    assert asserted(nic)
    assert nic.line()
    assert nic.read(e.ICS) == e.ASSERTED | e.LSC | e.RXT0, "to be seen without being cleared"
    assert nic.read(e.ICR) == e.ASSERTED | e.LSC | e.RXT0
    assert not asserted(nic)
    assert nic.read(e.ICR) == 0
    nic.write(e.ICS, e.RXT0)
    assert not asserted(nic)
    nic.write(e.IMS, e.RXT0)
    assert asserted(nic)
    nic.write(e.IMC, e.RXT0)
    assert not asserted(nic)
    assert nic.read(e.IMS) == e.LSC
    # An interrupt is enabled and none is asserted: a read has no effect.
    assert nic.read(e.ICR) == e.RXT0
    assert nic.read(e.ICR) == e.RXT0
    nic.write(e.ICR, e.RXT0)
    assert nic.read(e.ICR) == 0


def test_reading_causes_masks_what_iam_names(nic: E1000eDriver) -> None:
    nic.write(e.IAM, e.LSC)
    nic.write(e.CTRL_EXT, e.IAME)
    nic.write(e.IMS, e.LSC | e.RXT0)
    nic.write(e.ICS, e.LSC)
    assert nic.read(e.ICR) & e.LSC
    assert nic.read(e.IMS) == e.RXT0


def test_intx_is_throttled_by_itr(nic: E1000eDriver) -> None:
    """The clock of a machine that does not run stands still: what is throttled waits for ever."""
    nic.write(e.ITR, 500)
    nic.write(e.IMS, e.LSC)
    nic.write(e.ICS, e.LSC)
    assert asserted(nic), "the first one is not"
    nic.read(e.ICR)
    nic.write(e.ICS, e.LSC)
    assert not asserted(nic)
    nic.write(e.ITR, 0)
    assert asserted(nic), "nothing holds it back any more"


def msix(nic: E1000eDriver, mask: int = 0) -> None:
    """MSI-X on, with every vector masked by the function so that messages are seen as pending bits."""
    at = nic.capability(0x11)
    for vector in range(5):
        nic.vm.bus.write(nic.bar + 0x20_0000 + 16 * vector + 12, 4, 1)
    nic.set_config(at + 2, 2, 0x8000)
    nic.write(e.IVAR, 0x8_0000 | 4 << 16 | 0xB << 12 | 0xA << 8 | 9 << 4 | 8)
    nic.write(e.IMS, mask)


def pending(nic: E1000eDriver) -> set[int]:
    """Vectors whose message waits; looking does not clear them."""
    bits = nic.vm.bus.read(nic.bar + 0x20_0000 + 0x800, 8)
    return {vector for vector in range(5) if bits >> vector & 1}


@pytest.mark.parametrize(("cause", "vector"), [(e.RXQ0, 0), (e.RXQ1, 1), (e.TXQ0, 2), (e.TXQ1, 3), (e.OTHER, 4)])
def test_each_cause_has_its_vector(nic: E1000eDriver, cause: int, vector: int) -> None:
    msix(nic, cause)
    assert pending(nic) == set()
    nic.write(e.ICS, cause)
    assert pending(nic) == {vector}
    assert not nic.line()


def test_link_changes_raise_the_other_cause(nic: E1000eDriver) -> None:
    msix(nic, e.OTHER | e.LSC)
    nic.write(e.ICS, e.LSC)
    assert pending(nic) == {4}
    assert nic.read(e.ICR) == e.ASSERTED | e.OTHER | e.LSC


def test_a_vector_without_allocation_is_silent(nic: E1000eDriver) -> None:
    msix(nic, e.RXQ0 | e.TXQ0)
    nic.write(e.IVAR, 0x0F0)  # vector 7 does not exist
    nic.write(e.ICS, e.RXQ0 | e.TXQ0 | e.RXQ1)
    assert pending(nic) == set()


def test_messages_clear_and_mask(nic: E1000eDriver) -> None:
    msix(nic)
    nic.write(e.EIAC, e.RXQ0)
    nic.write(e.IAM, 0xFFFF_FFFF)
    nic.write(e.CTRL_EXT, e.EIAME)
    nic.write(e.IMS, e.RXQ0 | e.TXQ0)
    nic.write(e.ICS, e.RXQ0)
    assert nic.read(e.ICS) == 0, "cleared by its own message"
    assert nic.read(e.IMS) == e.TXQ0, "and masked"
    nic.write(e.ICS, e.TXQ0)
    assert nic.read(e.ICS) & e.TXQ0, "not named by EIAC"
    assert nic.read(e.IMS) == 0
    # What comes meanwhile waits for its mask.
    nic.write(e.ICS, e.RXQ0)
    assert nic.read(e.ICS) & e.RXQ0
    nic.write(e.IMS, e.RXQ0)
    assert not nic.read(e.ICS) & e.RXQ0


def test_each_vector_is_throttled_by_its_eitr(nic: E1000eDriver) -> None:
    msix(nic, e.RXQ0 | e.TXQ0)
    nic.write(e.EIAC, e.RXQ0 | e.TXQ0)
    nic.write(e.EITR, 1000)
    nic.write(e.ICS, e.RXQ0)
    assert not nic.read(e.ICS) & e.RXQ0, "a message went out and cleared it"
    nic.write(e.ICS, e.RXQ0 | e.TXQ0)
    assert nic.read(e.ICS) & (e.RXQ0 | e.TXQ0) == e.RXQ0, "its own vector has to wait, the other not"
    nic.write(e.EITR, 0)
    assert not nic.read(e.ICS) & e.RXQ0


def test_msi_says_once_what_was_not_read(vm: wirt.Machine, nic: E1000eDriver) -> None:
    nic.set_config(nic.capability(0x05) + 2, 2, 1)

    def raised() -> int:
        return next(device.interrupts for device in vm.devices if device.name == "e1000e0")

    nic.write(e.IMS, e.LSC | e.RXT0)
    nic.write(e.ICS, e.LSC)
    nic.write(e.ICS, e.LSC)
    assert raised() == 1
    nic.write(e.ICS, e.RXT0)
    assert raised() == 2
    assert not nic.line()
    nic.read(e.ICR)
    nic.write(e.ICS, e.LSC)
    assert raised() == 3


def test_received_frames_are_announced_after_their_delay(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start()
    nic.write(e.RDTR, 100)
    nic.write(e.RADV, 200)
    peer.send(frame())
    nic.receive()
    assert not nic.read(e.ICS) & e.RXT0
    nic.write(e.RDTR, e.FPD | 100)
    assert nic.read(e.ICS) & e.RXT0, "flushed"
    nic.write(e.ICR, 0xFFFF_FFFF)
    nic.write(e.RDTR, 0)
    peer.send(frame())
    nic.receive()
    assert wait_until(lambda: bool(nic.read(e.ICS) & e.RXT0))


def test_write_backs_are_announced_after_their_delay(nic: E1000eDriver) -> None:
    nic.start()
    nic.write(e.TIDV, 100)
    nic.send(frame(to=PEER), e.T_IDE)
    assert not nic.read(e.ICS) & e.TXDW
    nic.write(e.TIDV, e.FPD | 100)
    assert nic.read(e.ICS) & e.TXDW
    nic.write(e.ICR, 0xFFFF_FFFF)
    nic.send(frame(to=PEER))
    assert wait_until(lambda: nic.read(e.ICS) & (e.TXDW | e.TXQE) == e.TXDW | e.TXQE)


SPIN, WAIT = words(0x0000_006F), words(0x1050_0073, 0xFFDF_F06F)  # j . and wfi; j -4


def throttle(nic: E1000eDriver) -> None:
    """One interrupt, and one that has to wait for 128 us."""
    nic.write(e.ITR, 500)
    nic.write(e.IMS, e.LSC)
    nic.write(e.ICS, e.LSC)
    assert asserted(nic)
    nic.read(e.ICR)
    nic.write(e.ICS, e.LSC)


def test_what_waits_comes_after_its_time(port: wirt.net.Port) -> None:
    with wirt.Machine(memory="64M", firmware=SPIN, nets=[port], deterministic=True) as vm:
        nic = E1000eDriver(vm)
        throttle(nic)
        vm.run_for(100_000)
        assert not asserted(nic), "100 us"
        vm.run_for(50_000)
        assert asserted(nic), "150 us"


@pytest.mark.parametrize("program", [SPIN, WAIT], ids=["busy", "waiting"])
def test_what_waits_comes_whatever_the_hart_does(port: wirt.net.Port, program: bytes) -> None:
    with wirt.Machine(memory="64M", firmware=program, nets=[port], cpus=2) as vm:
        nic = E1000eDriver(vm)
        vm.start()
        for _ in range(20):
            throttle(nic)
            assert wait_until(lambda: asserted(nic))
            nic.read(e.ICR)
            nic.write(e.ITR, 0)


# --- resets ---


def test_software_reset(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start()
    nic.write(e.IMS, e.LSC)
    nic.write(e.ICS, e.LSC)
    nic.set_phy(4, 0x1E1)
    nic.write(e.CTRL, nic.read(e.CTRL) | e.RST)
    assert not nic.read(e.CTRL) & e.RST
    assert not asserted(nic)
    assert [nic.read(register) for register in (e.ICR, e.IMS, e.RCTL, e.TCTL, e.RDT, e.TDLEN)] == [0] * 6
    assert nic.phy(4) == 0x1E1, "the PHY is not part of it"
    assert nic.read(e.RAL) == int.from_bytes(OWN[:4], "little")
    nic.start()
    peer.send(frame())
    assert nic.receive().data == frame()


def test_function_level_reset(nic: E1000eDriver) -> None:
    nic.start()
    nic.set_phy(4, 0x1E1)
    at = nic.capability(0x10)
    nic.set_config(at + 8, 2, 0x8000)
    assert nic.config(4, 2) & 7 == 0
    nic.enable()
    assert nic.read(e.RCTL) == 0
    assert nic.phy(4) == 0xDE1


def test_master_disable_stops_dma(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start()
    nic.write(e.CTRL, nic.read(e.CTRL) | e.MASTER_DISABLE)
    assert not nic.read(e.STATUS) & e.MASTER_ENABLE
    nic.put(nic.place(frame(to=PEER)), e.T_EOP | e.T_IFCS | e.T_RS | 64)
    nic.ring_bell()
    peer.send(frame())
    assert nic.quiet()
    assert nic.read(e.TDH) == 0
    assert peer.waiting == 0


def test_resets_in_the_middle_of_traffic(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    for turn in range(30):
        nic.next = e.RAM + 0x10_0000
        nic.start()
        for _ in range(20):
            peer.send(frame(1000))
            nic.put(nic.place(frame(1000, PEER)), e.T_EOP | e.T_IFCS | e.T_RS | 1000)
        nic.ring_bell()
        if turn % 3 == 2:
            nic.set_config(nic.capability(0x10) + 8, 2, 0x8000)
            nic.enable()
        nic.write(e.CTRL, nic.read(e.CTRL) | e.RST)
    nic.start()
    nic.send(frame(500, PEER))
    while peer.recv(5) != frame(500, PEER):
        pass
    peer.send(frame(700))
    while nic.receive().data != frame(700):
        pass
