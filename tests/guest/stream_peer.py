"""The other end of the guest's UDP stream, written from the description in guest/network/stream.h."""

from __future__ import annotations

import struct
import time

import wirt
from wirt.bench.udp_host import UdpHost

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


class StreamPeer:
    """A host on the switch with one address, for one guest to talk to."""

    def __init__(self, lan: wirt.Switch, ip: str, timeout: float = 30.0) -> None:
        self._host = UdpHost(lan, ip, PORT)
        self._deadline = time.monotonic() + timeout

    def receive_stream(self, lose_every: int = 0) -> tuple[bytes, int]:
        """Takes one stream, losing every n-th packet of it once; gives the data and the sender's checksum."""
        data, expected, seen, since_ack = bytearray(), 0, 0, 0
        while time.monotonic() < self._deadline:
            datagram = self._host.receive(timeout=10)
            if datagram is None:
                continue
            payload = datagram.data
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
                if sequence >= expected or since_ack >= 32 or self._host.end_point.waiting == 0:
                    reply, since_ack = struct.pack("<IIQQ", MAGIC, ACK, expected, 0), 0
            elif kind == END and sequence == expected:
                reply = struct.pack("<IIQQ", MAGIC, DONE, expected, stream_checksum(bytes(data)))
            if reply is not None:
                self._host.answer(datagram, reply)
            if kind == END and sequence == expected:
                return bytes(data), value
        raise TimeoutError("the stream did not end in time")
