"""What the frames of a migration say, and what of it is believed.

Untrusted: every payload. What is parsed here has the right keys, types and ranges.
"""

from __future__ import annotations

import json
import struct
import time
from typing import Any

from wirt.errors import MigrationError
from wirt.migration.transport import Channel, Kind, MiB, Payload

__all__ = ["DISK_HEAD", "Compressor", "bulk", "expect", "fields", "pack", "refusal", "unpack_disk"]

DISK_HEAD = struct.Struct("<HQQ")
_LARGEST_BULK = 2 * MiB


def pack(**values: object) -> bytes:
    """JSON."""
    return json.dumps(values, separators=(",", ":")).encode()


def fields(payload: Payload, kinds: dict[str, type]) -> dict[str, Any]:
    """A JSON object that has exactly these keys, each of its type; whole numbers are of 63 bits and not negative.

    Raises:
        MigrationError: it is no such thing.
    """
    data: Any
    try:
        data = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise MigrationError(f"a message is no JSON: {error}") from None
    if not isinstance(data, dict) or data.keys() != kinds.keys():
        raise MigrationError("a message has not the keys that this release knows")
    for key, kind in kinds.items():
        value: Any = data[key]
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 1 << 63):
            raise MigrationError(f"a message says {key}: {str(value)[:100]!r}")
    return data


def refusal(payload: Payload) -> MigrationError:
    """The error that a ``refused`` frame stands for."""
    reason = fields(payload, {"reason": str})["reason"]
    return MigrationError(f"the destination refused: {reason[:2000]}")


def expect(channel: Channel, kind: Kind) -> bytes:
    """The payload of the next frame, which is one of that kind.

    Raises:
        MigrationError: it is another one, or says why not.
    """
    got, payload, _ = channel.receive()
    if got is Kind.refused and kind is not Kind.refused:
        raise refusal(payload)
    if got is not kind:
        raise MigrationError(f"the other side sent {got.name} where {kind.name} should come")
    return bytes(payload)


def bulk(payload: Payload, compressed: bool) -> Payload:
    """The content of a frame of pages or of a disk.

    Raises:
        MigrationError: it cannot be unpacked, or would be too large.
    """
    if not compressed:
        return payload
    import zstandard

    try:
        # The size is in the frame, and memory is taken for what it says.
        if not 0 <= zstandard.frame_content_size(payload) <= _LARGEST_BULK:
            raise MigrationError("a compressed batch is too large, or does not say how large it is")
        unpacked: bytes = zstandard.ZstdDecompressor().decompress(payload)
        return unpacked
    except zstandard.ZstdError as error:
        raise MigrationError(f"a compressed batch is broken: {error}") from None


def unpack_disk(payload: Payload) -> tuple[int, int, int, memoryview]:
    """Index, offset, length and data (or none: zeroes) of a piece of a disk.

    Raises:
        MigrationError: it is broken.
    """
    if len(payload) < DISK_HEAD.size:
        raise MigrationError("a piece of a disk is too short")
    index, offset, length = DISK_HEAD.unpack_from(payload)
    data = memoryview(payload)[DISK_HEAD.size :]
    if len(data) not in (0, length):
        raise MigrationError("a piece of a disk has not the length that it says")
    return index, offset, length, data


class Compressor:
    """Compresses where that gets data across sooner; one stream's.

    Whether it pays is a matter of three figures that are measured all the time: how fast the connection takes data, how
    fast zstd compresses, and how much smaller data becomes. What does not pay is tried again now and then.
    """

    _TRY_EVERY = 16

    def __init__(self, mode: str) -> None:
        self._mode = mode  # "auto", "always" or "never"
        self._skip = 0
        self._zstd: Any = None
        self.send_rate = 0.0  # bytes a second, smoothed

    def pack(self, data: bytes) -> tuple[bytes, bool]:
        """What to send, and whether it is compressed."""
        if self._mode == "never" or len(data) < 4096:
            return data, False
        if self._mode == "auto" and self._skip:
            self._skip -= 1
            return data, False
        if self._zstd is None:
            import zstandard

            self._zstd = zstandard.ZstdCompressor(level=1)
        start = time.perf_counter()
        packed: bytes = self._zstd.compress(data)
        spent = time.perf_counter() - start
        if self._mode == "auto" and self.send_rate:
            saved = (len(data) - len(packed)) / self.send_rate
            if saved < spent:
                self._skip = self._TRY_EVERY
        return (packed, True) if len(packed) < len(data) else (data, False)

    def sent(self, size: int, seconds: float) -> None:
        """That many bytes took so long to go."""
        rate = size / max(seconds, 1e-6)
        self.send_rate = rate if not self.send_rate else 0.8 * self.send_rate + 0.2 * rate
