"""Machines that never run, one device of a kind each: over both transports, with both layouts of rings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

import wirt
from support.virtio_driver import Driver


@pytest.fixture
def lan() -> wirt.Switch:
    return wirt.Switch()


@pytest.fixture
def disk() -> wirt.Disk:
    return wirt.Disk.memory("1M", serial="wirt-test")


@pytest.fixture(params=[("mmio", "split"), ("pci", "packed")], ids="-".join)
def wiring(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Transport and layout of the rings. The devices know neither: two of the four ways are enough for most tests."""
    return tuple(request.param)


@pytest.fixture
def vm(lan: wirt.Switch, disk: wirt.Disk, wiring: tuple[Literal["mmio", "pci"], str]) -> Iterator[wirt.Machine]:
    transport, layout = wiring
    packed = layout == "packed"
    nic = lan.port("52:54:00:12:34:56", queue_pairs=2)
    with wirt.Machine(memory="64M", disks=[disk], nets=[nic], virtio=transport, packed=packed) as machine:
        yield machine


@pytest.fixture
def blk(vm: wirt.Machine) -> Driver:
    return Driver(vm, "virtio-blk0")


@pytest.fixture
def net(vm: wirt.Machine) -> Driver:
    return Driver(vm, "virtio-net0")


@pytest.fixture
def rng(vm: wirt.Machine) -> Driver:
    return Driver(vm, "virtio-rng0")


@pytest.fixture
def console(vm: wirt.Machine) -> Driver:
    return Driver(vm, "virtio-console0")
