"""virtio-net (virtio 1.2, 5.1), with the switch and the offloads behind it."""

from __future__ import annotations

import ipaddress
import itertools
import struct

import pytest

import wirt
from support.virtio_driver import RAM, Driver
from support.virtqueues import Virtqueue, wait_until

FEATURE = {
    "CSUM": 1 << 0,
    "GUEST_CSUM": 1 << 1,
    "CTRL_GUEST_OFFLOADS": 1 << 2,
    "MTU": 1 << 3,
    "MAC": 1 << 5,
    "GUEST_TSO4": 1 << 7,
    "GUEST_TSO6": 1 << 8,
    "GUEST_ECN": 1 << 9,
    "GUEST_UFO": 1 << 10,
    "HOST_TSO4": 1 << 11,
    "HOST_TSO6": 1 << 12,
    "HOST_ECN": 1 << 13,
    "HOST_UFO": 1 << 14,
    "MRG_RXBUF": 1 << 15,
    "STATUS": 1 << 16,
    "CTRL_VQ": 1 << 17,
    "CTRL_RX": 1 << 18,
    "CTRL_VLAN": 1 << 19,
    "CTRL_RX_EXTRA": 1 << 20,
    "GUEST_ANNOUNCE": 1 << 21,
    "MQ": 1 << 22,
    "CTRL_MAC_ADDR": 1 << 23,
}
ALL = sum(FEATURE.values())
ONE_PAIR = ALL & ~FEATURE["MQ"]
NO_GUEST_OFFLOADS = ONE_PAIR & ~sum(FEATURE[f"GUEST_{what}"] for what in ("CSUM", "TSO4", "TSO6", "ECN", "UFO"))
MAC = bytes.fromhex("525400123456")
PEER = bytes.fromhex("020000000001")
BROADCAST = b"\xff" * 6

NEEDS_CSUM, DATA_VALID = 1, 2
GSO_NONE, GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_ECN = 0, 1, 3, 4, 0x80
FIN, SYN, PSH, ACK, CWR = 0x01, 0x02, 0x08, 0x10, 0x80
OK, ERR = 0, 1


def frame(to: bytes = MAC, source: bytes = PEER, size: int = 64, ethertype: int = 0x88B5) -> bytes:
    return (to + source + ethertype.to_bytes(2, "big")).ljust(size, b".")


class Nic:
    """A driver of the first queue pair and the control queue."""

    def __init__(self, driver: Driver, features: int = ALL, size: int = 64) -> None:
        self.driver, self.guest = driver, driver.guest
        pairs = 2 if features & FEATURE["MQ"] else 1
        self.queues = driver.start(features, queues=2 * pairs + 1, size=size)
        self.rx, self.tx, self.ctrl = self.queues[0], self.queues[1], self.queues[-1]
        self.buffers: dict[tuple[int, int], int] = {}

    def supply(self, count: int = 1, size: int = 2048, queue: Virtqueue | None = None) -> None:
        queue = queue or self.rx
        for _ in range(count):
            address = self.guest.allocate(size)
            self.buffers[queue.index, queue.add(writable=[(address, size)])] = address
        queue.kick()

    def receive(self, queue: Virtqueue | None = None) -> tuple[bytes, bytes]:
        """Header and frame, merged from as many buffers as the header says."""
        queue = queue or self.rx
        pieces: list[bytes] = []
        while True:
            used = queue.wait()
            pieces.append(self.guest.read(self.buffers.pop((queue.index, used.id)), used.length))
            whole = b"".join(pieces)
            if len(whole) >= 12 and len(pieces) == int.from_bytes(whole[10:12], "little"):
                return whole[:12], whole[12:]

    def nothing(self, queue: Virtqueue | None = None) -> bool:
        return not wait_until(lambda: (queue or self.rx).poll() is not None, 0.03)

    def send(self, data: bytes, queue: Virtqueue | None = None, **fields: int) -> None:
        start = self.guest.next
        packet = self.guest.place(net_header(**fields) + data)
        assert (queue or self.tx).transfer(readable=[(packet, 12 + len(data))]).length == 0
        self.guest.next = start

    def command(self, *data: int | bytes) -> int:
        raw = b"".join(bytes([part]) if isinstance(part, int) else part for part in data)
        out = self.guest.place(raw)
        ack = self.guest.place(b"\xee")
        assert self.ctrl.transfer(readable=[(out, len(raw))], writable=[(ack, 1)]).length == 1
        return self.guest.read(ack, 1)[0]


