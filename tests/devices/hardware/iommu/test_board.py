"""The IOMMU on the board: who is behind it, what the device tree says, and that no device gets past it."""

from __future__ import annotations

import pytest

import wirt
from support.iommu import (
    CAPABILITIES,
    DDTP,
    EN,
    FQB,
    FQCSR,
    FQT,
    OFF,
    PAGE,
    THREE_LEVEL,
    TR_REQ_CTL,
    TR_REQ_IOVA,
    TR_RESPONSE,
    Bench,
)
from support.virtio_driver import Driver
from wirt.guest_image import guest_image

RAM, BASE, ECAM = 0x8000_0000, 0x0301_0000, 0x3000_0000
FUNCTION = ECAM + (2 << 15)
BAR = 0x4000_0000


@pytest.fixture(params=["platform", "pci"])
def vm(request: pytest.FixtureRequest) -> wirt.Machine:
    interrupts = {"platform": "plic", "pci": "aia"}[request.param]
    with wirt.Machine(
        memory="64M", iommu=request.param, interrupts=interrupts, disks=[wirt.Disk.memory("1M")]
    ) as machine:
        machine.base = BASE
        if request.param == "pci":
            machine.base = BAR
            machine.bus.write(FUNCTION + 0x10, 8, BAR)
            machine.bus.write(FUNCTION + 4, 2, 6)
        yield machine


def map_page(vm: wirt.Machine, device_id: int, iova: int, to: int) -> None:
    """Three levels of directory and Sv39, by hand, at the start of RAM."""
    write = lambda address, *words: vm.memory.__setitem__(  # noqa: E731
        slice(address, address + 8 * len(words)), b"".join(word.to_bytes(8, "little") for word in words)
    )
    root, middle, leaf, tables = RAM, RAM + PAGE, RAM + 2 * PAGE, RAM + 3 * PAGE
    write(root + 8 * (device_id >> 15), middle >> 2 | 1)
    write(middle + 8 * (device_id >> 6 & 0x1FF), leaf >> 2 | 1)
    write(leaf + 64 * (device_id & 0x3F), 1, 0, 1 << 12, 8 << 60 | tables >> 12, 0, 0, 0, 0)
    for level in (2, 1):
        write(tables + 8 * (iova >> 12 + 9 * level & 0x1FF), (tables + PAGE) >> 2 | 1)
        tables += PAGE
    write(tables + 8 * (iova >> 12 & 0x1FF), to >> 2 | 0xDF)
    vm.bus.write(vm.base + DDTP, 8, root >> 2 | THREE_LEVEL)


def test_dma_of_a_device_in_python(vm: wirt.Machine) -> None:
    device = vm.dma(0x2_0005)
    device.write(RAM + 0x10_0000, b"bare")
    assert vm.memory[RAM + 0x10_0000 : RAM + 0x10_0004] == b"bare"
    map_page(vm, 0x2_0005, 0x4000, RAM + 0x20_0000)
    device.write(0x4FF0, b"0123456789abcdef")
    assert vm.memory[RAM + 0x20_0FF0 : RAM + 0x20_1000] == b"0123456789abcdef"
    assert device.read(0x4FF8, 8) == b"89abcdef"
    assert vm.iommu is not None
    assert vm.iommu.request(0x2_0005, 0x4008)["address"] == RAM + 0x20_0008
    for refused in (
        lambda: device.read(0x4FF8, 9),
        lambda: device.write(0x3FFF, b"ab"),
        lambda: device.read(0, 1 << 40),
    ):
        with pytest.raises(wirt.DmaError):
            refused()
    with pytest.raises(wirt.DmaError):
        vm.dma(0x2_0006).read(0x4000, 1)
    assert vm.memory[RAM + 0x20_0000 : RAM + 0x20_0004] == bytes(4)
    with pytest.raises(wirt.ConfigError):
        vm.dma(1 << 24)


def test_faults_reach_the_guest(vm: wirt.Machine) -> None:
    vm.bus.write(vm.base + DDTP, 8, OFF)
    vm.bus.write(vm.base + FQB, 8, (RAM + 0x30_0000) >> 2 | 3)
    vm.bus.write(vm.base + FQCSR, 4, EN)
    with pytest.raises(wirt.DmaError):
        vm.dma(7).read(RAM, 4)
    assert vm.bus.read(vm.base + FQT, 4) == 1
    record = int.from_bytes(vm.memory[RAM + 0x30_0000 : RAM + 0x30_0008], "little")
    assert (record & 0xFFF, record >> 34 & 0x3F, record >> 40) == (256, 2, 7)


def test_its_interrupt_registers_are_those_of_its_kind(vm: wirt.Machine) -> None:
    igs = vm.bus.read(vm.base + CAPABILITIES, 8) >> 28 & 3
    assert igs == (0 if vm.base == BAR else 1)
    (listed,) = [device for device in vm.devices if device.name == "iommu0"]
    assert listed.kind == ("pci" if vm.base == BAR else "platform")


