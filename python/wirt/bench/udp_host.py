"""A host on a switch that Python speaks for: it answers ARP, and receives and sends UDP."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from wirt.net import Switch

__all__ = ["Datagram", "UdpHost"]

_ETHERTYPE_IPV4, _ETHERTYPE_ARP = b"\x08\x00", b"\x08\x06"
_TCP, _UDP = 6, 17
_ARP_REQUEST, _ARP_REPLY_HEADER = b"\x00\x01", bytes.fromhex("0001080006040002")


@dataclass(frozen=True)
class Datagram:
    """What arrived: the data, and whom to answer. Data of a TCP segment counts as well: there are no connections."""

    data: bytes
    from_mac: bytes
    from_ip: bytes


class UdpHost:
    """One address on the switch.

    Args:
        lan: the switch.
        ip: its IPv4 address.
        port: its UDP port, the same on both sides.
    """

    def __init__(self, lan: Switch, ip: str, port: int) -> None:
        self.end_point = lan.endpoint()
        self._mac = bytes.fromhex("020000000099")
        self._ip = bytes(int(part) for part in ip.split("."))
        self._port = port

    def receive(self, timeout: float | None = None) -> Datagram | None:
        """The next frame; None when it was none with data for us, and ARP was then answered.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            TimeoutError: no frame came.
            NetworkError: the end point is closed.
        """
        frame = self.end_point.recv(timeout)
        if frame[12:14] == _ETHERTYPE_IPV4 and frame[23] in (_UDP, _TCP):
            begin = 42 if frame[23] == _UDP else 54
            # Ethernet pads short frames: the IP packet says how long it is.
            end = 14 + int.from_bytes(frame[16:18], "big")
            return Datagram(frame[begin:end], frame[6:12], frame[26:30])
        if frame[12:14] == _ETHERTYPE_ARP and frame[20:22] == _ARP_REQUEST and frame[38:42] == self._ip:
            reply = _ARP_REPLY_HEADER + self._mac + self._ip + frame[22:32]
            self.end_point.send(frame[6:12] + self._mac + _ETHERTYPE_ARP + reply)
        return None

    def answer(self, to: Datagram, data: bytes) -> None:
        """Sends a datagram to where another came from."""
        udp = struct.pack(">HHHH", self._port, self._port, 8 + len(data), 0) + data
        header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, _UDP, 0, self._ip, to.from_ip)
        header = header[:10] + struct.pack(">H", _internet_checksum(header)) + header[12:]
        self.end_point.send(to.from_mac + self._mac + _ETHERTYPE_IPV4 + header + udp)


def _internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