def net_header(
    flags: int = 0, gso_type: int = 0, hdr_len: int = 0, gso_size: int = 0, csum_start: int = 0, csum_offset: int = 0
) -> bytes:
    return struct.pack("<BBHHHHH", flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, 0)


@pytest.fixture
def nic(net: Driver) -> Nic:
    return Nic(net)


@pytest.fixture
def peer(lan: wirt.Switch) -> wirt.EndPoint:
    return lan.endpoint()


def quiet(peer: wirt.EndPoint) -> bool:
    try:
        peer.recv(0.03)
    except TimeoutError:
        return True
    return False


# --- configuration ---


def test_configuration_space(net: Driver) -> None:
    assert bytes(net.config(i, 1) for i in range(6)) == MAC
    assert net.config(6, 2) == 1, "link up"
    assert net.config(8, 2) == 2, "queue pairs"
    assert net.config(10, 2) == 1500, "MTU"


def test_the_cable_is_pulled_and_put_back(lan: wirt.Switch, peer: wirt.EndPoint) -> None:
    port = lan.port(MAC.hex(":"))
    port.link = False
    with wirt.Machine(memory="64M", nets=[port]) as vm:
        driver = Driver(vm, "virtio-net0")
        assert driver.config(6, 2) == 0, "before there is a driver"
        nic = Nic(driver, ONE_PAIR)
        for up in (True, False, True):
            generation = driver.read("ConfigGeneration")
            port.link = up
            assert wait_until(lambda up=up: driver.config(6, 2) == up)
            assert driver.read("ConfigGeneration") != generation
            assert driver.acknowledge() & 2, "the configuration has changed"
            peer.send(frame())
            nic.send(frame(PEER, MAC))
            if up:
                assert peer.recv(5) == frame(PEER, MAC)
            else:
                assert quiet(peer)
        nic.supply(2)
        assert nic.receive()[1] == frame()


# --- transmission and reception ---


def test_frames_pass_both_ways(nic: Nic, peer: wirt.EndPoint) -> None:
    nic.supply()
    peer.send(frame())
    header, data = nic.receive()
    assert data == frame()
    assert header == net_header()[:10] + b"\1\0"
    nic.send(frame(PEER, MAC))
    assert peer.recv(5) == frame(PEER, MAC)


def test_the_header_may_be_split_anywhere(nic: Nic, peer: wirt.EndPoint) -> None:
    packet = nic.guest.place(net_header() + frame(PEER, MAC))
    cuts = [0, 1, 11, 12, 13, 20, 76]
    nic.tx.transfer(readable=[(packet + a, b - a) for a, b in itertools.pairwise(cuts)])
    assert peer.recv(5) == frame(PEER, MAC)


