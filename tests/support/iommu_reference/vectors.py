"""Vectors: what the reference model did with cases, for where the model is not at hand.

A file holds what the model answered in full, but of a case only its kind, its seed and a checksum: the generators
draw it again, and a generator that has changed is told by the checksum. It is data about the specification;
nothing of the model is in it.
"""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import changes, counters, queues, walks
from .cases import Case
from .play import Record

KINDS = {"walks": walks.draw, "changes": changes.draw, "queues": queues.draw, "counters": counters.draw}
# One of a kind for so many walks.
SHARE = {"walks": 1, "changes": 5, "queues": 5, "counters": 10}


def draw(kind: str, seed: int) -> Case:
    """The case of this kind and seed."""
    return KINDS[kind](seed)


def checksum(case: Case) -> int:
    """Of all that a player is given."""
    return zlib.crc32(repr((case.capabilities, case.words, case.setup, case.operations)).encode())


@dataclass(frozen=True)
class Header:
    """Which commit of the model, and how the file is made again."""

    model: str
    command: str


@dataclass(frozen=True)
class Vector:
    kind: str
    seed: int
    case: int
    record: Any


def flat(record: Record) -> Any:
    """A record as JSON gives it back: what is compared."""
    return json.loads(json.dumps([record.outcomes, record.registers, record.memory]))


def write(path: Path, header: Header, vectors: list[Vector]) -> None:
    lines = [asdict(header), *([entry.kind, entry.seed, entry.case, entry.record] for entry in vectors)]
    text = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines)
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def read(path: Path) -> tuple[Header, Iterator[Vector]]:
    first, *lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    return Header(**json.loads(first)), (Vector(*json.loads(line)) for line in lines)
