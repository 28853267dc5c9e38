"""Pixels as RFB carries them (RFC 6143, 7.4 and 7.7): formats, and the encodings Raw and ZRLE.

Pictures are NumPy arrays of height x width 32-bit numbers 0x00RRGGBB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Picture", "PixelFormat", "Rectangle", "ZrleEncoder", "changed_tiles", "clip"]

Picture = NDArray[np.uint32]
Pixels = NDArray[Any]
Rectangle = tuple[int, int, int, int]  # x, y, width, height

_TILE = 64
_LARGEST_PALETTE = 16


@dataclass(frozen=True)
class PixelFormat:
    """A true-colour PIXEL_FORMAT (7.4)."""

    bits: int = 32
    depth: int = 24
    big_endian: bool = False
    maxima: tuple[int, int, int] = (255, 255, 255)  # red, green, blue
    shifts: tuple[int, int, int] = (16, 8, 0)

    _LAYOUT = struct.Struct(">BBBBHHHBBBxxx")

    @classmethod
    def parse(cls, data: bytes) -> PixelFormat:
        """From the 16 bytes of a message.

        Raises:
            ValueError: it is not one that can be served, such as one with a colour map.
        """
        bits, depth, big_endian, true_colour, *rest = cls._LAYOUT.unpack(data)
        maxima, shifts = tuple(rest[:3]), tuple(rest[3:])
        if bits not in (8, 16, 32) or not true_colour:
            raise ValueError("only true colour of 8, 16 or 32 bits is served")
        for maximum, shift in zip(maxima, shifts, strict=True):
            if maximum == 0 or maximum & (maximum + 1) or shift + maximum.bit_length() > bits:
                raise ValueError("a colour does not fit into the pixel")
        return cls(bits, depth, bool(big_endian), maxima, shifts)

    def pack(self) -> bytes:
        """The 16 bytes of a message."""
        return self._LAYOUT.pack(self.bits, self.depth, self.big_endian, 1, *self.maxima, *self.shifts)

    def convert(self, picture: Picture) -> Pixels:
        """The pixels as numbers of this format, in its byte order."""
        kind = np.dtype(f"{'>' if self.big_endian else '<'}u{self.bits // 8}")
        if self.maxima == (255, 255, 255) and self.shifts == (16, 8, 0) and self.bits == 32:
            return picture.astype(kind)
        out = np.zeros(picture.shape, np.uint32)
        for source, maximum, shift in zip((16, 8, 0), self.maxima, self.shifts, strict=True):
            channel = picture >> np.uint32(source) & np.uint32(255)
            out |= (channel * np.uint32(maximum) + np.uint32(127)) // np.uint32(255) << np.uint32(shift)
        return out.astype(kind)

    def compact(self, pixels: Pixels) -> bytes:
        """Them as CPIXELs (7.7.5): without the byte that 32-bit pixels of at most 24 bits leave unused."""
        used = 0
        for maximum, shift in zip(self.maxima, self.shifts, strict=True):
            used |= maximum << shift
        low, high = used < 1 << 24, used & 0xFF == 0
        if self.bits != 32 or self.depth > 24 or not (low or high):
            return pixels.tobytes()
        # The unused byte is the most or the least significant one.
        first = 1 if low == self.big_endian else 0
        as_bytes = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1, 4)
        return as_bytes[:, first : first + 3].tobytes()


class ZrleEncoder:
    """ZRLE (7.7.6): tiles of 64x64 pixels through one zlib stream that lasts as long as the connection."""

    def __init__(self) -> None:
        # Consoles compress well at any level: the fastest will do.
        self._stream = zlib.compressobj(1)

    def encode(self, pixels: Pixels, pixel_format: PixelFormat) -> bytes:
        """A rectangle's data, its length first."""
        height, width = pixels.shape
        data = b"".join(
            _tile(pixels[y : y + _TILE, x : x + _TILE], pixel_format)
            for y in range(0, height, _TILE)
            for x in range(0, width, _TILE)
        )
        packed = self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        return struct.pack(">I", len(packed)) + packed


def _tile(tile: Pixels, pixel_format: PixelFormat) -> bytes:
    if (tile == tile[0, 0]).all():
        return b"\x01" + pixel_format.compact(tile[:1, :1])
    # Text has few colours; where the first rows have many, the rest need not be looked at.
    if len(np.unique(tile[:8])) <= _LARGEST_PALETTE:
        palette, indices = np.unique(tile, return_inverse=True)
        if len(palette) <= _LARGEST_PALETTE:
            header = bytes([len(palette)]) + pixel_format.compact(palette)
            return header + _packed(indices.reshape(tile.shape).astype(np.uint8), len(palette))
    return b"\x00" + pixel_format.compact(tile)


def _packed(indices: NDArray[np.uint8], colours: int) -> bytes:
    """Palette indices, most significant bits first, each row in whole bytes."""
    bits = 1 if colours <= 2 else 2 if colours <= 4 else 4
    each = 8 // bits
    height, width = indices.shape
    padded = np.zeros((height, -(-width // each) * each), np.uint8)
    padded[:, :width] = indices
    grouped = padded.reshape(height, -1, each)
    out = np.zeros(grouped.shape[:2], np.uint8)
    for position in range(each):
        out |= grouped[:, :, position] << np.uint8(8 - bits * (position + 1))
    return out.tobytes()


def changed_tiles(before: Picture, after: Picture, inside: Rectangle) -> Iterator[Rectangle]:
    """Rectangles that cover every difference inside one: tiles of 64x64 pixels, neighbours in a row joined."""
    x, y, width, height = inside
    for top in range(y, y + height, _TILE):
        rows = slice(top, min(top + _TILE, y + height))
        differs = (before[rows, x : x + width] != after[rows, x : x + width]).any(axis=0)
        if not differs.any():
            continue
        tiles = [bool(differs[left : left + _TILE].any()) for left in range(0, width, _TILE)]
        first = None
        for index, changed in enumerate([*tiles, False]):
            if changed and first is None:
                first = index
            elif not changed and first is not None:
                right = min(index * _TILE, width)
                yield x + first * _TILE, top, right - first * _TILE, rows.stop - top
                first = None


def clip(rectangle: Rectangle, width: int, height: int) -> Rectangle:
    """The part of a rectangle that lies inside a picture; width or height is 0 when none does."""
    x, y, w, h = rectangle
    return min(x, width), min(y, height), max(0, min(w, width - x)), max(0, min(h, height - y))