@pytest.mark.parametrize("size", [1, 5, 11, 12, 13, 40, 75, 76])
def test_received_frames_are_merged_over_buffers_of_any_size(nic: Nic, peer: wirt.EndPoint, size: int) -> None:
    needed = -(-(12 + 44) // size)
    nic.supply(min(needed, 60), size)
    peer.send(frame(size=44))
    assert nic.receive()[1] == frame(size=44)


def test_a_frame_waits_for_buffers_and_is_delivered_whole(nic: Nic, peer: wirt.EndPoint) -> None:
    nic.supply(1, 40)
    peer.send(frame())
    assert nic.nothing(), "the first buffer alone is too small"
    nic.supply(1, 40)
    assert nic.receive()[1] == frame()


def test_a_frame_that_can_never_fit_is_dropped(net: Driver, peer: wirt.EndPoint) -> None:
    nic = Nic(net, size=64)
    nic.supply(64, 1)
    peer.send(frame(size=64))
    peer.send(frame(size=20))
    assert nic.receive()[1] == frame(size=20)


def test_without_mergeable_buffers_a_frame_needs_one_that_is_large_enough(net: Driver, peer: wirt.EndPoint) -> None:
    nic = Nic(net, ALL & ~FEATURE["MRG_RXBUF"])
    nic.supply(1, 40)
    peer.send(frame(size=64))
    peer.send(frame(size=28))
    header, data = nic.receive()
    assert data == frame(size=28)
    assert header[10:] == b"\1\0", "num_buffers is 1 (5.1.6.4.1)"


def test_many_frames_arrive_in_order(nic: Nic, peer: wirt.EndPoint) -> None:
    for start in range(0, 300, 50):
        for i in range(start, start + 50):
            peer.send(frame() + i.to_bytes(2, "big"))
        nic.supply(50)
        assert [nic.receive()[1][-2:] for _ in range(50)] == [i.to_bytes(2, "big") for i in range(start, start + 50)]


def test_frames_before_driver_ok_and_after_reset_are_lost(net: Driver, peer: wirt.EndPoint) -> None:
    peer.send(frame(size=70))
    nic = Nic(net)
    peer.send(frame(size=80))
    net.reset()
    nic = Nic(net)
    nic.supply(2)
    peer.send(frame(size=90))
    assert len(nic.receive()[1]) == 90
    assert nic.nothing()


@pytest.mark.parametrize("length", [0, 1, 11, 12, 25, 12 + 65_554, 1 << 20])
def test_frames_too_short_or_too_long_are_dropped(nic: Nic, peer: wirt.EndPoint, length: int) -> None:
    nic.tx.transfer(readable=[(RAM + 0x40_0000, length)])
    assert quiet(peer)
    assert not nic.driver.needs_reset()
    nic.send(frame(PEER, MAC))
    assert peer.recv(5) == frame(PEER, MAC)


def test_a_writable_part_of_a_transmitted_buffer_is_left_alone(nic: Nic, peer: wirt.EndPoint) -> None:
    packet = nic.guest.place(net_header() + frame(PEER, MAC))
    spare = nic.guest.place(b"spare")
    assert nic.tx.transfer(readable=[(packet, 76)], writable=[(spare, 5)]).length == 0
    assert nic.guest.read(spare, 5) == b"spare"
    assert peer.recv(5) == frame(PEER, MAC)


# --- checksum and segmentation, checked with nothing but RFC 1071 ---


def ones_complement_sum(data: bytes) -> int:
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


V4 = (ipaddress.ip_address("10.0.0.1").packed, ipaddress.ip_address("10.0.0.2").packed)
V6 = (ipaddress.ip_address("fd00::1").packed, ipaddress.ip_address("fd00::2").packed)


def ip_packet(version: int, protocol: int, content: bytes, options: bytes = b"") -> bytes:
    if version == 4:
        words = 5 + len(options) // 4
        start = struct.pack(">BBHHHBBH", 0x40 | words, 0, 20 + len(options) + len(content), 7, 0x4000, 64, protocol, 0)
        head = start + V4[0] + V4[1] + options
        checksum = 0xFFFF - ones_complement_sum(head)
        return head[:10] + checksum.to_bytes(2, "big") + head[12:] + content
    first = options[:0] and options
    assert not first
    return struct.pack(">IHBB", 6 << 28, len(content) & 0xFFFF, protocol, 64) + V6[0] + V6[1] + content


def pseudo_header(version: int, protocol: int, length: int) -> bytes:
    source, destination = V4 if version == 4 else V6
    return source + destination + struct.pack(">IHH", length, 0, protocol)


def partial_checksum(version: int, protocol: int, length: int) -> bytes:
    """What a driver leaves in the field: the sum of the pseudo header."""
    return ones_complement_sum(pseudo_header(version, protocol, length)).to_bytes(2, "big")


def tcp_frame(version: int, payload: bytes, flags: int = ACK, tag: bytes = b"", options: bytes = b"") -> bytes:
    length = 20 + len(payload)
    segment = struct.pack(">HHIIBBH", 1, 2, 1000, 2000, 0x50, flags, 3)
    segment += partial_checksum(version, 6, length) + b"\0\0" + payload
    ethertype = b"\x08\x00" if version == 4 else b"\x86\xdd"
    return PEER + MAC + tag + ethertype + ip_packet(version, 6, segment, options)


def udp_frame(version: int, payload: bytes) -> bytes:
    length = 8 + len(payload)
    datagram = struct.pack(">HHH", 1, 2, length & 0xFFFF) + partial_checksum(version, 17, length) + payload
    ethertype = b"\x08\x00" if version == 4 else b"\x86\xdd"
    return PEER + MAC + ethertype + ip_packet(version, 17, datagram)


def check_ip(packet: bytes) -> tuple[int, int, bytes]:
    """Version, protocol and content of an IP packet whose own header is checked."""
    if packet[0] >> 4 == 4:
        header = 4 * (packet[0] & 15)
        assert ones_complement_sum(packet[:header]) == 0xFFFF, "IPv4 header checksum"
        assert int.from_bytes(packet[2:4], "big") == len(packet)
        return 4, packet[9], packet[header:]
    assert int.from_bytes(packet[4:6], "big") == len(packet) - 40
    return 6, packet[6], packet[40:]


def check_transport(version: int, protocol: int, content: bytes) -> None:
    assert ones_complement_sum(pseudo_header(version, protocol, len(content)) + content) == 0xFFFF, "checksum"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [0, 1, 17, 1000])
