"""The other end of the guest's UDP stream, written from the description in guest/network/stream.h."""

from __future__ import annotations

import struct
import time

import wirt

PORT = 7700
MAGIC = 0x31535457
DATA, ACK, END, DONE = 1, 2, 3, 4
_WORD = 2**64 - 1


def stream_words(first: int, count: int) -> list[int]:
    """The stream's 64-bit words number ``first`` and on."""
    raw = (0x9E3779B97F4A7C15 * k & _WORD for k in range(first + 1, first + count + 1))
    return [w ^ w >> 29 for w in raw]


def stream_checksum(data: bytes, checksum: int = 0xCBF29CE484222325) -> int:
    """FNV-1a, taking a 64-bit word at a time."""
    for (word,) in struct.iter_unpack("<Q", data):
        checksum = (checksum ^ word) * 0x100000001B3 & _WORD
    return checksum


def _internet_checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class StreamPeer:
    """A host on the switch with one address, for one guest to talk to."""

    def __init__(self, lan: wirt.Switch, ip: str, timeout: float = 30.0) -> None:
        self._end_point = lan.endpoint()
        self.mac = bytes.fromhex("020000000099")
        self.ip = bytes(int(part) for part in ip.split("."))
        self._deadline = time.monotonic() + timeout

    def _send_udp(self, to_mac: bytes, to_ip: bytes, payload: bytes) -> None:
        udp = struct.pack(">HHHH", PORT, PORT, 8 + len(payload), 0) + payload
        header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0, self.ip, to_ip)
        header = header[:10] + struct.pack(">H", _internet_checksum(header)) + header[12:]
        self._end_point.send(to_mac + self.mac + b"\x08\x00" + header + udp)

    def _answer_arp(self, frame: bytes) -> None:
        asked = frame[38:42]
        if frame[20:22] != b"\x00\x01" or asked != self.ip:
            return
        reply = bytes.fromhex("0001080006040002") + self.mac + self.ip + frame[22:32]
        self._end_point.send(frame[6:12] + self.mac + b"\x08\x06" + reply)

    def receive_stream(self, lose_every: int = 0) -> tuple[bytes, int]:
        """Takes one stream, losing every n-th packet of it once; gives the data and the sender's checksum."""
        data, expected, seen, since_ack = bytearray(), 0, 0, 0
        while time.monotonic() < self._deadline:
            frame = self._end_point.recv(timeout=10)
            if frame[12:14] == b"\x08\x06":
                self._answer_arp(frame)
                continue
            if frame[12:14] != b"\x08\x00" or frame[23] != 17:
                continue
            payload = frame[42 : 34 + int.from_bytes(frame[38:40], "big")]
            magic, kind, sequence, value = struct.unpack_from("<IIQQ", payload)
            assert magic == MAGIC
            reply = None
            if kind == DATA:
                seen += 1
                if lose_every and seen % lose_every == 0:
                    continue
                since_ack += 1
                if sequence == expected:
                    data += payload[24:]
                    expected += 1
                if sequence >= expected or since_ack >= 32 or self._end_point.waiting == 0:
                    reply, since_ack = struct.pack("<IIQQ", MAGIC, ACK, expected, 0), 0
            elif kind == END and sequence == expected:
                reply = struct.pack("<IIQQ", MAGIC, DONE, expected, stream_checksum(bytes(data)))
            if reply is not None:
                self._send_udp(frame[6:12], frame[26:30], reply)
            if kind == END and sequence == expected:
                return bytes(data), value
        raise TimeoutError("the stream did not end in time")
