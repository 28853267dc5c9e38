"""Saved state read and written without the package: the record format of csrc/state/stream.h, from its description."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

__all__ = ["Record", "join", "replace", "split"]

END, SECTION, INTEGER, BYTES, BLOB = range(5)
KINDS = ("end", "section", "integer", "bytes", "blob")


@dataclass(frozen=True)
class Record:
    """One record. ``value`` of a section is its version; ``width`` is that of an integer."""

    kind: int
    name: str
    value: int | bytes
    width: int = 0

    def encode(self) -> bytes:
        name = self.name.encode()
        head = bytes([self.kind, len(name)]) + name
        if isinstance(self.value, bytes):
            return head + struct.pack("<I", len(self.value)) + self.value
        if self.kind == SECTION:
            return head + struct.pack("<I", self.value)
        return head + bytes([self.width]) + self.value.to_bytes(self.width, "little")


def split(state: bytes) -> list[Record]:
    """All records but the end."""
    records, at = [], 0
    while state[at] != END:
        kind, length = state[at], state[at + 1]
        name = state[at + 2 : at + 2 + length].decode()
        at += 2 + length
        if kind == SECTION:
            records.append(Record(kind, name, int.from_bytes(state[at : at + 4], "little")))
            at += 4
        elif kind == INTEGER:
            width = state[at]
            records.append(Record(kind, name, int.from_bytes(state[at + 1 : at + 1 + width], "little"), width))
            at += 1 + width
        else:
            assert kind in (BYTES, BLOB), kind
            size = int.from_bytes(state[at : at + 4], "little")
            records.append(Record(kind, name, state[at + 4 : at + 4 + size]))
            at += 4 + size
    assert at == len(state) - 1
    return records


def join(records: list[Record]) -> bytes:
    """What ``split`` has taken apart."""
    return b"".join(record.encode() for record in records) + bytes([END])