def test_checksums_are_completed_for_a_receiver_that_wants_it(
    nic: Nic, peer: wirt.EndPoint, version: int, size: int
) -> None:
    start = 34 if version == 4 else 54
    for data, field, protocol in ((tcp_frame(version, b"t" * size), 16, 6), (udp_frame(version, b"u" * size), 6, 17)):
        nic.send(data, flags=NEEDS_CSUM, csum_start=start, csum_offset=field)
        got = peer.recv(5)
        assert len(got) == len(data)
        assert check_ip(got[14:])[1] == protocol
        check_transport(version, protocol, got[start:])


def test_a_udp_checksum_of_zero_is_sent_as_ones(nic: Nic, peer: wirt.EndPoint) -> None:
    bare = udp_frame(4, b"\0\0")
    rest = ones_complement_sum(bare[34:])
    data = udp_frame(4, (0xFFFF - rest).to_bytes(2, "big"))
    nic.send(data, flags=NEEDS_CSUM, csum_start=34, csum_offset=6)
    assert peer.recv(5)[40:42] == b"\xff\xff"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tag", [b"", b"\x81\x00\x00\x05"])
@pytest.mark.parametrize("size", [1, 1000, 1001, 2000, 5000, 60_000])
def test_tcp_is_segmented(nic: Nic, peer: wirt.EndPoint, version: int, tag: bytes, size: int) -> None:
    payload = bytes(i * i % 251 for i in range(size))
    data = tcp_frame(version, payload, ACK | PSH | FIN | CWR, tag)
    network = 14 + len(tag)
    transport = network + (20 if version == 4 else 40)
    gso = GSO_TCPV4 if version == 4 else GSO_TCPV6
    nic.send(data, flags=NEEDS_CSUM, gso_type=gso, gso_size=1000, csum_start=transport, csum_offset=16, hdr_len=99)
    collected = b""
    count = -(-size // 1000)
    for i in range(count):
        got = peer.recv(5)
        assert got[:network] == data[:network]
        found, protocol, segment = check_ip(got[network:])
        assert (found, protocol) == (version, 6)
        check_transport(version, 6, segment)
        source, destination, sequence, acknowledged = struct.unpack(">HHII", segment[:12])
        assert (source, destination, sequence, acknowledged) == (1, 2, 1000 + len(collected), 2000)
        expected = ACK | (CWR if i == 0 else 0) | (PSH | FIN if i == count - 1 else 0)
        assert segment[13] == expected
        if version == 4:
            assert int.from_bytes(got[network + 4 : network + 6], "big") == 7 + i, "identification"
        collected += segment[20:]
    assert collected == payload
    assert quiet(peer)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [100, 1472, 1473, 9000, 60_000])
