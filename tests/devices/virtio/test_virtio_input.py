"""virtio input (virtio 1.2, 5.8)."""

from __future__ import annotations

import struct

import pytest

import wirt
from support.virtio_driver import Driver
from support.virtqueues import Virtqueue, wait_until

SELECT, SUBSEL, SIZE, UNION = 0, 1, 2, 8
NAME, SERIAL, DEVIDS, PROP_BITS, EV_BITS, ABS_INFO = 1, 2, 3, 0x10, 0x11, 0x12
EV_SYN, EV_KEY, EV_REL, EV_ABS, EV_LED, EV_REP = 0, 1, 2, 3, 0x11, 0x14
EVENTQ, STATUSQ = 0, 1
SYN = (0, 0, 0)


@pytest.fixture
def vm(wiring):
    transport, layout = wiring
    with wirt.Machine(memory="64M", input_devices=True, virtio=transport, packed=layout == "packed") as machine:
        yield machine


@pytest.fixture
def keyboard(vm):
    return Driver(vm, "virtio-input0")


@pytest.fixture
def tablet(vm):
    return Driver(vm, "virtio-input1")


def ask(driver: Driver, select: int, subsel: int = 0) -> bytes:
    driver.set_config(SELECT, 1, select)
    driver.set_config(SUBSEL, 1, subsel)
    size = driver.config(SIZE, 1)
    everything = bytes(driver.config(UNION + i, 1) for i in range(128))
    assert not any(everything[size:])
    return everything[:size]


def bits(driver: Driver, kind: int) -> set[int]:
    bitmap = ask(driver, EV_BITS, kind)
    return {8 * i + bit for i, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1}


def give(queue: Virtqueue, count: int, size: int = 8) -> dict[int, int]:
    """Makes buffers available; addresses by what `Used` calls them."""
    buffers = {}
    for _ in range(count):
        address = queue.guest.allocate(size)
        buffers[queue.add(writable=[(address, size)])] = address
    queue.kick()
    return buffers


def take(queue: Virtqueue, buffers: dict[int, int], count: int) -> list[tuple[int, int, int]]:
    events = []
    for _ in range(count):
        used = queue.wait()
        assert used.length == 8
        events.append(struct.unpack("<HHi", queue.guest.read(buffers[used.id], 8)))
    return events


def test_what_they_say_of_themselves(keyboard, tablet):
    assert ask(keyboard, NAME) == b"Wirt keyboard"
    assert ask(tablet, NAME) == b"Wirt tablet"
    assert ask(keyboard, SERIAL) == b"virtio-input0"
    assert struct.unpack("<4H", ask(tablet, DEVIDS)) == (6, 0x1AF4, 2, 1)
    assert bits(keyboard, EV_KEY) == set(range(1, 249))
    assert bits(keyboard, EV_LED) == {0, 1, 2}
    assert bits(keyboard, EV_REP) == {0, 1}
    assert bits(keyboard, EV_ABS) == set()
    assert bits(tablet, EV_KEY) == {0x110, 0x111, 0x112, 0x113, 0x114}
    assert bits(tablet, EV_REL) == {6, 8}
    assert bits(tablet, EV_ABS) == {0, 1}
    for axis in (0, 1):
        assert struct.unpack("<5I", ask(tablet, ABS_INFO, axis)) == (0, 0x7FFF, 0, 0, 0)


def test_what_is_not_there_has_no_size(keyboard, tablet):
    for driver in (keyboard, tablet):
        for select in (0, 4, PROP_BITS, 0x13, 0x80, 0xFF):
            for subsel in (0, 1, 0xFF):
                assert ask(driver, select, subsel) == b""
        assert ask(driver, EV_BITS, 0xFF) == b""
        assert ask(driver, ABS_INFO, 2) == b""
    assert ask(keyboard, ABS_INFO, 0) == b""


def test_only_the_selection_can_be_written(keyboard):
    ask(keyboard, NAME)
    for offset in range(SIZE, 136):
        keyboard.set_config(offset, 1, 0xEE)
    assert ask(keyboard, NAME) == b"Wirt keyboard"
    keyboard.set_config(SELECT, 2, SERIAL)  # both at once
    assert keyboard.config(SIZE, 1) == len("virtio-input0")


