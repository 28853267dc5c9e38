"""The 82574L's transmitter and receiver (Intel 82574 GbE Controller Family Datasheet, 7): descriptors and offloads."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wirt
from support import e1000e_driver as e
from support.e1000e_driver import E1000eDriver, wait_until
from support.packets import (
    ACK,
    CWR,
    FIN,
    PSH,
    TCP,
    UDP,
    ethernet,
    internet_checksum,
    ipv4,
    ipv6,
    partial_checksum,
    segments,
    tcp,
    udp,
    with_checksum,
)  # fmt: skip
from support.virtio_driver import Driver

OWN = bytes.fromhex("525400123456")
PEER = bytes.fromhex("020000000001")
BROADCAST = b"\xff" * 6
IPV4, IPV6 = 0x0800, 0x86DD


@pytest.fixture
def lan() -> wirt.Switch:
    return wirt.Switch()


@pytest.fixture
def vm(lan: wirt.Switch) -> Iterator[wirt.Machine]:
    with wirt.Machine(memory="64M", nets=[lan.port(OWN.hex(":"), model="e1000e")]) as machine:
        yield machine


@pytest.fixture
def nic(vm: wirt.Machine) -> E1000eDriver:
    return E1000eDriver(vm)


@pytest.fixture
def peer(lan: wirt.Switch) -> wirt.EndPoint:
    return lan.endpoint()


def frame(size: int = 64, to: bytes = OWN) -> bytes:
    body = bytes(i * 7 & 0xFF for i in range(size))
    return (to + (OWN if to == PEER else PEER) + b"\x88\xb5" + body)[:size]


def outgoing(payload: bytes, ethertype: int = IPV4) -> bytes:
    return ethernet(PEER, OWN, ethertype, payload)


def incoming(payload: bytes, ethertype: int = IPV4, tag: int | None = None) -> bytes:
    return ethernet(OWN, PEER, ethertype, payload, tag)


# --- transmission ---


def test_frames_leave(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_transmit()
    for size in (60, 61, 500, 1514):
        nic.send(frame(size, PEER))
        assert peer.recv(5) == frame(size, PEER)
    at = nic.tx_ring + 12
    assert nic.memory(at, 1)[0] & 1, "DD"
    assert nic.read(e.TDH) == 4


def test_short_frames_are_padded_if_asked(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_transmit()
    nic.send(frame(20, PEER))
    assert peer.recv(5) == frame(20, PEER).ljust(60, b"\0")
    nic.write(e.TCTL, e.TX_EN)
    nic.send(frame(20, PEER))
    assert peer.recv(5) == frame(20, PEER)


def test_a_frame_with_its_own_check_sequence(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_transmit()
    nic.put(nic.place(frame(100, PEER) + b"crc!"), e.T_EOP | e.T_RS | 104)
    nic.finish()
    assert peer.recv(5) == frame(100, PEER)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 1399), max_size=20), legacy=st.booleans())
def test_a_frame_may_lie_in_any_pieces(nic: E1000eDriver, peer: wirt.EndPoint, cuts: list[int], legacy: bool) -> None:
    nic.next = e.RAM + 0x10_0000
    nic.start_transmit()
    whole = frame(1400, PEER)
    pieces = [whole[a:b] for a, b in pairwise([0, *sorted(set(cuts)), 1400])]
    if legacy:
        for number, piece in enumerate(pieces):
            last = e.T_EOP | e.T_RS if number == len(pieces) - 1 else 0
            nic.put(nic.place(piece), e.T_IFCS | last | len(piece))
        nic.finish()
    else:
        nic.send_data(pieces)
    assert peer.recv(5) == whole


def test_both_queues_send(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_transmit(queue=1)
    nic.send(frame(99, PEER))
    assert peer.recv(5) == frame(99, PEER)
    assert nic.read(e.ICR) & e.TXDW
    nic.write(e.TARC + 0x100, 3)
    nic.put(nic.place(frame(64, PEER)), e.T_EOP | e.T_IFCS | 64)
    nic.ring_bell()
    assert not wait_until(lambda: nic.read(e.TDH + 0x100) != 1, 0.03), "the queue is off"
    nic.write(e.TARC + 0x100, 0x403)
    assert peer.recv(5) == frame(64, PEER)


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_checksums_are_inserted(nic: E1000eDriver, peer: wirt.EndPoint, v6: bool, protocol: int) -> None:
    nic.start_transmit()
    header, network = (40, ipv6) if v6 else (20, ipv4)
    transport = tcp(b"payload!!") if protocol == TCP else udp(b"payload!!")
    packet = network(protocol, transport)
    at = 16 if protocol == TCP else 6
    partial = partial_checksum(packet, protocol, len(transport))
    seeded = transport[:at] + partial.to_bytes(2, "big") + transport[at + 2 :]
    given_packet = ipv6(protocol, seeded) if v6 else ipv4(protocol, seeded, checksum=0)
    start = 14 + header
    nic.context((14, 24, 33), (start, start + at, 0))
    options = e.TXSM_OPTION | (0 if v6 else e.IXSM_OPTION)
    ethertype = IPV6 if v6 else IPV4
    nic.send_data([outgoing(given_packet, ethertype)], options)
    expected = outgoing(with_checksum(packet, protocol), ethertype)
    assert peer.recv(5) == expected.ljust(60, b"\0")


def test_a_checksum_that_ends_before_the_packet(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_transmit()
    data = bytearray(frame(100, PEER))
    data[40:42] = b"\0\0"
    nic.context((0, 0, 0), (20, 40, 79))
    nic.send_data([bytes(data)], e.TXSM_OPTION)
    data[40:42] = internet_checksum(bytes(data[20:80])).to_bytes(2, "big")
    assert peer.recv(5) == bytes(data)


def test_a_legacy_checksum(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_transmit()
    data = bytearray(frame(100, PEER))
    data[40:42] = b"\0\0"
    nic.put(nic.place(bytes(data)), e.T_EOP | e.T_IFCS | e.T_RS | e.T_IC | 40 << 16 | 100, 20 << 8)
    nic.finish()
    data[40:42] = internet_checksum(bytes(data[20:])).to_bytes(2, "big")
    assert peer.recv(5) == bytes(data)


def put_large(
    nic: E1000eDriver, v6: bool, payload: bytes, mss: int, flags: int = ACK | PSH | FIN, options: bytes = b"",
    command: int = 0, tag: int = 0, **context: int,
) -> None:  # fmt: skip
    """A packet to be segmented, as Linux leaves it: no lengths, and a pseudo header without one."""
    segment = tcp(payload, flags=flags, options=options)
    network = ipv6(TCP, segment, length=0) if v6 else ipv4(TCP, segment, length=0, checksum=0)
    start = 14 + (40 if v6 else 20)
    seed = partial_checksum(network, TCP, 0)
    packet = bytearray(outgoing(network, IPV6 if v6 else IPV4))
    packet[start + 16 : start + 18] = seed.to_bytes(2, "big")
    fields = {"header": start + 20 + len(options), "mss": mss, "payload": len(payload) & 0xF_FFFF} | context
    kind = e.T_TSE | 1 << 24 | (0 if v6 else 1 << 25)
    nic.context((14, 24, start - 1), (start, start + 16, 0), kind, **fields)
    cuts = [0, start + 20 + len(options), *range(4096, len(packet), 4096), len(packet)]
    pieces = [bytes(packet[a:b]) for a, b in pairwise(sorted(set(cuts)))]
    nic.send_data(pieces, e.TXSM_OPTION | (0 if v6 else e.IXSM_OPTION), e.T_TSE | command, tag)


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize(
    ("length", "mss", "flags"),
    [
        (5000, 1448, ACK | PSH),
        (1448 * 3, 1448, ACK | FIN),
        (60_000, 1448, ACK | PSH | CWR),
        (300, 1448, ACK),
        (9, 1, ACK),
    ],
)
def test_segmentation(nic: E1000eDriver, peer: wirt.EndPoint, v6: bool, length: int, mss: int, flags: int) -> None:
    nic.start_transmit()
    payload = bytes(i * 31 & 0xFF for i in range(length))
    options = b"\1\1\10\12" + bytes(8)
    if v6 and mss > 1440:
        mss = 1428
    put_large(nic, v6, payload, mss, flags, options)
    expected = segments(payload, mss, v6, flags, options)
    for packet in expected:
        wanted = outgoing(packet, IPV6 if v6 else IPV4)
        if len(expected) == 1:
            wanted = wanted.ljust(60, b"\0")
        assert peer.recv(5) == wanted
    assert peer.waiting == 0
    assert nic.read(e.TPT) == len(expected)
    assert nic.read(e.TSCTC) == 1
    octets = sum(len(packet) + 14 + 4 for packet in expected)
    assert nic.read(e.GOTCL) == octets
    nic.read(e.GOTCH)
    assert nic.read(e.GOTCL) == 0


def test_a_large_packet_crosses_the_switch_whole(nic: E1000eDriver, lan: wirt.Switch) -> None:
    """A virtio NIC that takes large segments gets one frame, with a request to the same effect."""
    with wirt.Machine(memory="64M", nets=[lan.port(PEER.hex(":"))]) as other:
        driver = Driver(other, "virtio-net0")
        rx = driver.start(1 << 1 | 1 << 7 | 1 << 15 | 1 << 17, queues=3)[0]  # GUEST_CSUM, GUEST_TSO4, MRG_RXBUF
        buffer = driver.guest.allocate(65536)
        rx.add(writable=[(buffer, 65536)])
        rx.kick()
        nic.start_transmit()
        payload = bytes(i * 13 & 0xFF for i in range(40_000))
        put_large(nic, False, payload, 1460)
        used = rx.wait()
        header = struct.unpack("<BBHHHHH", driver.guest.read(buffer, 12))
        data = driver.guest.read(buffer + 12, used.length - 12)
        assert header == (1, 1, 54, 1460, 34, 16, 1)
        assert len(data) == 54 + 40_000
        assert data[54:] == payload
        assert internet_checksum(data[14:34]) == 0
        assert int.from_bytes(data[16:18], "big") == 40_040
        assert int.from_bytes(data[50:52], "big") == partial_checksum(data[14:], TCP, 40_020)


@pytest.mark.parametrize(
    "context",
    [{"mss": 0}, {"header": 255}, {"header": 0}, {"header": 34}, {"mss": 16_000}],
    ids=["no-mss", "long-header", "no-header", "short-header", "huge-segment"],
)
def test_a_segmentation_that_makes_no_sense(nic: E1000eDriver, peer: wirt.EndPoint, context: dict[str, int]) -> None:
    nic.start_transmit()
    put_large(nic, False, bytes(3000), **({"mss": 1460} | context))
    assert nic.read(e.TSCTFC) == 1
    nic.send(frame(77, PEER))
    assert peer.recv(5) == frame(77, PEER)


def test_segmentation_of_what_is_no_tcp(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_transmit()
    for packet in (frame(3000, PEER), outgoing(ipv4(UDP, udp(bytes(3000)))), frame(40, PEER)):
        nic.context((14, 24, 33), (34, 50, 0), e.T_TSE | 3 << 24, 2946, 54, 1460)
        nic.send_data([packet], 3, e.T_TSE)
    assert nic.read(e.TSCTFC) == 3
    nic.send(frame(77, PEER))
    assert peer.recv(5) == frame(77, PEER)


def test_tags_are_inserted(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_transmit()
    nic.send(frame(60, PEER), e.T_VLE, tag=0x2005)
    assert peer.recv(5) == frame(60, PEER), "not without CTRL.VME"
    nic.write(e.CTRL, nic.read(e.CTRL) | e.VME)
    nic.send(frame(60, PEER), e.T_VLE, tag=0x2005)
    whole = frame(60, PEER)
    assert peer.recv(5) == whole[:12] + b"\x81\x00\x20\x05" + whole[12:]
    payload = bytes(range(250)) * 8
    put_large(nic, False, payload, 1000, command=e.T_VLE, tag=7)
    for packet in segments(payload, 1000, False, ACK | PSH | FIN):
        assert peer.recv(5) == ethernet(PEER, OWN, IPV4, packet, tag=7)


# --- reception ---


FORMATS = {"legacy": (0, 0), "extended": (e.EXSTEN, 0)}


@pytest.mark.parametrize("layout", FORMATS)
def test_frames_arrive(nic: E1000eDriver, peer: wirt.EndPoint, layout: str) -> None:
    nic.write(e.RFCTL, FORMATS[layout][0])
    nic.start_receive(count=8)
    for turn in range(20):
        data = frame(60 + 70 * turn)
        peer.send(data)
        got = nic.receive()
        assert got.data == data
        assert got.status & (e.DD | e.EOP | e.IXSM | e.PIF) == e.DD | e.EOP | e.IXSM


def test_short_frames_are_padded_and_have_a_check_sequence(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_receive(control=e.BAM)
    for size in (20, 60, 200):
        peer.send(frame(size))
        wire = frame(size).ljust(60, b"\0")
        assert nic.receive().data == wire + zlib.crc32(wire).to_bytes(4, "little")


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", [256, 257, 600, 1514])
def test_a_frame_over_several_buffers(nic: E1000eDriver, peer: wirt.EndPoint, layout: str, size: int) -> None:
    nic.write(e.RFCTL, FORMATS[layout][0])
    nic.start_receive(count=16, control=e.SECRC | 3 << 16)  # 256 bytes a buffer
    for _ in range(5):
        peer.send(frame(size))
        assert nic.receive().data == frame(size)


def test_long_frames(nic: E1000eDriver, lan: wirt.Switch, peer: wirt.EndPoint) -> None:
    nic.start_receive()
    peer.send(frame(1518))
    assert nic.quiet()
    assert nic.read(e.ROC) == 1
    nic.write(e.RCTL, e.RX_EN | e.BAM | e.SECRC | e.LPE)
    peer.send(frame(9000))
    assert nic.receive().data == frame(9000)


def test_a_frame_waits_for_descriptors(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_receive(count=8)
    for number in range(12):
        peer.send(frame(100 + number))
    assert wait_until(lambda: nic.read(e.RDH) == nic.read(e.RDT))
    assert nic.read(0x40A0) == 1, "RNBC"
    assert nic.read(e.ICR) & e.RXDMT0
    assert [len(nic.receive().data) for _ in range(12)] == [100 + number for number in range(12)]


def test_what_can_never_fit_is_dropped(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_receive(count=8, control=e.SECRC | e.LPE | 3 << 16)
    peer.send(frame(3000))
    peer.send(frame(70))
    assert nic.receive().data == frame(70)


def test_frames_that_find_no_room_are_counted(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_receive(count=8)
    for _ in range(1500):
        peer.send(frame(60))
    assert wait_until(lambda: nic.read(e.RDH) == nic.read(e.RDT))
    assert 1500 - 1024 - 7 - 64 <= nic.read(e.MPC) <= 1500 - 1024
    assert nic.read(e.ICR) & e.RXO


def checked(nic: E1000eDriver, peer: wirt.EndPoint, data: bytes) -> int:
    peer.send(data)
    return nic.receive().status & (e.IXSM | e.TCPCS | e.UDPCS | e.IPCS | e.TCPE | e.IPE)


@pytest.mark.parametrize("layout", FORMATS)
def test_received_checksums_are_verified(nic: E1000eDriver, peer: wirt.EndPoint, layout: str) -> None:
    nic.write(e.RFCTL, FORMATS[layout][0])
    nic.start_receive()
    good = with_checksum(ipv4(TCP, tcp(b"data")), TCP)
    assert checked(nic, peer, incoming(good)) == e.IPCS | e.TCPCS
    assert checked(nic, peer, incoming(good[:-1] + b"!")) == e.IPCS | e.TCPCS | e.TCPE
    bad_header = ipv4(TCP, good[20:], checksum=1)
    assert checked(nic, peer, incoming(bad_header)) == e.IPCS | e.IPE | e.TCPCS
    datagram = with_checksum(ipv4(UDP, udp(b"odd")), UDP)
    assert checked(nic, peer, incoming(datagram)) == e.IPCS | e.TCPCS | e.UDPCS
    assert checked(nic, peer, incoming(datagram[:-1] + b"!")) == e.IPCS | e.TCPCS | e.UDPCS | e.TCPE
    assert checked(nic, peer, incoming(ipv4(UDP, udp(b"none")))) == e.IPCS, "UDP without a checksum"
    assert checked(nic, peer, incoming(ipv4(UDP, udp(b"part"), flags=0x2000))) == e.IPCS, "a fragment"
    assert checked(nic, peer, incoming(with_checksum(ipv6(TCP, tcp(b"data")), TCP), IPV6)) == e.TCPCS
    assert checked(nic, peer, incoming(ipv4(TCP, tcp(b""), length=4000))) == e.IPCS, "longer than the frame"
    assert checked(nic, peer, frame()) == e.IXSM
    assert checked(nic, peer, incoming(good, tag=5)) == e.IPCS | e.TCPCS
    nic.write(e.RXCSUM, 1 << 8)
    assert checked(nic, peer, incoming(good)) == e.IPCS
    nic.write(e.RXCSUM, 1 << 9)
    assert checked(nic, peer, incoming(good)) == e.TCPCS
    nic.write(e.RXCSUM, 0)
    assert checked(nic, peer, incoming(good)) == e.IXSM


def test_the_packet_checksum(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_receive()
    nic.write(e.RXCSUM, 14)
    peer.send(frame(100))
    assert wait_until(lambda: bool(nic.descriptor(0)[1] >> 32 & 1))
    (field,) = struct.unpack(">H", nic.memory(nic.rx_ring + 10, 2))
    assert field == internet_checksum(frame(100)[14:])


def test_tags_are_stripped(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.write(e.RFCTL, e.EXSTEN)
    nic.start_receive()
    tagged = incoming(with_checksum(ipv4(UDP, udp(bytes(40))), UDP), tag=0x6123)
    peer.send(tagged)
    got = nic.receive()
    assert (got.data, got.status & e.VP) == (tagged, 0)
    nic.write(e.CTRL, nic.read(e.CTRL) | e.VME)
    peer.send(tagged)
    got = nic.receive()
    assert (got.data, got.tag, got.status & e.VP) == (tagged[:12] + tagged[16:], 0x6123, e.VP)
    assert got.status & (e.TCPCS | e.TCPE) == e.TCPCS
    peer.send(frame())
    assert nic.receive().status & e.VP == 0


def arrives(nic: E1000eDriver, peer: wirt.EndPoint, data: bytes) -> bool:
    """Followed by one that always does, so that no time decides."""
    peer.send(data)
    peer.send(frame(61))
    first = nic.receive().data
    if first == frame(61):
        return False
    assert nic.receive().data == frame(61)
    return True


def test_vlan_filter(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start_receive(control=e.SECRC | e.BAM | e.VFE)
    tagged = incoming(bytes(60), 0x88B5, tag=0x123)
    assert not arrives(nic, peer, tagged)
    nic.write(e.VFTA + 4 * (0x123 >> 5), 1 << (0x123 & 31))
    assert arrives(nic, peer, tagged)
    assert not arrives(nic, peer, incoming(bytes(60), 0x88B5, tag=0x124))
    nic.write(e.RCTL, e.RX_EN | e.SECRC | e.VFE | 1 << 19)  # CFIEN: only with CFI clear
    assert not arrives(nic, peer, incoming(bytes(60), 0x88B5, tag=0x1123))
    assert arrives(nic, peer, tagged)


def test_address_filters(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    other = bytes.fromhex("020000000077")
    group = bytes.fromhex("01005e010203")
    nic.start_receive(control=e.SECRC)
    assert not arrives(nic, peer, frame(to=other))
    assert not arrives(nic, peer, frame(to=group))
    assert not arrives(nic, peer, frame(to=BROADCAST))
    for bit, address in ((e.UPE, other), (e.MPE, group), (e.BAM, BROADCAST)):
        nic.write(e.RCTL, e.RX_EN | e.SECRC | bit)
        for to in (other, group, BROADCAST):
            assert arrives(nic, peer, frame(to=to)) == (to == address or (to, bit) == (BROADCAST, e.MPE))
    nic.write(e.RCTL, e.RX_EN | e.SECRC)
    for index, to in ((1, other), (15, group)):
        nic.write(e.RAL + 8 * index, int.from_bytes(to[:4], "little"))
        nic.write(e.RAH + 8 * index, int.from_bytes(to[4:], "little"))
        assert not arrives(nic, peer, frame(to=to)), "not valid yet"
        nic.write(e.RAH + 8 * index, 1 << 31 | int.from_bytes(to[4:], "little"))
        assert arrives(nic, peer, frame(to=to))
    nic.write(e.RAH + 8, 1 << 31 | 1 << 16 | int.from_bytes(other[4:], "little"))
    assert not arrives(nic, peer, frame(to=other)), "to be compared with the source"


@pytest.mark.parametrize(("offset", "shift"), list(enumerate((36, 35, 34, 32))))
def test_multicast_table(nic: E1000eDriver, peer: wirt.EndPoint, offset: int, shift: int) -> None:
    group = bytes.fromhex("01005e01d203")
    bits = int.from_bytes(group, "little") >> shift & 0xFFF
    nic.start_receive(control=e.SECRC | offset << 12)
    assert not arrives(nic, peer, frame(to=group))
    nic.write(e.MTA + 4 * (bits >> 5), 1 << (bits & 31))
    peer.send(frame(to=group))
    assert nic.receive().status & e.PIF, "software has to look again"
    nic.write(e.RCTL, e.RX_EN | e.SECRC | (offset + 1 & 3) << 12)
    assert not arrives(nic, peer, frame(to=group))


# The verification suite of receive-side scaling's authors: source and destination, with ports and without.
RSS_KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
RSS_CASES = [
    ("66.9.149.187", "161.142.100.80", (2794, 1766), 0x51CC_C178, 0x323E_8FC2),
    ("199.92.111.2", "65.69.140.83", (14230, 4739), 0xC626_B0EA, 0xD718_262A),
    ("3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", (2794, 1766), 0x4020_7D3D, 0x2CC1_8CD5),
]


@pytest.mark.parametrize(("source", "to", "ports", "with_ports", "without"), RSS_CASES)
def test_receive_side_scaling(
    nic: E1000eDriver, peer: wirt.EndPoint, source: str, to: str, ports: tuple[int, int], with_ports: int, without: int
) -> None:
    v6 = ":" in source
    nic.write(e.RFCTL, e.EXSTEN)
    nic.write(e.RXCSUM, 1 << 13)
    for index in range(10):
        nic.write(e.RSSRK + 4 * index, int.from_bytes(RSS_KEY[4 * index : 4 * index + 4], "little"))
    network, ethertype = (ipv6, IPV6) if v6 else (ipv4, IPV4)
    nic.write(e.MRQC, 1 | 0x1F << 16)
    nic.start_receive(count=8)
    first = E1000eDriver(nic.vm, base=nic.next)
    first.start_receive(count=8, queue=1)
    peer.send(incoming(network(TCP, tcp(b"", ports=ports), source, to), ethertype))
    got = nic.receive()
    assert (got.type, got.hash) == (3 if v6 else 1, with_ports)
    peer.send(incoming(network(UDP, udp(b"", ports=ports), source, to), ethertype))
    got = nic.receive()
    assert (got.type, got.hash) == (4 if v6 else 2, without)
    peer.send(frame())
    assert nic.receive().type == 0
    entry = with_ports & 0x7F
    nic.write(e.RETA + entry // 4 * 4, 0x80 << entry % 4 * 8)
    peer.send(incoming(network(TCP, tcp(b"", ports=ports), source, to), ethertype))
    assert first.receive().hash == with_ports


def test_packet_split(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.write(e.RFCTL, e.EXSTEN)
    nic.write(e.PSRCTL, 4 | 1 << 8 | 1 << 16 | 1 << 24)  # a header of 512 bytes, three pages of 1 KiB
    nic.start_receive(count=16, control=e.SECRC | e.SPLIT)
    payload = bytes(i * 3 & 0xFF for i in range(1300))
    whole = incoming(with_checksum(ipv4(TCP, tcp(payload)), TCP))
    pages = [nic.allocate(1024, 1024) for _ in range(3)]
    header = nic.allocate(512)
    nic.vm.memory[nic.rx_ring : nic.rx_ring + 32] = struct.pack("<4Q", header, *pages)
    peer.send(whole)
    assert wait_until(lambda: bool(nic.descriptor(0)[1] & e.DD))
    _, status = nic.descriptor(0)
    lengths = struct.unpack("<4H", nic.memory(nic.rx_ring + 16, 8))
    assert status >> 32 & 0xFFFF == 54
    assert lengths == (54 | 0x8000, 1024, 276, 0)
    assert nic.memory(header, 54) == whole[:54]
    assert nic.memory(pages[0], 1024) + nic.memory(pages[1], 276) == payload
    assert status & (e.EOP | e.TCPCS | e.TCPE) == e.EOP | e.TCPCS
    assert nic.read(e.RDH) == 2, "in units of sixteen bytes"


def test_loopback(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start(control=e.BAM | e.SECRC | e.LOOPBACK)
    nic.send(frame(80))
    assert nic.receive().data == frame(80)
    nic.write(e.RCTL, e.RX_EN | e.SECRC)
    nic.set_phy(0, 0x4140)
    nic.send(frame(90))
    assert nic.receive().data == frame(90)
    assert peer.waiting == 0


def test_statistics(nic: E1000eDriver, peer: wirt.EndPoint) -> None:
    nic.start(control=e.BAM | e.MPE | e.SECRC)
    sizes = [60, 61, 124, 200, 300, 600, 1514]
    for size in sizes:
        peer.send(frame(size))
        assert len(nic.receive().data) == size
        nic.send(frame(size, PEER))
        peer.recv(5)
    for to in (BROADCAST, bytes.fromhex("01005e010203")):
        peer.send(frame(to=to))
        nic.receive()
        nic.send(frame(60, to)[:6] + OWN + frame(60)[12:])
    peer.send(frame(to=bytes.fromhex("020000000077")))
    assert nic.quiet()
    for first in (e.PRC64, e.PTC64):
        extra = 2 if first == e.PTC64 else 0
        counts = [nic.read(first + 4 * i) for i in range(6)]
        assert counts == [1 + extra, 1 + (2 - extra), 2, 1, 1, 1]
        assert [nic.read(first + 4 * i) for i in range(6)] == [0] * 6, "read clears"
    assert (nic.read(e.GPRC), nic.read(e.GPTC)) == (9, 9)
    assert nic.read(e.TPR) == 10, "with the one that was not for us"
    assert (nic.read(e.BPRC), nic.read(e.MPRC), nic.read(0x40F4), nic.read(0x40F0)) == (1, 1, 1, 1)
    assert nic.read(e.GORCL) == sum(sizes) + 2 * 64 + 9 * 4
    nic.read(e.GORCH)
    assert nic.read(e.GORCL) == 0