def test_udp_is_fragmented(nic: Nic, peer: wirt.EndPoint, version: int, size: int) -> None:
    payload = bytes(i * 3 % 251 for i in range(size))
    data = udp_frame(version, payload)
    transport = 34 if version == 4 else 54
    nic.send(data, flags=NEEDS_CSUM, gso_type=GSO_UDP, gso_size=1450, csum_start=transport, csum_offset=6)
    datagram = b""
    identifications = set()
    more = True
    while more:
        got = peer.recv(5)
        assert len(got) <= 1518
        _, protocol, content = check_ip(got[14:])
        if version == 4:
            field = int.from_bytes(got[20:22], "big")
            offset, more = (field & 0x1FFF) * 8, bool(field & 0x2000)
            identifications.add(got[18:20])
        else:
            assert protocol == 44
            field = int.from_bytes(content[2:4], "big")
            offset, more = field & 0xFFF8, bool(field & 1)
            identifications.add(content[4:8])
            protocol, content = content[0], content[8:]
        assert protocol == 17
        assert offset == len(datagram)
        datagram += content
    check_transport(version, 17, datagram)
    assert datagram[8:] == payload
    assert len(identifications) == 1


GOOD = {"flags": NEEDS_CSUM, "gso_type": GSO_TCPV4, "gso_size": 1000, "csum_start": 34, "csum_offset": 16}


@pytest.mark.parametrize(
    "change",
    [
        {"gso_size": 0},
        {"gso_size": 1},  # 60 000 segments of one byte
        {"gso_size": 2000},  # segments longer than the receiver takes
        {"flags": 0},
        {"gso_type": 2},
        {"gso_type": 5},
        {"gso_type": 0x7F},
        {"gso_type": GSO_TCPV6},
        {"gso_type": GSO_UDP},
        {"gso_type": GSO_ECN},
        {"csum_start": 0},
        {"csum_start": 35},
        {"csum_start": 0xFFFF, "csum_offset": 0xFFFF},
        {"csum_offset": 6},
        {"csum_offset": 0xFFFF},
        {"gso_type": GSO_NONE, "csum_start": 0xFFF0},
    ],
    ids=str,
)
def test_malformed_offload_requests_are_dropped(nic: Nic, peer: wirt.EndPoint, change: dict[str, int]) -> None:
    nic.send(tcp_frame(4, bytes(60_000)), **{**GOOD, **change})
    assert quiet(peer)
    nic.send(tcp_frame(4, bytes(2500)), **GOOD)
    assert [len(peer.recv(5)) for _ in range(3)] == [1054, 1054, 554]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (12, b"\x08\x06"),  # no IP at all
        (14, b"\x4f"),  # header of 60 bytes: TCP is elsewhere
        (14, b"\x44"),  # header of 16 bytes
        (14, b"\x65"),  # version 6 under an IPv4 type
        (20, b"\x20\x00"),  # a fragment
        (23, b"\x11"),  # UDP
        (46, b"\x40"),  # TCP header of 16 bytes
        (12, b"\x81\x00"),
        (12, b"\x86\xdd"),
    ],
)
def test_gso_frames_without_the_headers_claimed_are_dropped(
    nic: Nic, peer: wirt.EndPoint, at: int, value: bytes
) -> None:
    data = bytearray(tcp_frame(4, bytes(3000)))
    data[at : at + len(value)] = value
    nic.send(bytes(data), **GOOD)
    assert quiet(peer)


