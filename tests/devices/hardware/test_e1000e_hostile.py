"""The 82574L under a driver that means it ill: rings, descriptors and contexts that no driver would write.

Whatever it is given, the NIC does a bounded amount of work, touches no register by DMA, and works after a reset.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

import wirt
from support import e1000e_driver as e
from support.e1000e_driver import E1000eDriver, wait_until

OWN = bytes.fromhex("525400123456")
PEER = bytes.fromhex("020000000001")
NOWHERE = 0x0900_0000
BEYOND = e.RAM + (64 << 20) - 8


@pytest.fixture
def lan() -> wirt.Switch:
    return wirt.Switch()


@pytest.fixture
def nic(lan: wirt.Switch) -> Iterator[E1000eDriver]:
    with wirt.Machine(memory="64M", nets=[lan.port(OWN.hex(":"), model="e1000e")]) as vm:
        yield E1000eDriver(vm)


@pytest.fixture
def peer(lan: wirt.Switch) -> wirt.EndPoint:
    return lan.endpoint()


def frame(size: int = 64, to: bytes = OWN) -> bytes:
    return (to + (OWN if to == PEER else PEER) + b"\x88\xb5").ljust(size, b".")


def assert_heals(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.write(e.CTRL, e.SLU | e.RST)
    nic.next = e.RAM + 0x200_0000
    nic.start()
    nic.send(frame(123, PEER))
    while peer.recv(5) != frame(123, PEER):
        pass
    peer.send(frame(124))
    while nic.receive().data != frame(124):
        pass


@pytest.mark.parametrize(("register", "value"), [(e.TDH, 32), (e.TDT, 32), (e.TDT, 0xFFFF), (e.TDLEN, 0)])
def test_a_transmit_ring_out_of_range_stands_still(
    nic: E1000eDriver, peer: wirt.EndPoint, register: int, value: int
) -> None:
    nic.start_transmit()
    nic.put(nic.place(frame(64, PEER)), e.T_EOP | e.T_IFCS | e.T_RS | 64)
    nic.write(register, value)
    if register != e.TDT:
        nic.ring_bell()
    assert_heals(nic, peer)
    assert peer.waiting == 0


@pytest.mark.parametrize(
    ("register", "value"), [(e.RDH, 40), (e.RDT, 32), (e.RDT, 0xFFFF), (e.RDLEN, 0), (e.RDBAH, 7), (e.RDBAL, NOWHERE)]
)
def test_a_receive_ring_out_of_range_stands_still(
    nic: E1000eDriver, peer: wirt.EndPoint, register: int, value: int
) -> None:
    nic.start_receive()
    nic.write(register, value)
    for _ in range(50):
        peer.send(frame())
    assert nic.quiet()
    assert_heals(nic, peer)


@pytest.mark.parametrize("where", [NOWHERE, 0xFFFF_FFFF_FFFF_FFF0, BEYOND], ids=["nowhere", "top", "end"])
def test_data_outside_memory_is_not_sent(nic: E1000eDriver, peer: wirt.EndPoint, where: int) -> None:
    nic.start_transmit()
    nic.put(where, e.T_EOP | e.T_IFCS | e.T_RS | 64)
    nic.finish()
    assert nic.memory(nic.tx_ring + 12, 1)[0] & 1, "completed towards the driver"
    nic.send(frame(70, PEER))
    assert peer.recv(5) == frame(70, PEER)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("where", [NOWHERE, 0xFFFF_FFFF_FFFF_FFF0, BEYOND], ids=["nowhere", "top", "end"])
def test_buffers_outside_memory_are_an_error(
    nic: E1000eDriver, peer: wirt.EndPoint, where: int, extended: bool
) -> None:
    nic.write(e.RFCTL, e.EXSTEN if extended else 0)
    nic.start_receive()
    nic.supply(0, where)
    peer.send(frame())
    assert nic.receive().status & e.RXE
    peer.send(frame(99))
    assert nic.receive().data == frame(99)


def test_dma_reaches_no_register(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    """Its own registers as ring, as data and as buffer, and those of others."""
    for aim in (nic.bar, nic.bar + 0x20_0000, e.ECAM + (nic.slot << 15), 0x1000_0000, 0x0010_0000):
        before = [nic.read(register) for register in (e.CTRL, e.STATUS, e.RAL, e.RAH, e.VET)]
        nic.start()
        nic.supply(0, aim)
        nic.put(aim, e.T_EOP | e.T_IFCS | e.T_RS | 64)
        nic.finish()
        peer.send(frame())
        assert nic.receive().status & e.RXE
        for register in (e.TDBAL, e.RDBAL):
            nic.write(register, aim)
        nic.write(e.TDT, 9)
        peer.send(frame())
        assert_heals(nic, peer)
        assert [nic.read(register) for register in (e.CTRL, e.STATUS, e.RAL, e.RAH, e.VET)] == before
        assert nic.vm.state == "created"


@pytest.mark.parametrize(
    "descriptor",
    [
        struct.pack("<QII", 0, e.T_DEXT, 0),  # contexts and nothing else
        struct.pack("<QII", e.RAM, e.T_DATA | 0xF_FFFF, 0),  # a packet without an end
        struct.pack("<QII", e.RAM, 0xFFFF, 0),
        struct.pack("<QII", e.RAM, e.T_DATA | e.T_EOP | e.T_RS, 0),  # packets without content
        struct.pack("<QII", e.RAM, e.T_DATA | e.T_TSE | e.T_EOP | 0xF_FFFF, 0x300),
    ],
    ids=["contexts", "endless", "endless-legacy", "empty", "too-large"],
)
def test_the_largest_ring_full_of_nonsense(nic: E1000eDriver, peer: wirt.EndPoint, descriptor: bytes) -> None:
    count = 0xF_FF80 // 16
    ring = nic.allocate(count * 16)
    nic.vm.memory[ring : ring + count * 16] = descriptor * count
    nic.write(e.TCTL, e.TX_EN)
    for register, value in ((e.TDBAL, ring), (e.TDLEN, 0xF_FF80), (e.TDT, count - 1)):
        nic.write(register, value)
    assert wait_until(lambda: nic.read(e.TDH) == count - 1, 60)
    assert_heals(nic, peer)


def test_a_tail_that_moves_on_and_on(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_transmit(count=8)
    for _ in range(8):
        nic.put(nic.place(frame(64, PEER)), e.T_EOP | e.T_IFCS | 64)
    for step in range(3000):
        nic.write(e.TDT, step % 8)
    assert_heals(nic, peer)


def test_buffers_that_are_the_ring(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.write(e.RFCTL, e.EXSTEN)
    nic.start_receive(count=8, control=e.SECRC | 3 << 16)
    for index in range(8):
        nic.supply(index, nic.rx_ring)
    for _ in range(20):
        peer.send(frame(1500))
    assert_heals(nic, peer)


def test_lengths_that_split_nothing(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.write(e.RFCTL, e.EXSTEN)
    for lengths in (0, 1, 0x7F, 0x3F00, 0x3F3F_3F7F):
        nic.write(e.PSRCTL, lengths)
        nic.start_receive(count=16, control=e.SECRC | e.SPLIT)
        for _ in range(20):
            peer.send(frame(1500))
        nic.write(e.RCTL, 0)
        nic.next = e.RAM + 0x10_0000
    assert_heals(nic, peer)


@pytest.mark.parametrize("seed", range(6))
def test_random_descriptors(nic: E1000eDriver, peer: wirt.EndPoint, seed: int) -> None:
    """Rings of random bytes whose addresses are, half of the time, in memory."""
    rng = random.Random(seed)

    def descriptors(count: int) -> bytes:
        out = b""
        for _ in range(count):
            address = rng.choice(
                (e.RAM + rng.randrange(64 << 20), rng.getrandbits(64), nic.bar + rng.randrange(0x2000))
            )
            command = rng.getrandbits(32) & ~rng.choice((0, 0xF_F000, 0x2F0_0000, e.T_DEXT))
            out += struct.pack("<QII", address, command, rng.getrandbits(32))
        return out

    for _ in range(30):
        count = 8 * rng.randrange(1, 33)
        ring = nic.allocate(count * 16)
        queue = rng.choice((0, 0x100))
        nic.vm.memory[ring : ring + count * 16] = descriptors(count)
        nic.write(e.CTRL, e.SLU | rng.choice((0, e.VME)))
        nic.write(e.RFCTL, rng.choice((0, e.EXSTEN)))
        nic.write(e.PSRCTL, rng.getrandbits(32))
        nic.write(e.TCTL, e.TX_EN | rng.choice((0, e.PSP)))
        base = rng.choice((e.TDBAL, e.RDBAL)) + queue
        for at, value in ((0, ring), (4, 0), (8, count * 16), (0x10, 0), (0x18, rng.randrange(count))):
            nic.write(base + at, value)
        nic.write(e.RCTL, e.RX_EN | e.UPE | e.MPE | (rng.getrandbits(32) & ~(3 << 6)))
        for _ in range(5):
            peer.send(frame(rng.randrange(14, 1514)))
        nic.next = e.RAM + 0x10_0000
    assert_heals(nic, peer)