def test_it_cannot_be_reached_by_dma(vm: wirt.Machine) -> None:
    with pytest.raises(wirt.DmaError):
        vm.dma(0x2_0005).read(vm.base, 8)
    map_page(vm, 0x2_0005, 0x4000, vm.base)
    with pytest.raises(wirt.DmaError):
        vm.dma(0x2_0005).write(0x4000, bytes(8))
    # Its own queue in its own registers: a memory fault, and no loop.
    vm.bus.write(vm.base + FQB, 8, vm.base >> 2 | 3)
    vm.bus.write(vm.base + FQCSR, 4, EN)
    vm.bus.write(vm.base + TR_REQ_IOVA, 8, 0x9000)
    vm.bus.write(vm.base + TR_REQ_CTL, 8, 0x2_0005 << 40 | 1)
    assert vm.bus.read(vm.base + TR_RESPONSE, 8) == 1
    assert vm.bus.read(vm.base + FQCSR, 4) >> 8 & 3 == 1


def test_virtio_demands_access_platform(vm: wirt.Machine) -> None:
    driver = Driver(vm, "virtio-blk0")
    assert driver.offered() >> 33 & 1


def test_the_pci_form_needs_messages() -> None:
    with pytest.raises(wirt.ConfigError, match="aia"):
        wirt.Machine(memory="64M", iommu="pci")


def test_without_one_dma_is_physical() -> None:
    with wirt.Machine(memory="64M") as vm:
        assert vm.iommu is None
        vm.dma(1).write(RAM + 5, b"x")
        assert vm.memory[RAM + 5] == ord("x")
        for refused in (lambda: vm.dma(1).read(RAM - 1, 2), lambda: vm.dma(1).send_message(RAM, 1)):
            with pytest.raises(wirt.DmaError):
                refused()


# --- as a PCI function ---


@pytest.fixture
def function() -> wirt.Machine:
    with wirt.Machine(memory="64M", iommu="pci", interrupts="aia") as machine:
        machine.bus.write(FUNCTION + 0x10, 8, BAR)
        yield machine


def test_identity_and_msix(function: wirt.Machine) -> None:
    bus = function.bus
    assert bus.read(FUNCTION, 4) == 0x0014_1B36
    assert bus.read(FUNCTION + 8, 4) >> 8 == 0x08_06_00
    assert bus.read(FUNCTION + 0x34, 1) == 0x40
    assert bus.read(FUNCTION + 0x40, 1) == 0x11
    assert bus.read(FUNCTION + 0x42, 2) & 0x7FF == 3
    assert (bus.read(FUNCTION + 0x44, 4), bus.read(FUNCTION + 0x48, 4)) == (0x300, 0x400)


def test_messages_wait_for_msix(function: wirt.Machine) -> None:
    bus = function.bus
    bus.write(FUNCTION + 4, 2, 6)
    # The message goes to memory here, where it can be seen.
    bus.write(BAR + 0x300, 8, RAM + 0x40_0000)
    bus.write(BAR + 0x308, 8, 99)
    bus.write(BAR + DDTP, 8, OFF)
    bus.write(BAR + FQB, 8, (RAM + 0x30_0000) >> 2 | 3)
    bus.write(BAR + FQCSR, 4, EN | 2)

    def arrived() -> bool:
        return function.memory[RAM + 0x40_0000] == 99

    with pytest.raises(wirt.DmaError):
        function.dma(7).read(RAM, 4)
    assert (arrived(), bus.read(BAR + 0x400, 8)) == (False, 1)
    bus.write(FUNCTION + 0x42, 2, 0xC000)
    assert not arrived()
    bus.write(FUNCTION + 0x42, 2, 0x8000)
    assert (arrived(), bus.read(BAR + 0x400, 8)) == (True, 0)


def test_a_bench_shows_no_pending_bits() -> None:
    assert Bench().read(0x400, 8) == 0


def test_its_state_is_the_machines(vm: wirt.Machine) -> None:
    assert vm.inspect()["iommu0.ddtp"] == 1  # Bare
    before = vm.state_hash()
    vm.bus.write(vm.base + DDTP, 8, OFF)
    assert vm.inspect()["iommu0.ddtp"] == 0
    assert vm.state_hash() != before


@pytest.mark.parametrize(("form", "interrupts"), [("platform", "plic"), ("pci", "aia")])
def test_the_device_tree_says_who_is_behind_it(form: str, interrupts: str) -> None:
    with wirt.Machine(guest_image(), memory="64M", iommu=form, interrupts=interrupts) as machine:
        assert b"iommu-map\0" in machine.dtb
        assert b"iommus\0" in machine.dtb
        assert (b"riscv,pci-iommu\0" in machine.dtb) == (form == "pci")
        assert (b"iommu@3010000\0" in machine.dtb) == (form == "platform")