@pytest.mark.parametrize("length", range(14, 54, 3))
def test_gso_frames_that_end_within_their_headers_are_dropped(nic: Nic, peer: wirt.EndPoint, length: int) -> None:
    nic.send(tcp_frame(4, b"")[:length], **{**GOOD, "csum_start": 12, "csum_offset": 0})
    nic.send(tcp_frame(4, b"")[:length], **GOOD)
    assert quiet(peer)


def test_offloads_that_were_not_negotiated_are_not_done(net: Driver, peer: wirt.EndPoint) -> None:
    nic = Nic(net, FEATURE["MAC"] | FEATURE["MRG_RXBUF"])
    nic.send(tcp_frame(4, bytes(100)), flags=NEEDS_CSUM, csum_start=34, csum_offset=16)
    nic = Nic(net, FEATURE["MAC"] | FEATURE["CSUM"])
    nic.send(tcp_frame(4, bytes(3000)), **GOOD)
    assert quiet(peer)


@pytest.fixture
def two_nics() -> tuple[wirt.Switch, wirt.Port, wirt.Port]:
    lan = wirt.Switch()
    return lan, lan.port("52:54:00:12:34:56"), lan.port("02:00:00:00:00:01")


def test_between_capable_guests_a_large_segment_stays_whole(two_nics) -> None:
    _, first, second = two_nics
    with wirt.Machine(memory="64M", nets=[first]) as a, wirt.Machine(memory="64M", nets=[second]) as b:
        sender, receiver = Nic(Driver(a, "virtio-net0"), ONE_PAIR), Nic(Driver(b, "virtio-net0"), ONE_PAIR)
        data = tcp_frame(4, bytes(i % 251 for i in range(60_000)))
        receiver.supply(40)
        sender.send(data, **GOOD, hdr_len=99)
        header, got = receiver.receive()
        assert got == data, "not a byte was touched"
        assert header == net_header(**GOOD, hdr_len=54)[:10] + (30).to_bytes(2, "little")

        receiver = Nic(Driver(b, "virtio-net0"), NO_GUEST_OFFLOADS)
        receiver.supply(64)
        sender.send(data, **GOOD)
        for _ in range(60):
            header, got = receiver.receive()
            assert header[:10] == bytes(10)
            check_transport(*check_ip(got[14:])[:2], check_ip(got[14:])[2])


def test_guest_offloads_can_be_switched_off_and_on(two_nics) -> None:
    _, first, second = two_nics
    with wirt.Machine(memory="64M", nets=[first]) as a, wirt.Machine(memory="64M", nets=[second]) as b:
        sender, receiver = Nic(Driver(a, "virtio-net0"), ONE_PAIR), Nic(Driver(b, "virtio-net0"), ONE_PAIR)
        data = tcp_frame(4, bytes(3000))
        assert receiver.command(5, 0, (0).to_bytes(8, "little")) == OK
        receiver.supply(10)
        sender.send(data, **GOOD)
        assert [len(receiver.receive()[1]) for _ in range(3)] == [1054] * 3
        assert receiver.command(5, 0, FEATURE["GUEST_TSO4"].to_bytes(8, "little")) == ERR, "TSO without a checksum"
        assert receiver.command(5, 0, FEATURE["CSUM"].to_bytes(8, "little")) == ERR, "no offload of this direction"
        wanted = FEATURE["GUEST_CSUM"] | FEATURE["GUEST_TSO4"]
        assert receiver.command(5, 0, wanted.to_bytes(8, "little")) == OK
        sender.send(data, **GOOD)
        assert len(receiver.receive()[1]) == len(data)


