"""virtio-console (virtio 1.2, 5.3)."""

from __future__ import annotations

import wirt
from support.virtio_driver import CONFIG_CHANGE, RAM, Driver
from support.virtqueues import wait_until

EMERG_WRITE = 1 << 2


def test_output_arrives_in_order_whatever_its_layout(vm: wirt.Machine, console: Driver) -> None:
    _, transmit = console.start(queues=2)
    text = console.guest.place(b"one two three")
    transmit.transfer(readable=[(text, 4), (0, 0), (text + 4, 4)])
    transmit.transfer(readable=[(text + 8, 5)])
    assert vm.hvc.read(5) == b"one two three"


def test_input_waits_for_a_buffer(vm: wirt.Machine, console: Driver) -> None:
    vm.hvc.send("early ")
    receive, _ = console.start(queues=2)
    vm.hvc.send("late")
    back = console.guest.allocate(64)
    receive.add(writable=[(back, 3), (back + 3, 61)])
    receive.kick()
    assert console.guest.read(back, receive.wait().length) == b"early late"


def test_input_interrupts_a_driver_that_waits(vm: wirt.Machine, console: Driver) -> None:
    receive, _ = console.start(queues=2)
    back = console.guest.allocate(64)
    receive.add(writable=[(back, 64)])
    receive.kick()
    assert receive.poll() is None
    vm.hvc.send("x")
    assert receive.wait().length == 1
    assert wait_until(console.pending_at_plic)


def test_much_input_fills_many_small_buffers(vm: wirt.Machine, console: Driver) -> None:
    receive, _ = console.start(queues=2, size=64)
    text = bytes(i % 251 for i in range(1000))
    vm.hvc.send(text)
    got = b""
    back = console.guest.allocate(7)
    while len(got) < len(text):
        used = receive.transfer(writable=[(back, 7)])
        got += console.guest.read(back, used.length)
    assert got == text


def test_a_chain_of_gigabytes_is_printed_and_a_reset_cuts_it_short(vm: wirt.Machine, console: Driver) -> None:
    _, transmit = console.start(queues=2, size=64)
    transmit.add(readable=[(RAM, 64 * 2**20)] * 60)
    transmit.kick()
    console.write("Status", 0)
    assert wait_until(lambda: console.read("Status") == 0, 2.0)
    _, transmit = console.start(queues=2)
    transmit.transfer(readable=[(console.guest.place(b"alive"), 5)])


def test_emergency_writes_need_no_driver(vm: wirt.Machine, console: Driver) -> None:
    assert console.offered() & EMERG_WRITE
    console.reset()
    for byte in b"panic":
        console.set_config(8, 4, byte | 0xABCD00)
    assert vm.hvc.read(5) == b"panic"


def test_other_configuration_is_read_only(console: Driver) -> None:
    before = [console.config(offset, 4) for offset in (0, 4)]
    for offset in (0, 4):
        console.set_config(offset, 4, 0xFFFF_FFFF)
    assert [console.config(offset, 4) for offset in (0, 4)] == before
    assert not console.read("InterruptStatus") & CONFIG_CHANGE
