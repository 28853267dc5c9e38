"""Words for the I/O comparison, shared by the table and the chart."""

from __future__ import annotations

from itertools import groupby

from wirt.bench.io import Comparison
from wirt.sizes import format_size

__all__ = ["grouped", "work_label"]

_KINDS = {
    "seq-read": "sequential read",
    "seq-write": "sequential write",
    "rand-read": "random read",
    "rand-write": "random write",
    "write": "write",
    "send": "send to a guest",
    "receive": "receive from a guest",
    "round-trip": "round trip to a guest",
    "host-send": "send to the host",
    "host-round-trip": "round trip to the host",
}


def work_label(comparison: Comparison) -> str:
    """``disk, sequential read, 4 KiB`` for ``seq-read/4096``."""
    kind, size, *rest = comparison.work.split("/")
    parts = [comparison.kind, _KINDS.get(kind, kind)]
    if comparison.kind == "network":
        parts.append(f"{int(size):,} B")
    else:
        parts.append(format_size(int(size)) if size.isdigit() else size)
    parts += [f"QD {part.removeprefix('qd')}" for part in rest]
    return ", ".join(parts)


def grouped(comparisons: list[Comparison]) -> list[list[Comparison]]:
    """Those that do the same work against the same baseline, together and in their order."""
    return [list(group) for _, group in groupby(comparisons, key=lambda comparison: comparison.baseline.name)]