# --- control queue ---


def test_promiscuous_until_told_otherwise(nic: Nic, peer: wirt.EndPoint) -> None:
    other = bytes.fromhex("525400ffffff")
    nic.supply(4)
    peer.send(frame(other))
    assert nic.receive()[1] == frame(other)
    assert nic.command(0, 0, 0) == OK
    peer.send(frame(other))
    peer.send(frame())
    assert nic.receive()[1] == frame()


@pytest.mark.parametrize(
    ("commands", "passes"),
    [
        ([], "own broadcast"),
        ([(1, 1)], "own broadcast multicast"),
        ([(2, 1)], "own broadcast unicast"),
        ([(1, 1), (3, 1)], "own broadcast"),
        ([(4, 1)], "broadcast"),
        ([(5, 1)], "own"),
        ([(0, 1)], "own broadcast multicast unicast"),
    ],
)
def test_receive_modes(nic: Nic, peer: wirt.EndPoint, commands: list[tuple[int, int]], passes: str) -> None:
    kinds = {
        "own": MAC,
        "broadcast": BROADCAST,
        "multicast": bytes.fromhex("01005e000001"),
        "unicast": bytes.fromhex("525400ffffff"),
    }
    assert nic.command(0, 0, 0) == OK
    for command, value in commands:
        assert nic.command(0, command, value) == OK
    nic.supply(8)
    for address in kinds.values():
        peer.send(frame(address))
    received = {nic.receive()[1][:6] for _ in passes.split()}
    assert received == {kinds[kind] for kind in passes.split()}
    assert nic.nothing()


def mac_table(*tables: list[bytes]) -> bytes:
    return b"".join(len(table).to_bytes(4, "little") + b"".join(table) for table in tables)


def test_mac_table(nic: Nic, peer: wirt.EndPoint) -> None:
    one, group = bytes.fromhex("525400000011"), bytes.fromhex("01005e000011")
    assert nic.command(0, 0, 0) == OK
    assert nic.command(1, 0, mac_table([one], [group])) == OK
    nic.supply(4)
    for address in (bytes.fromhex("525400000012"), one, bytes.fromhex("01005e000012"), group):
        peer.send(frame(address))
    assert {nic.receive()[1][:6] for _ in range(2)} == {one, group}
    assert nic.nothing()


def test_a_mac_table_that_overflows_lets_its_kind_pass(nic: Nic, peer: wirt.EndPoint) -> None:
    many = [bytes.fromhex("01005e00") + i.to_bytes(2, "big") for i in range(100)]
    assert nic.command(0, 0, 0) == OK
    assert nic.command(1, 0, mac_table([], many)) == OK
    nic.supply(2)
    peer.send(frame(bytes.fromhex("525400000012")))
    peer.send(frame(bytes.fromhex("01005effffff")))
    assert nic.receive()[1][:4] == bytes.fromhex("01005eff")


def test_the_address_can_be_changed(nic: Nic, peer: wirt.EndPoint) -> None:
    new = bytes.fromhex("5254000000aa")
    assert nic.command(1, 1, new) == OK
    assert bytes(nic.driver.config(i, 1) for i in range(6)) == new
    assert nic.command(0, 0, 0) == OK
    nic.supply(2)
    peer.send(frame(MAC))
    peer.send(frame(new))
    assert nic.receive()[1] == frame(new)
    nic.driver.reset()
    assert bytes(nic.driver.config(i, 1) for i in range(6)) == MAC


