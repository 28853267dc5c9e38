"""Packets and their checksums (RFC 1071, 791, 8200, 9293, 768), and what segmentation makes of them: an oracle."""

from __future__ import annotations

import ipaddress
import struct

FIN, SYN, PSH, ACK, CWR = 0x01, 0x02, 0x08, 0x10, 0x80
TCP, UDP = 6, 17


def internet_checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(to: bytes, source: bytes, ethertype: int, payload: bytes, tag: int | None = None) -> bytes:
    vlan = b"" if tag is None else struct.pack(">HH", 0x8100, tag)
    return to + source + vlan + ethertype.to_bytes(2, "big") + payload


def ipv4(protocol: int, payload: bytes, source: str = "10.0.0.1", to: str = "10.0.0.2", identification: int = 7,
         flags: int = 0x4000, length: int | None = None, checksum: int | None = None) -> bytes:  # fmt: skip
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(to).packed
    header = bytearray(
        struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload) if length is None else length, identification, flags, 64,
                    protocol, 0) + addresses
    )  # fmt: skip
    header[10:12] = (internet_checksum(header) if checksum is None else checksum).to_bytes(2, "big")
    return bytes(header) + payload


def ipv6(
    protocol: int, payload: bytes, source: str = "fd00::1", to: str = "fd00::2", length: int | None = None
) -> bytes:
    addresses = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(to).packed
    size = len(payload) if length is None else length
    return struct.pack(">IHBB", 6 << 28, size, protocol, 64) + addresses + payload


def tcp(
    payload: bytes, sequence: int = 1000, flags: int = ACK, ports: tuple[int, int] = (1000, 2000), options: bytes = b""
) -> bytes:
    offset = (20 + len(options)) // 4 << 4
    header = struct.pack(">HHIIBBHHH", *ports, sequence, 5000, offset, flags, 512, 0, 0)
    return header + options + payload


def udp(payload: bytes, checksum: int = 0, ports: tuple[int, int] = (1000, 2000)) -> bytes:
    return struct.pack(">HHHH", *ports, 8 + len(payload), checksum) + payload


def pseudo_header(packet: bytes, protocol: int, length: int) -> bytes:
    """That of an IP packet, for a transport header and payload of `length` bytes."""
    addresses = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
    return addresses + struct.pack(">II", length, protocol)


def partial_checksum(packet: bytes, protocol: int, length: int) -> int:
    """What a driver leaves in the checksum field: the folded sum of the pseudo header, not complemented."""
    return ~internet_checksum(pseudo_header(packet, protocol, length)) & 0xFFFF


def with_checksum(packet: bytes, protocol: int) -> bytes:
    """An IP packet with its transport checksum filled in; the IP header has no options."""
    start = 20 if packet[0] >> 4 == 4 else 40
    at = start + (16 if protocol == TCP else 6)
    zeroed = packet[:at] + b"\0\0" + packet[at + 2 :]
    value = internet_checksum(pseudo_header(packet, protocol, len(packet) - start) + zeroed[start:])
    if protocol == UDP and value == 0:
        value = 0xFFFF
    return zeroed[:at] + value.to_bytes(2, "big") + zeroed[at + 2 :]


def segments(payload: bytes, mss: int, v6: bool, flags: int, options: bytes = b"") -> list[bytes]:
    """The IP packets that TCP segmentation makes of one large one with sequence number 1000."""
    packets = []
    for number, start in enumerate(range(0, len(payload), mss)):
        piece = payload[start : start + mss]
        mine = flags
        if start + mss < len(payload):
            mine &= ~(FIN | PSH)
        if number:
            mine &= ~CWR
        segment = tcp(piece, 1000 + start, mine, options=options)
        packet = ipv6(TCP, segment) if v6 else ipv4(TCP, segment, identification=7 + number)
        packets.append(with_checksum(packet, TCP))
    return packets
