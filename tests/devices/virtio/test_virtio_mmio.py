"""The registers of virtio over MMIO (virtio 1.2, 4.2) that have no like in the other transport."""

from __future__ import annotations

import pytest

import wirt
from support.virtio_driver import ACKNOWLEDGE, Driver

SLOTS = [0x1000_1000 + 0x1000 * slot for slot in range(8)]


@pytest.fixture(params=["split", "packed"])
def wiring(request: pytest.FixtureRequest) -> tuple[str, str]:
    return "mmio", str(request.param)


def test_every_slot_answers_as_version_2(vm: wirt.Machine) -> None:
    for base in SLOTS:
        assert vm.bus.read(base, 4).to_bytes(4, "little") == b"virt"
        assert vm.bus.read(base + 4, 4) == 2


def test_the_devices_are_console_block_net_entropy_and_empty_slots(vm: wirt.Machine) -> None:
    assert sorted(vm.bus.read(base + 8, 4) for base in SLOTS) == [0, 0, 0, 0, 1, 2, 3, 4]


def test_an_empty_slot_reads_zero_and_ignores_writes(vm: wirt.Machine) -> None:
    (base, *_) = (base for base in SLOTS if vm.bus.read(base + 8, 4) == 0)
    for offset in range(0, 0x200, 4):
        vm.bus.write(base + offset, 4, 0xFFFF_FFFF)
    assert [vm.bus.read(base + offset, 4) for offset in range(0xC, 0x200, 4)] == [0] * ((0x200 - 0xC) // 4)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_control_registers_are_32_bits_wide(vm: wirt.Machine, blk: Driver, size: int) -> None:
    assert vm.bus.read(blk.base, size) == 0
    vm.bus.write(blk.base + 0x70, size, ACKNOWLEDGE)
    assert blk.read("Status") == 0


def test_there_is_no_shared_memory(blk: Driver) -> None:
    blk.write("SHMSel", 0)
    for register in ("SHMLenLow", "SHMLenHigh", "SHMBaseLow", "SHMBaseHigh"):
        assert blk.read(register) == 0xFFFF_FFFF


@pytest.mark.parametrize("size", [0, 3, 24, 512, 0x1_0000, 0xFFFF_FFFF])
def test_queue_sizes_that_cannot_be_are_not_taken(rng: Driver, size: int) -> None:
    rng.negotiate(0)
    rng.write("QueueSel", 0)
    rng.write("QueueNum", size)
    rng.write("QueueReady", 1)
    # A split ring has a power of two of slots (2.7), a packed one any number (2.8.10.1).
    assert rng.read("QueueReady") == (rng.packed and size in (3, 24))


def test_a_queue_can_be_taken_out_of_service(console: Driver) -> None:
    receive, transmit = console.start(queues=2)
    console.write("QueueSel", 1)
    console.write("QueueReady", 0)
    assert console.read("QueueReady") == 0
    transmit.add(readable=[(console.guest.place(b"lost"), 4)])
    transmit.kick()
    receive.add(writable=[(console.guest.allocate(16), 16)])
    receive.kick()
    console.vm.hvc.send("x")
    assert receive.wait().length == 1, "the other queue goes on"
    assert transmit.poll() is None


def test_every_access_of_every_width_is_harmless(vm: wirt.Machine, net: Driver) -> None:
    for size in (1, 2, 4, 8):
        for offset in range(0, 0x1000, size):
            vm.bus.read(net.base + offset, size)
            vm.bus.write(net.base + offset, size, 2 ** (8 * size) - 1)
    net.start(queues=2)
