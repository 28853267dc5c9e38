"""Machines for the tests of the Python API."""

from __future__ import annotations

import pytest

import wirt
from support.firmware import SPIN


@pytest.fixture
def build():
    """Builds machines that start in M-mode at 0x80000000, and closes them at the end."""
    machines = []

    def make(firmware: bytes = SPIN, **options):
        machine = wirt.Machine(firmware=firmware, **({"memory": "16M"} | options))
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        machine.close()
