"""Machines that never run, one device of a kind each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import wirt
from support.virtio_driver import Driver


@pytest.fixture
def lan() -> wirt.Switch:
    return wirt.Switch()


@pytest.fixture
def disk() -> wirt.Disk:
    return wirt.Disk.memory("1M", serial="wirt-test")


@pytest.fixture
def vm(lan: wirt.Switch, disk: wirt.Disk) -> Iterator[wirt.Machine]:
    nic = lan.port("52:54:00:12:34:56", queue_pairs=2)
    with wirt.Machine(memory="64M", disks=[disk], nets=[nic]) as machine:
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
