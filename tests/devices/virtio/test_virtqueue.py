"""Split virtqueues (virtio 1.2, 2.7): what is allowed works, all else ends in DEVICE_NEEDS_RESET only."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wirt
from support.virtio_driver import (
    CONFIG_CHANGE,
    EVENT_IDX,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    RAM,
    USED_BUFFER,
    WRITE,
    Driver,
    Guest,
    Queue,
    Used,
    wait_until,
)

SIZE = 16
RAM_SIZE = 64 * 2**20
BUFFER = RAM + 0x20_0000
TABLE = RAM + 0x30_0000


# --- what is allowed ---


def test_used_elements_name_the_chain_and_its_length(rng: Driver) -> None:
    (queue,) = rng.start()
    first = queue.add(writable=[(BUFFER, 64)])
    second = queue.add(writable=[(BUFFER + 64, 32), (BUFFER + 0x1000, 16)])
    queue.kick()
    assert queue.wait() == Used(first, 64)
    assert queue.wait() == Used(second, 48)


def test_zero_length_buffers_are_allowed(rng: Driver) -> None:
    (queue,) = rng.start()
    assert queue.transfer(writable=[(0, 0), (BUFFER, 8), (0xDEAD_0000, 0), (BUFFER + 8, 8)]).length == 16
    assert queue.transfer(writable=[(0, 0)]).length == 0


@pytest.mark.parametrize("direct", [0, 1, 2, 3])
def test_descriptors_may_be_indirect_in_part(rng: Driver, direct: int) -> None:
    (queue,) = rng.start(INDIRECT_DESC)
    elements = [(BUFFER + 0x100 * i, 10) for i in range(4)]
    assert queue.transfer(writable=elements, direct=direct).length == 40


def test_an_indirect_table_may_stand_at_any_address_and_be_as_long_as_the_queue(rng: Driver) -> None:
    (queue,) = rng.start(INDIRECT_DESC)
    rng.guest.next = TABLE + 1
    for i in range(SIZE):
        rng.guest.write(TABLE + 1 + 16 * i, struct.pack("<QIHH", BUFFER + i, 1, WRITE | (i < SIZE - 1), i + 1))
    queue.set_descriptor(0, TABLE + 1, 16 * SIZE, INDIRECT | WRITE)
    queue.make_available(0)
    queue.kick()
    assert queue.wait().length == SIZE, "WRITE is ignored on the descriptor that refers to a table (2.7.5.3.2)"


def test_indices_wrap(rng: Driver) -> None:
    (queue,) = rng.start(size=256)
    for start in range(0, 0x1_0000 + 512, 256):
        for _ in range(256):
            queue.add(writable=[(BUFFER, 1)])
        queue.kick()
        for _ in range(256):
            assert queue.wait().length == 1, start
    assert queue.avail_idx == queue.used_idx == 512


def test_the_driver_can_suppress_interrupts(rng: Driver) -> None:
    (queue,) = rng.start()
    queue.set_avail_flags(1)
    queue.transfer(writable=[(BUFFER, 8)])
    assert rng.read("InterruptStatus") == 0
    queue.set_avail_flags(0)
    queue.transfer(writable=[(BUFFER, 8)])
    assert wait_until(lambda: rng.read("InterruptStatus") == USED_BUFFER)


def test_used_event_says_when_to_interrupt(rng: Driver) -> None:
    (queue,) = rng.start(EVENT_IDX)
    queue.set_used_event(2)
    for _ in range(2):
        queue.transfer(writable=[(BUFFER, 8)])
    assert rng.read("InterruptStatus") == 0
    queue.transfer(writable=[(BUFFER, 8)])
    assert wait_until(lambda: rng.read("InterruptStatus") == USED_BUFFER)


def test_the_device_asks_for_doorbells_when_it_is_idle(rng: Driver) -> None:
    (queue,) = rng.start()
    queue.transfer(writable=[(BUFFER, 8)])
    assert wait_until(lambda: queue.used_flags() == 0)
    (queue,) = rng.start(EVENT_IDX)
    for count in (1, 2, 3):
        queue.transfer(writable=[(BUFFER, 8)])
        assert wait_until(lambda: queue.avail_event() == count)  # noqa: B023


# --- what is not ---

Attack = Callable[[Driver, Queue], None]


def descriptor_cycle(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, BUFFER, 8, NEXT | WRITE, 1)
    queue.set_descriptor(1, BUFFER, 8, NEXT | WRITE, 0)
    queue.make_available(0)


def cycle_of_empty_buffers(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, BUFFER, 0, NEXT | WRITE, 0)
    queue.make_available(0)


def cycle_in_a_table(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, BUFFER, 8, NEXT | WRITE, 0, table=TABLE)
    queue.set_descriptor(0, TABLE, 16, INDIRECT)
    queue.make_available(0)


def head_out_of_range(driver: Driver, queue: Queue) -> None:
    queue.make_available(SIZE)


def next_out_of_range(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, BUFFER, 8, NEXT | WRITE, SIZE)
    queue.make_available(0)


def next_out_of_the_table(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, BUFFER, 8, NEXT | WRITE, 2, table=TABLE)
    queue.set_descriptor(0, TABLE, 32, INDIRECT)
    queue.make_available(0)


def nested_table(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, TABLE + 0x100, 16, INDIRECT, table=TABLE)
    queue.set_descriptor(0, TABLE, 16, INDIRECT)
    queue.make_available(0)


def table_of_odd_length(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, TABLE, 24, INDIRECT)
    queue.make_available(0)


def table_of_no_length(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, TABLE, 0, INDIRECT)
    queue.make_available(0)


def table_longer_than_the_queue(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, TABLE, 16 * (SIZE + 1), INDIRECT)
    queue.make_available(0)


def huge_table(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, TABLE, 0xFFFF_FFF0, INDIRECT)
    queue.make_available(0)


def table_with_next(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, TABLE, 16, INDIRECT | NEXT, 1)
    queue.make_available(0)


def table_outside_of_ram(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, 0x1000_0000, 16, INDIRECT)
    queue.make_available(0)


def table_that_wraps(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, 2**64 - 16, 32, INDIRECT)
    queue.make_available(0)


def chain_longer_than_the_queue(driver: Driver, queue: Queue) -> None:
    for i in range(SIZE):
        queue.set_descriptor(i, BUFFER, 1, NEXT | WRITE, i + 1, table=TABLE)
    queue.set_descriptor(SIZE - 1, BUFFER, 1, WRITE, table=TABLE)
    queue.set_descriptor(0, BUFFER, 1, NEXT | WRITE, 1)
    queue.set_descriptor(1, TABLE, 16 * SIZE, INDIRECT)
    queue.make_available(0)


def readable_after_writable(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, BUFFER, 8, NEXT | WRITE, 1)
    queue.set_descriptor(1, BUFFER, 8)
    queue.make_available(0)


def buffer_outside_of_ram(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, RAM - 8, 16, WRITE)
    queue.make_available(0)


def buffer_over_the_end_of_ram(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, RAM + RAM_SIZE - 8, 9, WRITE)
    queue.make_available(0)


def buffer_that_wraps(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, 2**64 - 8, 16, WRITE)
    queue.make_available(0)


def buffer_on_a_device(driver: Driver, queue: Queue) -> None:
    queue.set_descriptor(0, driver.base, 0x100, WRITE)
    queue.make_available(0)


def index_beyond_the_queue(driver: Driver, queue: Queue) -> None:
    queue.set_avail_idx(SIZE + 1)


def index_that_ran_backwards(driver: Driver, queue: Queue) -> None:
    queue.set_avail_idx(0xFFFF)


ATTACKS = [
    descriptor_cycle,
    cycle_of_empty_buffers,
    cycle_in_a_table,
    head_out_of_range,
    next_out_of_range,
    next_out_of_the_table,
    nested_table,
    table_of_odd_length,
    table_of_no_length,
    table_longer_than_the_queue,
    huge_table,
    table_with_next,
    table_outside_of_ram,
    table_that_wraps,
    chain_longer_than_the_queue,
    readable_after_writable,
    buffer_outside_of_ram,
    buffer_over_the_end_of_ram,
    buffer_that_wraps,
    buffer_on_a_device,
    index_beyond_the_queue,
    index_that_ran_backwards,
]


@pytest.mark.parametrize("device", ["virtio-rng0", "virtio-blk0", "virtio-net0", "virtio-console0"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_ends_in_needs_reset_and_a_reset_heals(vm: wirt.Machine, device: str, attack: Attack) -> None:
    driver = Driver(vm, device)
    # The transmit queue where there is one: the receive queue is looked at only when something has come in.
    index = 1 if device in ("virtio-net0", "virtio-console0") else 0
    queue = driver.start(INDIRECT_DESC, queues=index + 1, size=SIZE)[index]
    attack(driver, queue)
    queue.kick()
    assert wait_until(driver.needs_reset)
    assert driver.read("InterruptStatus") & CONFIG_CHANGE, "the driver is told (2.1.2)"
    assert driver.pending_at_plic()
    assert queue.device_idx() == 0, "nothing was used"

    queue.kick()
    driver.reset()
    assert driver.read("InterruptStatus") == 0
    queue = driver.start(queues=index + 1, size=SIZE)[index]
    queue.add(readable=[(BUFFER, 64)], writable=[(BUFFER + 64, 64)])
    queue.kick()
    queue.wait()


def test_indirect_descriptors_need_their_feature(rng: Driver) -> None:
    (queue,) = rng.start()
    queue.add(writable=[(BUFFER, 8)], direct=0)
    queue.kick()
    assert wait_until(rng.needs_reset)


def test_chains_of_4_gib_work_and_longer_ones_need_a_reset(vm: wirt.Machine) -> None:
    driver = Driver(vm, "virtio-net0")
    whole = 0x1_0000_0000 // RAM_SIZE
    elements = [(RAM, RAM_SIZE)] * whole
    (_, queue) = driver.start(queues=2, size=128)
    queue.transfer(readable=elements)  # no frame is that long: it is dropped
    assert not driver.needs_reset()
    queue.add(readable=[*elements, (RAM, 1)])
    queue.kick()
    assert wait_until(driver.needs_reset)


def test_buffers_are_used_up_to_the_broken_one(rng: Driver) -> None:
    (queue,) = rng.start(size=SIZE)
    queue.add(writable=[(BUFFER, 8)])
    queue.make_available(SIZE)
    queue.kick()
    assert wait_until(rng.needs_reset)
    assert queue.wait().length == 8
    assert queue.device_idx() == 1


def test_descriptors_that_change_while_they_are_read_do_no_harm(rng: Driver) -> None:
    """Half of the values are fine and half are not: each request ends used, or in a reset, and nothing else."""
    (queue,) = rng.start(INDIRECT_DESC, size=SIZE)
    stop = threading.Event()
    guest = rng.guest
    values = [
        struct.pack("<QIHH", BUFFER, 8, WRITE, 0),
        struct.pack("<QIHH", 2**64 - 1, 2**32 - 1, WRITE | NEXT, 0xFFFF),
        struct.pack("<QIHH", TABLE, 16, INDIRECT, 0),
        struct.pack("<QIHH", BUFFER, 0, NEXT | WRITE, 0),
    ]

    def flip() -> None:
        choose = random.Random(1)
        while not stop.is_set():
            at = choose.choice([queue.desc, TABLE])
            guest.write(at, choose.choice(values))

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        resets = 0
        for _ in range(300):
            queue.make_available(0)
            queue.kick()
            before = queue.used_idx
            assert wait_until(lambda: queue.device_idx() != before or rng.needs_reset())  # noqa: B023
            if rng.needs_reset():
                resets += 1
                (queue,) = rng.start(INDIRECT_DESC, size=SIZE)
                guest.next = queue.desc
            else:
                assert queue.poll() is not None
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def lasting_vm() -> Iterator[wirt.Machine]:
    lan = wirt.Switch()
    with wirt.Machine(memory="64M", disks=[wirt.Disk.memory("1M")], nets=[lan.port()]) as machine:
        yield machine


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rings_full_of_noise_do_no_harm(lasting_vm: wirt.Machine, data: st.DataObject) -> None:
    """Any descriptors, any indices: the device stays resettable, and works after a reset."""
    device, queues = data.draw(
        st.sampled_from([("virtio-blk0", 1), ("virtio-net0", 3), ("virtio-console0", 2), ("virtio-rng0", 1)])
    )
    driver = Driver(lasting_vm, device, Guest(lasting_vm))
    wanted = data.draw(st.sampled_from([0, INDIRECT_DESC, EVENT_IDX, INDIRECT_DESC | EVENT_IDX]))
    features = wanted | (1 << 17 if device == "virtio-net0" else 0)
    rings = driver.start(features, queues=queues, size=8)
    addresses = st.sampled_from([BUFFER, BUFFER + 13, TABLE, RAM, RAM + RAM_SIZE - 1, 0, 2**64 - 1])
    lengths = st.sampled_from([0, 1, 12, 16, 32, 100, 512, 513, 4096, 70_000, 2**32 - 1])
    descriptors = st.tuples(addresses, lengths, st.integers(0, 7), st.integers(0, 9))
    for queue in rings:
        for i, (address, length, flags, following) in enumerate(data.draw(st.lists(descriptors, max_size=8))):
            queue.set_descriptor(i, address, length, flags, following)
            queue.set_descriptor(i, address, length, flags, following, table=TABLE)
        for _ in range(data.draw(st.integers(0, 3))):
            queue.make_available(data.draw(st.integers(0, 8)))
        if data.draw(st.booleans()):
            queue.set_avail_idx(data.draw(st.integers(0, 0xFFFF)))
        queue.kick()
    if data.draw(st.booleans()):
        lasting_vm.hvc.send("noise")
    driver.reset()
    ring = driver.start(queues=queues, size=8)[-1 if device != "virtio-net0" else 1]
    ring.transfer(readable=[(BUFFER, 64)], writable=[(BUFFER + 64, 64)])
