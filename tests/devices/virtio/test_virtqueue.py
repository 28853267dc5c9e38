"""Virtqueues (virtio 1.2, 2.7 and 2.8): what is allowed works, all else ends in DEVICE_NEEDS_RESET only."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wirt
from support.virtio_driver import (
    CONFIG_CHANGE,
    EVENT_IDX,
    INDIRECT_DESC,
    NOTIFICATION_DATA,
    RAM,
    RING_RESET,
    USED_BUFFER,
    Driver,
    Guest,
)
from support.virtqueues import INDIRECT, NEXT, WRITE, PackedQueue, SplitQueue, Used, Virtqueue, wait_until

SIZE = 16
RAM_SIZE = 64 * 2**20
BUFFER = RAM + 0x20_0000
TABLE = RAM + 0x30_0000


WIRINGS = [(transport, layout) for layout in ("split", "packed") for transport in ("mmio", "pci")]
SPLIT, PACKED = WIRINGS[:2], WIRINGS[2:]


@pytest.fixture(params=WIRINGS, ids="-".join)
def wiring(request: pytest.FixtureRequest) -> tuple[str, str]:
    return tuple(request.param)


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
    table = queue.table([(BUFFER + i, 1, WRITE) for i in range(SIZE)])
    rng.guest.write(TABLE + 1, table)
    queue.expose([(TABLE + 1, len(table), INDIRECT | WRITE)])
    queue.kick()
    assert wait_until(lambda: not queue.untouched()), "WRITE is ignored on the descriptor that refers to a table"
    assert not rng.needs_reset()


@pytest.mark.parametrize("wiring", [("mmio", "split")], ids="-".join)
def test_indices_wrap(rng: Driver) -> None:
    (queue,) = rng.start(size=256)
    assert isinstance(queue, SplitQueue)
    for start in range(0, 0x1_0000 + 512, 256):
        for _ in range(256):
            queue.add(writable=[(BUFFER, 1)])
        queue.kick()
        for _ in range(256):
            assert queue.wait().length == 1, start
    assert queue.avail_idx == queue.used_idx == 512


@pytest.mark.parametrize("size", [3, 5, 16])
def test_lists_of_all_lengths_go_round_the_ring(rng: Driver, size: int) -> None:
    """So that lists begin at every slot and run over the end; a packed ring may have any length (2.8.10.1)."""
    size = size if rng.packed else 16
    (queue,) = rng.start(size=size)
    for step in range(6 * size):
        lengths = [1 + step % 7] * (1 + step % size)
        used = queue.transfer(writable=[(BUFFER + 0x10 * i, n) for i, n in enumerate(lengths)])
        assert used.length == sum(lengths)


def test_the_driver_can_suppress_interrupts(rng: Driver) -> None:
    (queue,) = rng.start()
    queue.want_interrupts(False)
    queue.transfer(writable=[(BUFFER, 8)])
    assert rng.read("InterruptStatus") == 0
    queue.want_interrupts(True)
    queue.transfer(writable=[(BUFFER, 8)])
    assert wait_until(lambda: rng.read("InterruptStatus") == USED_BUFFER)


@pytest.mark.parametrize("before", [0, 13, 15, 16, 29])
def test_the_driver_can_say_when_to_interrupt(rng: Driver, before: int) -> None:
    (queue,) = rng.start(EVENT_IDX)
    queue.interrupt_after(before + 3)
    for _ in range(before):
        queue.transfer(writable=[(BUFFER, 8)])
    rng.acknowledge()
    queue.interrupt_after(2)
    for _ in range(2):
        queue.transfer(writable=[(BUFFER, 8)])
    assert rng.read("InterruptStatus") == 0
    queue.transfer(writable=[(BUFFER, 8)])
    assert wait_until(lambda: rng.read("InterruptStatus") == USED_BUFFER)


def test_the_device_asks_for_doorbells_when_it_is_idle(rng: Driver) -> None:
    (queue,) = rng.start()
    queue.transfer(writable=[(BUFFER, 8)])
    assert wait_until(queue.asks_for_kicks)
    (queue,) = rng.start(EVENT_IDX)
    for _ in range(20):
        queue.transfer(writable=[(BUFFER, 8)])
        assert wait_until(queue.asks_for_kicks)


def test_a_doorbell_may_say_how_far_the_driver_has_come(console: Driver) -> None:
    (_, queue) = console.start(NOTIFICATION_DATA, queues=2)
    for _ in range(20):
        queue.transfer(readable=[(BUFFER, 1)])


def test_one_queue_can_be_reset_and_given_another_length(console: Driver) -> None:
    receive, old = console.start(RING_RESET, queues=2)
    old.transfer(readable=[(BUFFER, 1)])
    console.write("QueueSel", 1)
    console.write("QueueReset", 1)
    assert wait_until(lambda: console.read("QueueReset") == 0)
    assert console.read("QueueReady") == 0
    old.add(readable=[(BUFFER, 1)])
    old.kick()
    receive.add(writable=[(BUFFER, 16)])
    receive.kick()
    console.vm.hvc.send("x")
    assert receive.wait().length == 1, "the other queue goes on"
    assert old.poll() is None

    new = console.configure(1, 64)
    console.enable(new)
    assert console.read("QueueReady") == 1
    for _ in range(100):
        new.transfer(readable=[(BUFFER, 1)])


def test_a_queue_is_reset_only_where_that_was_negotiated(console: Driver) -> None:
    (_, queue) = console.start(queues=2)
    console.write("QueueSel", 1)
    console.write("QueueReset", 1)
    queue.transfer(readable=[(BUFFER, 1)])


# --- what is not ---

Attack = Callable[[Driver, Virtqueue], None]


def expose(*descriptors: tuple[int, int, int]) -> Attack:
    return lambda driver, queue: queue.expose(descriptors)


def endless_list(driver: Driver, queue: Virtqueue) -> None:
    queue.expose([(BUFFER, 8, NEXT | WRITE)] * SIZE)


def endless_list_of_empty_buffers(driver: Driver, queue: Virtqueue) -> None:
    queue.expose([(BUFFER, 0, NEXT | WRITE)] * SIZE)


def table_longer_than_the_queue(driver: Driver, queue: Virtqueue) -> None:
    queue.expose([(*queue.place_table([(BUFFER, 1, WRITE)] * (SIZE + 1)), INDIRECT)])


def readable_after_writable_in_a_table(driver: Driver, queue: Virtqueue) -> None:
    queue.expose([(*queue.place_table([(BUFFER, 8, WRITE), (BUFFER, 8, 0)]), INDIRECT)])


def buffer_on_a_device(driver: Driver, queue: Virtqueue) -> None:
    queue.expose([(driver.base, 0x100, WRITE)])


ATTACKS: dict[str, Attack] = {
    "endless list": endless_list,
    "endless list of empty buffers": endless_list_of_empty_buffers,
    "table of odd length": expose((TABLE, 24, INDIRECT)),
    "table of no length": expose((TABLE, 0, INDIRECT)),
    "table longer than the queue": table_longer_than_the_queue,
    "huge table": expose((TABLE, 0xFFFF_FFF0, INDIRECT)),
    "table with NEXT": expose((TABLE, 16, INDIRECT | NEXT), (BUFFER, 8, WRITE)),
    "table outside of RAM": expose((0x1000_0000, 16, INDIRECT)),
    "table that wraps": expose((2**64 - 16, 32, INDIRECT)),
    "readable after writable": expose((BUFFER, 8, NEXT | WRITE), (BUFFER, 8, 0)),
    "readable after writable in a table": readable_after_writable_in_a_table,
    "buffer outside of RAM": expose((RAM - 8, 16, WRITE)),
    "buffer over the end of RAM": expose((RAM + RAM_SIZE - 8, 9, WRITE)),
    "buffer that wraps": expose((2**64 - 8, 16, WRITE)),
    "buffer on a device": buffer_on_a_device,
}


def descriptor_cycle(driver: Driver, queue: SplitQueue) -> None:
    queue.set_descriptor(0, BUFFER, 8, NEXT | WRITE, 1)
    queue.set_descriptor(1, BUFFER, 8, NEXT | WRITE, 0)
    queue.make_available(0)


def cycle_in_a_table(driver: Driver, queue: SplitQueue) -> None:
    queue.set_descriptor(0, BUFFER, 8, NEXT | WRITE, 0, table=TABLE)
    queue.set_descriptor(0, TABLE, 16, INDIRECT)
    queue.make_available(0)


def head_out_of_range(driver: Driver, queue: SplitQueue) -> None:
    queue.make_available(SIZE)


def next_out_of_range(driver: Driver, queue: SplitQueue) -> None:
    queue.set_descriptor(0, BUFFER, 8, NEXT | WRITE, SIZE)
    queue.make_available(0)


def next_out_of_the_table(driver: Driver, queue: SplitQueue) -> None:
    queue.set_descriptor(0, BUFFER, 8, NEXT | WRITE, 2, table=TABLE)
    queue.set_descriptor(0, TABLE, 32, INDIRECT)
    queue.make_available(0)


def nested_table(driver: Driver, queue: SplitQueue) -> None:
    queue.set_descriptor(0, TABLE + 0x100, 16, INDIRECT, table=TABLE)
    queue.set_descriptor(0, TABLE, 16, INDIRECT)
    queue.make_available(0)


def chain_longer_than_the_queue(driver: Driver, queue: SplitQueue) -> None:
    for i in range(SIZE):
        queue.set_descriptor(i, BUFFER, 1, NEXT | WRITE, i + 1, table=TABLE)
    queue.set_descriptor(SIZE - 1, BUFFER, 1, WRITE, table=TABLE)
    queue.set_descriptor(0, BUFFER, 1, NEXT | WRITE, 1)
    queue.set_descriptor(1, TABLE, 16 * SIZE, INDIRECT)
    queue.make_available(0)


def index_beyond_the_queue(driver: Driver, queue: SplitQueue) -> None:
    queue.set_avail_idx(SIZE + 1)


def index_that_ran_backwards(driver: Driver, queue: SplitQueue) -> None:
    queue.set_avail_idx(0xFFFF)


# What only the fields of a split ring can say.
SPLIT_ATTACKS = [
    descriptor_cycle,
    cycle_in_a_table,
    head_out_of_range,
    next_out_of_range,
    next_out_of_the_table,
    nested_table,
    chain_longer_than_the_queue,
    index_beyond_the_queue,
    index_that_ran_backwards,
]


def list_that_ends_in_a_table(driver: Driver, queue: PackedQueue) -> None:
    queue.expose([(BUFFER, 8, NEXT | WRITE), (TABLE, 16, INDIRECT)])


def list_over_all_of_the_next_lap(driver: Driver, queue: PackedQueue) -> None:
    queue.expose([(BUFFER, 8, NEXT | WRITE)] * (2 * SIZE))


# And of a packed one. What a driver that makes slots available that the device holds comes to is seen in
# test_packed_queue.cpp, which needs no race.
PACKED_ATTACKS = [list_that_ends_in_a_table, list_over_all_of_the_next_lap]


def withstands(vm: wirt.Machine, device: str, attack: Attack) -> None:
    driver = Driver(vm, device)
    # The transmit queue where there is one: the receive queue is looked at only when something has come in.
    index = 1 if device in ("virtio-net0", "virtio-console0") else 0
    queue = driver.start(INDIRECT_DESC, queues=index + 1, size=SIZE)[index]
    attack(driver, queue)
    queue.kick()
    assert wait_until(driver.needs_reset)
    assert driver.read("InterruptStatus") & CONFIG_CHANGE, "the driver is told (2.1.2)"
    assert driver.pending_at_plic()
    assert queue.untouched(), "nothing was used"

    queue.kick()
    driver.reset()
    assert driver.read("InterruptStatus") == 0
    queue = driver.start(queues=index + 1, size=SIZE)[index]
    queue.add(readable=[(BUFFER, 64)], writable=[(BUFFER + 64, 64)])
    queue.kick()
    queue.wait()


DEVICES = ["virtio-rng0", "virtio-blk0", "virtio-net0", "virtio-console0"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_ends_in_needs_reset_and_a_reset_heals(vm: wirt.Machine, attack: str) -> None:
    for device in DEVICES:
        withstands(vm, device, ATTACKS[attack])


@pytest.mark.parametrize("wiring", SPLIT, ids="-".join)
@pytest.mark.parametrize("attack", SPLIT_ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_on_split_rings_does_too(vm: wirt.Machine, attack: Attack) -> None:
    for device in DEVICES:
        withstands(vm, device, attack)


@pytest.mark.parametrize("wiring", PACKED, ids="-".join)
@pytest.mark.parametrize("attack", PACKED_ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_on_packed_rings_does_too(vm: wirt.Machine, attack: Attack) -> None:
    for device in DEVICES:
        withstands(vm, device, attack)


@pytest.mark.parametrize("wiring", PACKED, ids="-".join)
def test_flags_in_a_table_of_a_packed_ring_are_ignored_but_for_write(rng: Driver) -> None:
    (queue,) = rng.start(INDIRECT_DESC)
    queue.expose([(*queue.place_table([(BUFFER, 8, WRITE | NEXT | INDIRECT | 0xFF80)]), INDIRECT)])
    queue.kick()
    assert wait_until(lambda: not queue.untouched())
    assert not rng.needs_reset()


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
    queue.expose([(RAM - 8, 16, WRITE)])
    queue.kick()
    assert wait_until(rng.needs_reset)
    assert queue.wait().length == 8
    assert queue.poll() is None


def test_descriptors_that_change_while_they_are_read_do_no_harm(rng: Driver) -> None:
    """Half of the values are fine and half are not: each request ends used, or in a reset, and nothing else."""
    (queue,) = rng.start(INDIRECT_DESC, size=SIZE)
    start = rng.guest.next
    stop = threading.Event()
    values = [
        (BUFFER, 8, WRITE),
        (2**64 - 1, 2**32 - 1, WRITE | NEXT),
        (*queue.place_table([(BUFFER, 8, WRITE)] * 2), INDIRECT),
        (BUFFER, 0, NEXT | WRITE),
    ]
    table = values[2][0]

    def flip() -> None:
        choose = random.Random(1)
        while not stop.is_set():
            ring = queue
            address, length, flags = choose.choice(values)
            if choose.random() < 0.5:
                # Any slot of a ring whose place stays the same over the resets.
                ring.scribble(choose.randrange(2), address, length, flags, choose.choice([0, 1, 0xFFFF]))
            else:
                ring.guest.write(table, ring.table([(address, length, flags)]))

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(150):
            queue.expose([values[0]])
            queue.kick()
            assert wait_until(lambda: rng.read("InterruptStatus") != 0)
            rng.guest.next = queue.desc
            (queue,) = rng.start(INDIRECT_DESC, size=SIZE)
    finally:
        stop.set()
        thread.join()
    rng.guest.next = start
    (queue,) = rng.start(INDIRECT_DESC, size=SIZE)
    queue.transfer(writable=[(BUFFER, 8)])


@pytest.fixture(scope="module")
def lasting_vms() -> Iterator[dict[bool, wirt.Machine]]:
    """One with split rings over MMIO, one with packed ones over PCI."""
    lan = wirt.Switch()
    machines = {
        packed: wirt.Machine(
            memory="64M",
            disks=[wirt.Disk.memory("1M")],
            nets=[lan.port()],
            virtio="pci" if packed else "mmio",
            packed=packed,
        )
        for packed in (False, True)
    }
    yield machines
    for machine in machines.values():
        machine.close()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rings_full_of_noise_do_no_harm(lasting_vms: dict[bool, wirt.Machine], data: st.DataObject) -> None:
    """Any descriptors, any indices: the device stays resettable, and works after a reset."""
    device, queues = data.draw(
        st.sampled_from([("virtio-blk0", 1), ("virtio-net0", 3), ("virtio-console0", 2), ("virtio-rng0", 1)])
    )
    vm = lasting_vms[data.draw(st.booleans())]
    driver = Driver(vm, device, Guest(vm))
    wanted = data.draw(st.sampled_from([0, INDIRECT_DESC, EVENT_IDX, INDIRECT_DESC | EVENT_IDX]))
    features = wanted | (1 << 17 if device == "virtio-net0" else 0)
    rings = driver.start(features, queues=queues, size=8)
    addresses = st.sampled_from([BUFFER, BUFFER + 13, TABLE, RAM, RAM + RAM_SIZE - 1, 0, 2**64 - 1])
    lengths = st.sampled_from([0, 1, 12, 16, 32, 100, 512, 513, 4096, 70_000, 2**32 - 1])
    descriptors = st.tuples(addresses, lengths, st.integers(0, 7), st.integers(0, 9))
    for queue in rings:
        written = data.draw(st.lists(descriptors, max_size=8))
        driver.guest.write(TABLE, queue.table([element[:3] for element in written]))
        for i, (address, length, flags, word) in enumerate(written):
            queue.scribble(i, address, length, flags, word)
        if isinstance(queue, SplitQueue):
            for _ in range(data.draw(st.integers(0, 3))):
                queue.make_available(data.draw(st.integers(0, 8)))
            if data.draw(st.booleans()):
                queue.set_avail_idx(data.draw(st.integers(0, 0xFFFF)))
        else:
            driver.guest.store(queue.driver_area, 4, data.draw(st.integers(0, 2**32 - 1)))
        queue.kick()
    if data.draw(st.booleans()):
        vm.hvc.send("noise")
    driver.reset()
    ring = driver.start(queues=queues, size=8)[-1 if device != "virtio-net0" else 1]
    ring.transfer(readable=[(BUFFER, 64)], writable=[(BUFFER + 64, 64)])


Request = tuple[int, list[int], list[int], bool]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_layout_of_the_ring_is_invisible_to_the_device(
    lasting_vms: dict[bool, wirt.Machine], data: st.DataObject
) -> None:
    """The same block requests, in any pieces, in batches of any length: the same status, lengths and data."""
    features = INDIRECT_DESC | data.draw(st.sampled_from([0, EVENT_IDX]))
    pieces = st.lists(st.sampled_from([1, 15, 16, 17, 511, 512, 513, 1024]), min_size=1, max_size=4)
    request = st.tuples(st.sampled_from([0, 1, 4, 8, 77]), pieces, pieces, st.booleans())
    batches: list[list[Request]] = data.draw(st.lists(st.lists(request, min_size=1, max_size=3), max_size=4))
    sectors = data.draw(st.lists(st.integers(0, 2050), min_size=12, max_size=12))

    def run(vm: wirt.Machine) -> list[object]:
        guest = Guest(vm)
        driver = Driver(vm, "virtio-blk0", guest)
        (queue,) = driver.start(features, size=32)
        seen: list[object] = []
        places = iter(sectors)
        for batch in batches:
            asked = {}
            for kind, out, back, indirect in batch:
                header = kind.to_bytes(8, "little") + next(places).to_bytes(8, "little")
                sent = guest.place((header + bytes(range(256)) * 20)[: sum(out)])
                room = guest.place(bytes(sum(back)))
                ends = [sum(out[:i]) for i in range(len(out))]
                starts = [sum(back[:i]) for i in range(len(back))]
                buffer_id = queue.add(
                    [(sent + at, n) for at, n in zip(ends, out, strict=True)],
                    [(room + at, n) for at, n in zip(starts, back, strict=True)],
                    0 if indirect else None,
                )
                asked[buffer_id] = (len(asked), room, sum(back))
            queue.kick()
            answers = {}
            for _ in batch:
                used = queue.wait()
                number, room, length = asked[used.id]
                answers[number] = (used.length, guest.read(room, length))
            seen.append(sorted(answers.items()))
        seen.append(driver.needs_reset())
        driver.reset()
        return seen

    # The disks begin alike and are written alike.
    assert run(lasting_vms[False]) == run(lasting_vms[True])
