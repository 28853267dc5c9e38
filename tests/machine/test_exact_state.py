"""State is complete: a machine made of another one's state goes the same way, and a stop changes nothing.

Both are looked at in deterministic mode, at random instants: in the middle of slices, with requests under way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import wirt
from support.copies import copy_of, first_difference
from wirt.guest_image import guest_image

IO = "bench=io bench.mb=1 bench.ops=64 bench.console=4096"

Build = Callable[[], wirt.Machine]


def disks(*buses: str) -> list[wirt.Disk]:
    return [wirt.Disk.memory("4M", bus) for bus in buses]  # type: ignore[arg-type]


def guest(cmdline: str, **options: Any) -> Build:
    def build() -> wirt.Machine:
        made = {name: make() if callable(make) else make for name, make in options.items()}
        return wirt.Machine(
            guest_image(), **({"cmdline": cmdline, "memory": "32M", "deterministic": True, "seed": 7} | made)
        )

    return build


WORKLOADS: dict[str, tuple[Build, int]] = {
    "demo": (guest("demo traps"), 3_000_000),
    "four harts": (guest("smp smp.count=2000", cpus=4), 6_000_000),
    "virtio-mmio": (guest(IO, disks=lambda: disks("virtio-mmio")), 20_000_000),
    "ahci": (guest(IO, disks=lambda: disks("ahci")), 20_000_000),
    "packed rings": (guest(IO, disks=lambda: disks("virtio-mmio"), packed=True), 20_000_000),
    "IOMMU, display, input": (
        guest(IO, disks=lambda: disks("ahci"), iommu="platform", display="bochs", input_devices=True, cpus=2),
        20_000_000,
    ),
}


def cuts(seed: int, total: int, count: int) -> list[int]:
    """Instants to stop at, some of them close to each other."""
    chance = random.Random(seed)
    instants = {chance.randrange(1, total) for _ in range(count // 2)}
    instants |= {min(total - 1, at + chance.randrange(1, 20_000)) for at in list(instants)}
    return sorted(instants)


def run_to(vm: wirt.Machine, instant: int) -> bool:
    """Whether it got there: a guest that switches itself off does not."""
    if vm.state != "stopped" and instant > vm.instructions:
        vm.run_for(instant - vm.instructions)
    return vm.state != "stopped"


@pytest.mark.parametrize("name", WORKLOADS)
def test_stops_change_nothing(name: str) -> None:
    build, total = WORKLOADS[name]
    with build() as straight, build() as stopped:
        for at in [*cuts(1, total, 40), total]:
            run_to(stopped, at)
        run_to(straight, total)
        assert straight.state_hash() == stopped.state_hash(), first_difference(straight, stopped)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_copy_goes_the_same_way(name: str) -> None:
    build, total = WORKLOADS[name]
    with build() as vm:
        for at in cuts(2, total, 12):
            if not run_to(vm, at):
                break
            with copy_of(vm) as copy:
                assert copy.state_hash() == vm.state_hash(), first_difference(vm, copy)
                for length in (1, 7_919, 1_000_000):
                    vm.run_for(length)
                    copy.run_for(length)
                    assert copy.state_hash() == vm.state_hash(), first_difference(vm, copy)
                    if vm.state == "stopped":
                        break