def test_a_report_is_delivered_event_by_event(vm, keyboard):
    events, _ = keyboard.start(queues=2)
    buffers = give(events, 8)
    vm.keyboard.press("ctrl", "c")
    assert take(events, buffers, 8) == [(1, 29, 1), SYN, (1, 46, 1), SYN, (1, 46, 0), SYN, (1, 29, 0), SYN]


def test_text_is_typed_with_shift(vm, keyboard):
    events, _ = keyboard.start(queues=2)
    buffers = give(events, 12)
    vm.keyboard.type("A\n")
    typed = [(code, value) for kind, code, value in take(events, buffers, 12) if kind == EV_KEY]
    assert typed == [(42, 1), (30, 1), (30, 0), (42, 0), (28, 1), (28, 0)]


def test_the_tablet_moves_clicks_and_scrolls(vm, tablet):
    events, _ = tablet.start(queues=2)
    buffers = give(events, 12)
    vm.tablet.move(0.0, 1.0)
    vm.tablet.move(-5, 0.5)
    vm.tablet.click("right")
    vm.tablet.scroll(-2)
    assert take(events, buffers, 12) == [
        (3, 0, 0), (3, 1, 0x7FFF), SYN, (3, 0, 0), (3, 1, 0x4000), SYN,
        (1, 0x111, 1), SYN, (1, 0x111, 0), SYN, (2, 8, -2), SYN,
    ]  # fmt: skip


def test_events_wait_for_a_driver_and_for_buffers(vm, keyboard):
    vm.keyboard.type("ab")
    events, _ = keyboard.start(queues=2)
    first = take(events, give(events, 3), 3)
    rest = take(events, give(events, 5), 5)
    assert [code for kind, code, _ in first + rest if kind == EV_KEY] == [30, 30, 48, 48]


def test_the_host_hears_when_nobody_listens(vm):
    with pytest.raises(wirt.StateError, match="takes no input"):
        for _ in range(5000):
            vm.keyboard.key(30, True)
    # Whole reports were kept, none in part.
    driver = Driver(vm, "virtio-input0")
    events, _ = driver.start(queues=2, size=64)
    received = []
    for _ in range(4096 // 64):
        received += take(events, give(events, 64), 64)
    assert received == [(1, 30, 1), SYN] * 2048


def test_leds_are_seen_by_the_host(vm, keyboard):
    _, status = keyboard.start(queues=2)
    for code, value, leds in ((1, 1, {"caps"}), (0, 1, {"caps", "num"}), (1, 0, {"num"}), (200, 1, {"num"})):
        place = keyboard.guest.place(struct.pack("<HHI", EV_LED, code, value))
        assert status.transfer(readable=[(place, 8)]).length == 0
        assert vm.keyboard.leds == leds


def test_buffers_that_are_too_small_go_back_empty(vm, keyboard):
    events, status = keyboard.start(queues=2)
    small = keyboard.guest.allocate(4)
    events.add(writable=[(small, 4)])
    events.add(readable=[(small, 4)])
    buffers = give(events, 2)
    vm.keyboard.key(30, True)
    assert [events.wait().length for _ in range(2)] == [0, 0]
    assert take(events, buffers, 2) == [(1, 30, 1), SYN]
    assert status.transfer(readable=[(small, 3)]).length == 0
    assert not keyboard.needs_reset()


def test_a_reset_forgets_the_selection_and_keeps_what_was_typed(vm, keyboard):
    keyboard.start(queues=2)
    vm.keyboard.key(30, True)
    ask(keyboard, NAME)
    keyboard.reset()
    assert keyboard.config(SIZE, 1) == 0
    events, _ = keyboard.start(queues=2)
    assert take(events, give(events, 2), 2) == [(1, 30, 1), SYN]


def test_waiting_events_are_state(vm):
    before = vm.state_hash()
    vm.keyboard.key(30, True)
    assert vm.state_hash() != before
    assert wait_until(lambda: True)


def test_names_of_keys_and_buttons_are_checked(vm):
    with pytest.raises(wirt.ConfigError, match="no key of a US keyboard"):
        vm.keyboard.type("aä")
    with pytest.raises(wirt.ConfigError, match="'hyper': is no key"):
        vm.keyboard.press("hyper", "a")
    with pytest.raises(wirt.ConfigError, match="is none of left, right"):
        vm.tablet.click("sixth")
    with wirt.Machine(memory="16M") as plain:
        with pytest.raises(wirt.ConfigError, match="no keyboard"):
            _ = plain.keyboard
        with pytest.raises(wirt.ConfigError, match="no tablet"):
            _ = plain.tablet
