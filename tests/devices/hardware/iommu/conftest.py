"""Benches in the usual states."""

from __future__ import annotations

import pytest

from support.iommu import Bench


@pytest.fixture
def bare() -> Bench:
    """As it comes out of reset."""
    return Bench()


@pytest.fixture
def bench() -> Bench:
    """One level of device directory, a command queue and a fault queue."""
    bench = Bench()
    bench.command_queue()
    bench.fault_queue()
    bench.directory(1)
    return bench
