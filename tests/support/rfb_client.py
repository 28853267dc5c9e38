"""A VNC viewer for tests: RFB 3.3, 3.7 and 3.8 with the encodings Raw, ZRLE and DesktopSize (RFC 6143).

Written from the RFC alone, in plain Python, so that it shares nothing with the server.
"""

from __future__ import annotations

import socket
import struct
import zlib
from typing import Any

RAW, ZRLE, DESKTOP_SIZE = 0, 16, -223
# bits, depth, big-endian, maxima, shifts
XRGB8888 = (32, 24, 0, (255, 255, 255), (16, 8, 0))


def connect(address: str) -> socket.socket:
    """To what `VncServer.address` says."""
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(address.removeprefix("unix:"))
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=20)


class RfbClient:
    """A connected viewer; `screen` holds (red, green, blue) by row and column, None where nothing was sent."""

    def __init__(self, address: str, version: bytes = b"RFB 003.008\n") -> None:
        self.socket = connect(address)
        self.format = XRGB8888
        self.stream = zlib.decompressobj()
        self.received = 0  # bytes of rectangles
        self.handshake(version)

    def handshake(self, version: bytes) -> None:
        assert self.take(12) == b"RFB 003.008\n"
        self.socket.sendall(version)
        if version < b"RFB 003.007\n":
            assert self.take(4) == b"\0\0\0\1"
        else:
            assert self.take(2) == b"\1\1"
            self.socket.sendall(b"\1")
            if version >= b"RFB 003.008\n":
                assert self.take(4) == b"\0\0\0\0"
        self.socket.sendall(b"\1")
        self.width, self.height = struct.unpack(">HH", self.take(4))
        self.server_format = self.take(16)
        self.name = self.take(struct.unpack(">I", self.take(4))[0]).decode()
        self.blank()

    def blank(self) -> None:
        self.screen: list[list[Any]] = [[None] * self.width for _ in range(self.height)]

    def take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def closed(self) -> bool:
        """Whether the server closes the connection, soon and whatever it still sends."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    # --- messages ---

    def set_format(self, bits: int, depth: int, big: int, maxima: tuple[int, ...], shifts: tuple[int, ...]) -> None:
        self.format = (bits, depth, big, maxima, shifts)  # type: ignore[assignment]
        self.socket.sendall(struct.pack(">BxxxBBBBHHHBBBxxx", 0, bits, depth, big, 1, *maxima, *shifts))

    def set_encodings(self, *encodings: int) -> None:
        self.socket.sendall(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))

    def request(self, incremental: bool = False, rectangle: tuple[int, int, int, int] | None = None) -> None:
        rectangle = rectangle or (0, 0, self.width, self.height)
        self.socket.sendall(struct.pack(">BBHHHH", 3, incremental, *rectangle))

    def key(self, keysym: int, down: bool) -> None:
        self.socket.sendall(struct.pack(">BBxxI", 4, down, keysym))

    def type(self, text: str) -> None:
        for character in text:
            keysym = 0xFF0D if character == "\n" else ord(character)
            self.key(keysym, True)
            self.key(keysym, False)

    def pointer(self, x: int, y: int, buttons: int = 0) -> None:
        self.socket.sendall(struct.pack(">BBHH", 5, buttons, x, y))

    def update(self) -> list[tuple[int, int, int, int]]:
        """Receives one update; its rectangles."""
        kind, count = struct.unpack(">BxH", self.take(4))
        assert kind == 0
        rectangles = []
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.take(12))
            if encoding == DESKTOP_SIZE:
                self.width, self.height = width, height
                self.blank()
                continue
            assert x + width <= self.width
            assert y + height <= self.height
            rectangles.append((x, y, width, height))
            if encoding == RAW:
                size = self.format[0] // 8
                data = self.take(width * height * size)
                self.received += len(data)
                self.paint(x, y, width, self.pixels(data, size))
            else:
                assert encoding == ZRLE
                packed = self.take(struct.unpack(">I", self.take(4))[0])
                self.received += len(packed)
                data = self.stream.decompress(packed)
                self.tiles(x, y, width, height, data)
        return rectangles

    # --- pixels ---

    def pixels(self, data: bytes, size: int) -> list[tuple[int, ...]]:
        _, _, big, maxima, shifts = self.format
        order = "big" if big else "little"
        shift = 0
        if size == 3 and min(shifts) >= 8:
            shift = 8  # the byte that is missing is the least significant one
        seen: dict[bytes, tuple[int, ...]] = {}
        out = []
        for at in range(0, len(data), size):
            raw = data[at : at + size]
            if raw not in seen:
                value = int.from_bytes(raw, order) << shift  # type: ignore[arg-type]
                seen[raw] = tuple(round((value >> s & m) * 255 / m) for m, s in zip(maxima, shifts, strict=True))
            out.append(seen[raw])
        return out

    def compact_size(self) -> int:
        bits, depth, _, maxima, shifts = self.format
        used = sum(m << s for m, s in zip(maxima, shifts, strict=True))
        return 3 if bits == 32 and depth <= 24 and (used < 1 << 24 or used & 0xFF == 0) else bits // 8

    def paint(self, x: int, y: int, width: int, pixels: list[Any]) -> None:
        for row in range(len(pixels) // width):
            self.screen[y + row][x : x + width] = pixels[row * width : (row + 1) * width]

    def tiles(self, x: int, y: int, width: int, height: int, data: bytes) -> None:
        size = self.compact_size()
        at = 0
        for top in range(y, y + height, 64):
            for left in range(x, x + width, 64):
                w, h = min(64, x + width - left), min(64, y + height - top)
                kind = data[at]
                at += 1
                colours = kind or w * h
                assert kind <= 16
                values = self.pixels(data[at : at + colours * size], size)
                at += colours * size
                if kind == 1:
                    values *= w * h
                elif kind > 1:
                    bits = 1 if kind == 2 else 2 if kind <= 4 else 4
                    row_bytes = -(-w * bits // 8)
                    indices = []
                    for _ in range(h):
                        line = int.from_bytes(data[at : at + row_bytes], "big")
                        at += row_bytes
                        indices += [line >> (8 * row_bytes - bits * (i + 1)) & ((1 << bits) - 1) for i in range(w)]
                    values = [values[index] for index in indices]
                self.paint(left, top, w, values)
        assert at == len(data)
