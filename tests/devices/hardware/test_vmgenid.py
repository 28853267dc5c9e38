"""The VM generation ID, as Linux's drivers/virt/vmgenid.c uses it, and its interrupt at each kind of controller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import wirt

BASE = 0x10_2000
SOURCE = 12
PLIC, CONTEXT = 0x0C00_0000, 1  # hart 0 in S-mode
APLIC = 0x0D00_0000  # the supervisor's domain
EDGE_RISING = 4  # sourcecfg.SM


def generation(vm: wirt.Machine, size: int = 8) -> bytes:
    """The ID, read in pieces of `size` bytes."""
    return b"".join(vm.bus.read(BASE + at, size).to_bytes(size, "little") for at in range(0, 16, size))


def pending(vm: wirt.Machine) -> bool:
    return bool(vm.bus.read(PLIC + 0x1000, 4) >> SOURCE & 1)


def claim(vm: wirt.Machine) -> int:
    return vm.bus.read(PLIC + 0x20_0004 + CONTEXT * 0x1000, 4)


def complete(vm: wirt.Machine) -> None:
    vm.bus.write(PLIC + 0x20_0004 + CONTEXT * 0x1000, 4, SOURCE)


@pytest.fixture
def vm() -> Iterator[wirt.Machine]:
    """With the source let through to hart 0."""
    with wirt.Machine(memory="16M") as machine:
        machine.bus.write(PLIC + 4 * SOURCE, 4, 1)
        machine.bus.write(PLIC + 0x2000 + CONTEXT * 0x80, 4, 1 << SOURCE)
        yield machine


def test_the_generation_is_sixteen_bytes_at_every_width(vm: wirt.Machine) -> None:
    whole = generation(vm)
    assert whole != bytes(16)
    assert {generation(vm, size) for size in (1, 2, 4)} == {whole}
    for at in range(0, 16, 8):
        vm.bus.write(BASE + at, 8, 0)
    assert generation(vm) == whole
    assert vm.bus.read(BASE + 16, 8) == vm.bus.read(BASE + 0xFF8, 8) == 0
    assert not pending(vm)


def test_no_two_machines_have_one_generation_unless_they_are_seeded_alike() -> None:
    def first(**options: object) -> bytes:
        with wirt.Machine(memory="16M", **options) as vm:
            return generation(vm)

    assert first() != first()
    assert first(deterministic=True, seed=1) == first(deterministic=True, seed=1)
    assert first(deterministic=True, seed=1) != first(deterministic=True, seed=2)


def test_a_new_generation_is_told_once(vm: wirt.Machine) -> None:
    before = generation(vm)
    vm._core.new_generation()
    assert claim(vm) == SOURCE
    assert generation(vm) != before
    complete(vm)
    assert not pending(vm)
    assert claim(vm) == 0


def test_a_generation_that_changes_while_the_guest_serves_the_one_before_is_not_lost(vm: wirt.Machine) -> None:
    vm._core.new_generation()
    assert claim(vm) == SOURCE
    between = generation(vm)
    vm._core.new_generation()
    assert not pending(vm), "the gateway forwards nothing while the interrupt is being served"
    complete(vm)
    assert claim(vm) == SOURCE
    assert generation(vm) != between
    complete(vm)
    assert claim(vm) == 0


@pytest.mark.parametrize("interrupts", ["aplic", "aia"])
def test_every_generation_is_an_edge(interrupts: str) -> None:
    with wirt.Machine(memory="16M", interrupts=interrupts) as vm:
        vm.bus.write(APLIC + 4 * SOURCE, 4, EDGE_RISING)
        for _ in range(2):  # unread in between
            vm._core.new_generation()
            assert vm.bus.read(APLIC + 0x1C00, 4) == 1 << SOURCE  # setip
            vm.bus.write(APLIC + 0x1DDC, 4, SOURCE)  # clripnum
            assert vm.bus.read(APLIC + 0x1C00, 4) == 0


def test_the_inspector_and_the_hash_see_it(vm: wirt.Machine) -> None:
    before = vm.state_hash()
    generation(vm)
    assert vm.state_hash() == before
    vm._core.new_generation()
    assert vm.state_hash() != before
    assert dict(vm.inspect())["vmgenid/vmgenid.unread"] == 1
    (device,) = (device for device in vm.devices if device.name == "vmgenid")
    assert (device.base, device.interrupt) == (BASE, f"plic {SOURCE}")
