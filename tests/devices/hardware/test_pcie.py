"""The PCIe root as an enumerating kernel sees it, and as one that means it harm."""

from __future__ import annotations

import random

import pytest
from ahci_driver import ABAR, CI, CLB, COMMAND_LIST, IDENTIFY, VS, AhciDriver, config_address, find_controller

import wirt

COMMAND, STATUS, BAR5, INTERRUPT_LINE, INTERRUPT_PIN = 0x04, 0x06, 0x24, 0x3C, 0x3D
DEVICE_CONTROL = 0xC8


@pytest.fixture
def vm():
    with wirt.Machine(memory="64M", disks=[wirt.Disk.memory("1M", bus="ahci")]) as machine:
        yield machine


@pytest.fixture
def slot(vm):
    return find_controller(vm)


def decodes(vm, address=ABAR):
    try:
        return vm.bus.read(address + VS, 4) == 0x0001_0301
    except wirt.AddressError:
        return False


def test_the_host_bridge_is_that_of_the_virt_board(vm):
    assert vm.bus.read(config_address(0), 4) == 0x0008_1B36
    assert vm.bus.read(config_address(0, 8), 4) >> 16 == 0x0600


def test_the_controller_is_an_ich9_in_ahci_mode(vm, slot):
    assert vm.bus.read(config_address(slot), 4) == 0x2922_8086
    assert vm.bus.read(config_address(slot, 0x0E), 1) == 0  # type 0, one function
    assert vm.bus.read(config_address(slot, INTERRUPT_PIN), 1) == 1


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_an_absent_function_reads_as_ones(vm, slot, size):
    ones = (1 << 8 * size) - 1
    for address in (
        config_address(31),
        config_address(slot) + 0x1000,  # function 1
        config_address(0) + (1 << 20),  # bus 1
        config_address(0) + (255 << 20) + 0xFF8,
    ):
        assert vm.bus.read(address, size) == ones
        vm.bus.write(address, size, 0)


def test_every_width_sees_the_same_registers(vm, slot):
    whole = b"".join(vm.bus.read(config_address(slot, at), 4).to_bytes(4, "little") for at in range(0, 256, 4))
    for size in (1, 2, 8):
        parts = [vm.bus.read(config_address(slot, at), size).to_bytes(size, "little") for at in range(0, 256, size)]
        assert b"".join(parts) == whole
    assert vm.bus.read(config_address(slot, 0x100), 4) == 0  # no extended capabilities


def test_read_only_fields_stay(vm, slot):
    before = [vm.bus.read(config_address(slot, at), 4) for at in (0x00, 0x08, 0x2C, 0x34)]
    for at in range(0, 4096, 4):
        if at not in (COMMAND, BAR5, DEVICE_CONTROL):  # the last one would reset the function
            vm.bus.write(config_address(slot, at), 4, 0xFFFF_FFFF)
    assert [vm.bus.read(config_address(slot, at), 4) for at in (0x00, 0x08, 0x2C, 0x34)] == before
    assert vm.bus.read(config_address(slot, INTERRUPT_LINE), 1) == 0xFF


def test_the_capability_list_ends_and_has_msi(vm, slot):
    assert vm.bus.read(config_address(slot, STATUS), 2) & 0x10
    seen = []
    at = vm.bus.read(config_address(slot, 0x34), 1)
    while at:
        assert at >= 0x40
        assert at not in seen
        seen.append(at)
        capability, at = (vm.bus.read(config_address(slot, at + i), 1) for i in (0, 1))
        if capability == 0x05:
            assert vm.bus.read(config_address(slot, seen[-1] + 2), 2) & 0x80  # 64-bit addresses
            break
    else:
        pytest.fail("no MSI capability")


def test_bar_sizing_and_moving(vm, slot):
    bar = config_address(slot, BAR5)
    assert vm.bus.read(bar, 4) == 0
    assert not decodes(vm)
    vm.bus.write(bar, 4, 0xFFFF_FFFF)
    assert vm.bus.read(bar, 4) == 0xFFFF_F000
    vm.bus.write(bar, 4, ABAR)
    assert not decodes(vm)
    vm.bus.write(config_address(slot, COMMAND), 2, 0x2)
    assert decodes(vm)
    vm.bus.write(bar, 4, ABAR + 0x10_0000)
    assert not decodes(vm)
    assert decodes(vm, ABAR + 0x10_0000)
    vm.bus.write(config_address(slot, COMMAND), 2, 0)
    assert not decodes(vm, ABAR + 0x10_0000)


@pytest.mark.parametrize(
    "address",
    [0, 0x0C00_0000, 0x1000_0000, 0x3000_0000, 0x3FFF_F000, 0x8000_0000, 0xFFFF_F000],
    ids=hex,
)
def test_a_bar_outside_its_window_decodes_nothing(vm, slot, address):
    uart_lcr = vm.bus.read(0x1000_0003, 1)
    vm.memory[0x8000_0000:0x8000_0004] = b"wirt"
    vm.bus.write(config_address(slot, BAR5), 4, address)
    vm.bus.write(config_address(slot, COMMAND), 2, 0x2)
    assert not decodes(vm, address)
    assert bytes(vm.memory[0x8000_0000:0x8000_0004]) == b"wirt"
    assert vm.bus.read(0x1000_0003, 1) == uart_lcr
    assert vm.bus.read(config_address(0), 4) == 0x0008_1B36
    vm.bus.write(config_address(slot, BAR5), 4, ABAR)
    assert decodes(vm)


def test_interrupt_status_follows_the_level_and_intx_disable_does_not_hide_it(vm, slot):
    driver = AhciDriver(vm)
    driver.write(0x14, 0xFFFF_FFFF)
    driver.set_host(0x04, 1 << 31 | 1 << 1)
    assert not vm.bus.read(config_address(slot, STATUS), 2) & 0x8
    driver.identify()
    assert vm.bus.read(config_address(slot, STATUS), 2) & 0x8
    # The line is source 32 + (pin + slot) % 4 of the PLIC; its pending bit shows it.
    source = 32 + slot % 4
    assert vm.bus.read(0x0C00_1000 + source // 32 * 4, 4) >> source % 32 & 1
    vm.bus.write(config_address(slot, COMMAND), 2, 0x406)
    assert vm.bus.read(config_address(slot, STATUS), 2) & 0x8
    driver.write(0x10, 0xFFFF_FFFF)
    driver.set_host(0x08, 0xFFFF_FFFF)
    assert not vm.bus.read(config_address(slot, STATUS), 2) & 0x8


def test_without_bus_master_no_dma(vm, slot):
    driver = AhciDriver(vm)
    vm.bus.write(config_address(slot, COMMAND), 2, 0x2)
    assert driver.fail(IDENTIFY, prdt=[(0x8040_0000, 512)]).interrupt_status & 1 << 29
    vm.bus.write(config_address(slot, COMMAND), 2, 0x6)
    assert driver.identify()[0] == 0x0040


def test_random_configuration_accesses(vm, slot):
    rng = random.Random(7)
    for _ in range(20_000):
        size = rng.choice((1, 2, 4, 8))
        address = config_address(rng.choice((0, slot, rng.randrange(32))), rng.randrange(0, 4096, size))
        if rng.random() < 0.5:
            vm.bus.read(address, size)
        else:
            vm.bus.write(address, size, rng.getrandbits(8 * size))
    vm.bus.write(config_address(slot, 0x82), 2, 0)
    driver = AhciDriver(vm)
    assert driver.read(CLB) == COMMAND_LIST
    assert driver.read(CI) == 0
    assert driver.identify()[0] == 0x0040
