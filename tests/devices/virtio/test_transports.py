"""What both transports have in common: the rules of negotiation, queues and reset (virtio 1.2, 2.1 to 2.4, 3.1)."""

from __future__ import annotations

import pytest

import wirt
from support.virtio_driver import (
    ACCESS_PLATFORM,
    ACKNOWLEDGE,
    CONFIG_CHANGE,
    DRIVER,
    EVENT_IDX,
    FAILED,
    FEATURES_OK,
    INDIRECT_DESC,
    LIVE,
    NEEDS_RESET,
    NOTIFICATION_DATA,
    RAM,
    RING_RESET,
    USED_BUFFER,
    VERSION_1,
    Driver,
)
from support.virtqueues import wait_until


def test_ring_features_are_offered_by_all(vm: wirt.Machine) -> None:
    for name in ("virtio-console0", "virtio-blk0", "virtio-net0", "virtio-rng0"):
        wanted = VERSION_1 | INDIRECT_DESC | EVENT_IDX | NOTIFICATION_DATA | RING_RESET
        driver = Driver(vm, name)
        assert driver.offered() & wanted == wanted
        assert not driver.offered() & ACCESS_PLATFORM, "no IOMMU"


def test_feature_windows_beyond_the_second_are_empty(blk: Driver) -> None:
    blk.write("DeviceFeaturesSel", 2)
    assert blk.read("DeviceFeatures") == 0
    blk.write("DeviceFeaturesSel", 0xFFFF_FFFF)
    assert blk.read("DeviceFeatures") == 0


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
    queue.interrupt_after(5)
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


@pytest.mark.parametrize(
    ("area", "address"),
    [
        ("Desc", RAM + 8),  # alignment 16
        ("Driver", RAM + 1),  # alignment 2
        ("Device", RAM + 2),  # alignment 4
        ("Desc", 0x1000_1000),  # a device
        ("Driver", 0),
        ("Device", RAM + 64 * 2**20),  # behind RAM
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
