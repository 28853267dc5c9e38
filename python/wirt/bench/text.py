"""Words for the I/O comparison, shared by the table and the chart."""

from __future__ import annotations

from wirt.bench.io import Comparison
from wirt.sizes import format_size

__all__ = ["work_label"]

_KINDS = {
    "seq-read": "sequential read",
    "seq-write": "sequential write",
    "rand-read": "random read",
    "rand-write": "random write",
    "write": "write",
}


def work_label(comparison: Comparison) -> str:
    """``disk, sequential read, 4 KiB`` for ``seq-read/4096``."""
    kind, size, *rest = comparison.work.split("/")
    parts = [comparison.kind, _KINDS.get(kind, kind)]
    parts.append(format_size(int(size)) if size.isdigit() else size)
    parts += [f"QD {part.removeprefix('qd')}" for part in rest]
    return ", ".join(parts)
