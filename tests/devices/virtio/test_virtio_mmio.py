"""The registers of virtio over MMIO (virtio 1.2, 4.2), and the rules of negotiation and reset (2.1, 2.2, 2.4, 3.1)."""

from __future__ import annotations

import pytest

import wirt
from support.virtio_driver import (
    ACKNOWLEDGE,
    CONFIG_CHANGE,
    DRIVER,
    EVENT_IDX,
    FAILED,
    FEATURES_OK,
    INDIRECT_DESC,
    LIVE,
    NEEDS_RESET,
    RAM,
    USED_BUFFER,
    VERSION_1,
    Driver,
    wait_until,
)

SLOTS = [0x1000_1000 + 0x1000 * slot for slot in range(8)]


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


def test_ring_features_are_offered_by_all(vm: wirt.Machine) -> None:
    for name in ("virtio-console0", "virtio-blk0", "virtio-net0", "virtio-rng0"):
        wanted = VERSION_1 | INDIRECT_DESC | EVENT_IDX
        assert Driver(vm, name).offered() & wanted == wanted


def test_feature_windows_beyond_the_second_are_empty(blk: Driver) -> None:
    blk.write("DeviceFeaturesSel", 2)
    assert blk.read("DeviceFeatures") == 0
    blk.write("DeviceFeaturesSel", 0xFFFF_FFFF)
    assert blk.read("DeviceFeatures") == 0


@pytest.mark.parametrize("size", [1, 2, 8])
def test_control_registers_are_32_bits_wide(vm: wirt.Machine, blk: Driver, size: int) -> None:
    assert vm.bus.read(blk.base, size) == 0
    vm.bus.write(blk.base + 0x70, size, ACKNOWLEDGE)
    assert blk.read("Status") == 0


def test_there_is_no_shared_memory(blk: Driver) -> None:
    blk.write("SHMSel", 0)
    for register in ("SHMLenLow", "SHMLenHigh", "SHMBaseLow", "SHMBaseHigh"):
        assert blk.read(register) == 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (VERSION_1 | 1 << 50, "not offered"),
        (0, "from before version 1"),
        (EVENT_IDX, "from before version 1"),
    ],
)
def test_features_ok_is_refused(blk: Driver, features: int, why: str) -> None:
    blk.reset()
    blk.write("Status", ACKNOWLEDGE | DRIVER)
    blk.choose(features)
    blk.write("Status", ACKNOWLEDGE | DRIVER | FEATURES_OK)
    assert blk.read("Status") == ACKNOWLEDGE | DRIVER, why
    blk.write("Status", LIVE)
    assert blk.read("Status") == ACKNOWLEDGE | DRIVER, "DRIVER_OK without FEATURES_OK"


def test_dependent_features_are_refused(net: Driver) -> None:
    net.reset()
    net.write("Status", ACKNOWLEDGE | DRIVER)
    net.choose(VERSION_1 | 1 << 11)  # HOST_TSO4 without CSUM (5.1.3.1)
    net.write("Status", ACKNOWLEDGE | DRIVER | FEATURES_OK)
    assert not net.read("Status") & FEATURES_OK


def test_features_are_fixed_once_accepted(rng: Driver) -> None:
    (queue,) = rng.start(EVENT_IDX)
    rng.choose(0)
    buffer = rng.guest.allocate(64)
    queue.set_used_event(5)
    queue.transfer(writable=[(buffer, 64)])
    assert rng.read("InterruptStatus") == 0, "EVENT_IDX is still on"


def test_status_bits_are_only_ever_set(rng: Driver) -> None:
    rng.start()
    rng.write("Status", ACKNOWLEDGE)
    assert rng.read("Status") == LIVE
    rng.write("Status", NEEDS_RESET)
    assert rng.read("Status") == LIVE, "DEVICE_NEEDS_RESET is the device's to set"


def test_a_device_that_was_given_up_rests(rng: Driver) -> None:
    (queue,) = rng.start()
    rng.write("Status", LIVE | FAILED)
    queue.add(writable=[(rng.guest.allocate(64), 64)])
    queue.kick()
    assert not wait_until(lambda: queue.poll() is not None, 0.05)


def test_reset_returns_everything_to_the_start(rng: Driver) -> None:
    (queue,) = rng.start()
    queue.transfer(writable=[(rng.guest.allocate(64), 64)])
    assert rng.read("InterruptStatus") == USED_BUFFER
    assert rng.pending_at_plic()
    rng.write("Status", 0)
    assert rng.read("Status") == 0
    assert rng.read("InterruptStatus") == 0
    rng.write("QueueSel", 0)
    assert rng.read("QueueReady") == 0


