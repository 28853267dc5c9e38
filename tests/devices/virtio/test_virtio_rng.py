"""virtio entropy (virtio 1.2, 5.4)."""

from __future__ import annotations

import wirt
from support.virtio_driver import RAM, Driver


def test_buffers_are_filled_with_fresh_bytes(rng: Driver) -> None:
    (queue,) = rng.start()
    back = rng.guest.allocate(64)
    seen = set()
    for _ in range(20):
        assert queue.transfer(writable=[(back, 13), (back + 13, 51)]).length == 64
        seen.add(rng.guest.read(back, 64))
    assert len(seen) == 20


def test_at_least_one_byte_and_a_bounded_number(rng: Driver) -> None:
    (queue,) = rng.start(size=64)
    assert queue.transfer(writable=[(rng.guest.allocate(1), 1)]).length == 1
    assert 1 <= queue.transfer(writable=[(RAM + 0x80_0000, 48 * 2**20)] * 60).length <= 2**20


def test_a_readable_buffer_gets_nothing(rng: Driver) -> None:
    (queue,) = rng.start()
    place = rng.guest.place(b"mine")
    assert queue.transfer(readable=[(place, 4)]).length == 0
    assert rng.guest.read(place, 4) == b"mine"


def test_machines_differ() -> None:
    drawn = set()
    for _ in range(3):
        with wirt.Machine(memory="64M") as vm:
            rng = Driver(vm, "virtio-rng0")
            (queue,) = rng.start()
            back = rng.guest.allocate(32)
            queue.transfer(writable=[(back, 32)])
            drawn.add(rng.guest.read(back, 32))
    assert len(drawn) == 3