def test_vlan_filter(nic: Nic, peer: wirt.EndPoint) -> None:
    def tagged(vlan: int) -> bytes:
        return MAC + PEER + b"\x81\x00" + vlan.to_bytes(2, "big") + bytes(60)

    assert nic.command(0, 0, 0) == OK
    assert nic.command(2, 0, (5).to_bytes(2, "little")) == OK
    nic.supply(4)
    peer.send(tagged(6))
    peer.send(tagged(5))
    assert nic.receive()[1] == tagged(5)
    assert nic.command(2, 1, (5).to_bytes(2, "little")) == OK
    peer.send(tagged(5))
    peer.send(frame())
    assert nic.receive()[1] == frame()


def test_queue_pairs(nic: Nic, peer: wirt.EndPoint) -> None:
    second_rx, second_tx = nic.queues[2], nic.queues[3]
    packet = nic.guest.place(net_header() + tcp_frame(4, b"x"))
    second_tx.add(readable=[(packet, 12 + 55)])
    second_tx.kick()
    assert quiet(peer), "the pair is off"
    assert nic.command(4, 0, (2).to_bytes(2, "little")) == OK
    assert peer.recv(5) == tcp_frame(4, b"x")

    # The answer of the flow comes in where it went out (5.1.6.5.6).
    sent = tcp_frame(4, b"x")
    answer = MAC + PEER + sent[12:26] + V4[1] + V4[0] + sent[36:38] + sent[34:36] + sent[38:]
    nic.supply(1, queue=nic.rx)
    nic.supply(1, queue=second_rx)
    peer.send(answer)
    assert nic.receive(second_rx)[1] == answer
    assert nic.command(4, 0, (1).to_bytes(2, "little")) == OK
    peer.send(answer)
    assert nic.receive(nic.rx)[1] == answer


@pytest.mark.parametrize(
    "command",
    [
        (),
        (0,),
        (0, 0),
        (0, 6, 1),
        (1, 0),
        (1, 0, b"\0\0\0\0"),
        (1, 0, b"\1\0\0\0" + bytes(5)),
        (1, 0, b"\xff\xff\xff\xff" + bytes(64)),
        (1, 0, bytes(4) + b"\xab\xaa\xaa\xaa" + bytes(64)),
        (1, 1, bytes(5)),
        (1, 1, b"\1" + bytes(5)),
        (1, 2, bytes(6)),
        (2, 0),
        (2, 0, b"\5"),
        (2, 0, (4096).to_bytes(2, "little")),
        (2, 2, bytes(2)),
        (3, 1),
        (4, 0),
        (4, 0, b"\1"),
        (4, 0, (0).to_bytes(2, "little")),
        (4, 0, (3).to_bytes(2, "little")),
        (4, 0, (0x8000).to_bytes(2, "little")),
        (4, 1, (1).to_bytes(2, "little")),
        (5, 0, bytes(7)),
        (5, 0, b"\xff" * 8),
        (6, 0, bytes(16)),
        (255, 255, bytes(16)),
        (0, 0, bytes(70_000)),
    ],
    ids=lambda command: "-".join(str(part)[:12] for part in command) or "empty",
)
def test_commands_truncated_unknown_or_out_of_range_are_refused(nic: Nic, command: tuple[int | bytes, ...]) -> None:
    assert nic.command(*command) == ERR
    assert nic.command(0, 0, 1) == OK


def test_commands_need_their_features(net: Driver) -> None:
    nic = Nic(net, FEATURE["CTRL_VQ"])
    for command in ((0, 0, 1), (0, 2, 1), (1, 0, mac_table([], [])), (1, 1, MAC), (2, 0, bytes(2)), (3, 0)):
        assert nic.command(*command) == ERR
    assert nic.command(4, 0, b"\1\0") == ERR
    assert nic.command(5, 0, bytes(8)) == ERR


def test_a_command_without_an_ack_byte_needs_a_reset(nic: Nic) -> None:
    nic.ctrl.add(readable=[(nic.guest.place(b"\0\0\1"), 3)])
    nic.ctrl.kick()
    assert wait_until(nic.driver.needs_reset)
    assert Nic(nic.driver).command(0, 0, 1) == OK