def test_acknowledging_clears_only_what_is_named(rng: Driver) -> None:
    (queue,) = rng.start()
    queue.transfer(writable=[(rng.guest.allocate(64), 64)])
    rng.write("InterruptACK", CONFIG_CHANGE)
    assert rng.read("InterruptStatus") == USED_BUFFER
    rng.write("InterruptACK", USED_BUFFER)
    assert rng.read("InterruptStatus") == 0


def test_kicks_before_driver_ok_are_ignored(rng: Driver) -> None:
    rng.negotiate(0)
    queue = rng.configure(0, 16)
    rng.enable(queue)
    queue.add(writable=[(rng.guest.allocate(64), 64)])
    queue.kick()
    assert not wait_until(lambda: queue.poll() is not None, 0.05)
    rng.write("Status", LIVE)
    queue.kick()
    assert queue.wait().length == 64


def test_kicks_after_reset_are_ignored(rng: Driver) -> None:
    (queue,) = rng.start()
    queue.add(writable=[(rng.guest.allocate(64), 64)])
    rng.write("Status", 0)
    queue.kick()
    assert not wait_until(lambda: queue.poll() is not None, 0.05)
    assert rng.read("Status") == 0


@pytest.mark.parametrize("index", [1, 2, 63, 64, 0xFFFF, 0xFFFF_FFFF])
def test_kicks_of_queues_that_do_not_exist_are_ignored(rng: Driver, index: int) -> None:
    (queue,) = rng.start()
    rng.write("QueueNotify", index)
    assert queue.transfer(writable=[(rng.guest.allocate(64), 64)]).length == 64


@pytest.mark.parametrize("index", [1, 0xFFFF_FFFF])
def test_queues_that_do_not_exist_have_size_zero(rng: Driver, index: int) -> None:
    rng.negotiate(0)
    rng.write("QueueSel", index)
    assert rng.read("QueueNumMax") == 0
    rng.write("QueueNum", 16)
    rng.write("QueueReady", 1)
    assert rng.read("QueueReady") == 0


@pytest.mark.parametrize("size", [0, 3, 24, 512, 0x1_0000, 0xFFFF_FFFF])
def test_queue_sizes_that_are_no_power_of_two_or_too_large_are_not_taken(rng: Driver, size: int) -> None:
    rng.negotiate(0)
    rng.write("QueueSel", 0)
    rng.write("QueueNum", size)
    rng.write("QueueReady", 1)
    assert rng.read("QueueReady") == 0


def test_size_and_addresses_are_fixed_once_ready(rng: Driver) -> None:
    (queue,) = rng.start()
    rng.write("QueueSel", 0)
    rng.write("QueueNum", 2)
    for register in ("QueueDescLow", "QueueDescHigh", "QueueDriverLow", "QueueDeviceHigh"):
        rng.write(register, 0x1234_5678)
    for _ in range(20):
        assert queue.transfer(writable=[(RAM + 0x20_0000, 64)]).length == 64


def test_a_queue_is_not_enabled_after_driver_ok(console: Driver) -> None:
    console.start(queues=1)
    queue = console.configure(1, 16)
    console.enable(queue)
    assert console.read("QueueReady") == 0


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


@pytest.mark.parametrize(
    ("area", "address"),
    [
        ("Desc", RAM + 8),  # alignment 16
        ("Driver", RAM + 1),  # alignment 2
        ("Device", RAM + 2),  # alignment 4
        ("Desc", 0x1000_1000),  # a device
        ("Driver", 0),
        ("Device", RAM + 64 * 2**20 - 4),  # over the end of RAM
        ("Desc", 0xFFFF_FFFF_FFFF_FFF0),  # wraps
    ],
)
def test_ring_addresses_that_cannot_be_need_a_reset(rng: Driver, area: str, address: int) -> None:
    rng.negotiate(0)
    rng.configure(0, 16)
    rng.write(f"Queue{area}Low", address & 0xFFFF_FFFF)
    rng.write(f"Queue{area}High", address >> 32)
    rng.write("QueueReady", 1)
    rng.write("Status", LIVE)
    assert rng.read("Status") == LIVE | NEEDS_RESET
    assert rng.read("InterruptStatus") == CONFIG_CHANGE
    (queue,) = rng.start()
    assert queue.transfer(writable=[(rng.guest.allocate(64), 64)]).length == 64


def test_reads_and_writes_all_over_the_region_are_harmless(vm: wirt.Machine, net: Driver) -> None:
    for offset in range(0, 0x1000, 4):
        vm.bus.write(net.base + offset, 4, 0xFFFF_FFFF)
        vm.bus.read(net.base + offset, 4)
    for offset in range(0x100, 0x140):
        vm.bus.write(net.base + offset, 1, 0xFF)
    net.start(queues=2)
