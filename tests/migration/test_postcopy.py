"""Post-copy: what the guest waits for comes first."""

from __future__ import annotations

import threading

import wirt
from support.echo_guest import answers, echoing
from support.firmware import SPIN
from wirt import _core
from wirt.description import build as build_from
from wirt.description import describe
from wirt.migration.destination import Reception
from wirt.migration.postcopy import Pusher
from wirt.migration.transport import Channel, Kind


def test_who_waits_for_a_page_waits_neither_for_the_push_nor_for_the_bandwidth(build, receive, monkeypatch):
    """The push is stuck in full buffers, and the line is booked out for years: the guest goes on all the same."""
    free = threading.Event()
    stuck = threading.Event()
    run, send = Pusher.run, Channel.send

    def book_out(self, push, faults):
        self.push = push
        pushers.append(self)
        self._migration._options.bandwidth = 1.0
        run(self, push, faults)

    def stick(self, kind, *payload, **options):
        if kind is Kind.pages and pushers and self is pushers[0].push:
            stuck.set()
            assert free.wait(600)
        return send(self, kind, *payload, **options)

    pushers = []
    monkeypatch.setattr(Pusher, "run", book_out)
    monkeypatch.setattr(Channel, "send", stick)
    vm = echoing(build)
    there = receive()
    source = threading.Thread(target=vm.migrate, args=(there.address,), kwargs={"mode": "postcopy"})
    source.start()
    moved = there.result()
    assert stuck.wait(600)
    answers(moved)
    missing = moved.migration.missing_pages
    assert missing > 0
    vm.migration._options.bandwidth = None
    free.set()
    source.join(600)
    assert vm.migration.state == "completed"
    assert moved.migration.missing_pages == 0


def test_the_pages_that_hold_something_are_found_wherever_memory_comes_from(build):
    """Untouched, mapped from a file that clones share, or changed since."""

    def by_reading(machine):
        content = bytes(machine.memory)
        return [page for page in range(len(content) // 4096) if content[page * 4096 : page * 4096 + 4096].strip(b"\0")]

    def numbers(machine):
        pages = _core.used_pages(machine._core)
        return [page for page in range(len(machine.memory) // 4096) if page in pages]

    vm = build("echo", memory="32M")
    vm.memory[0x8100_0000:0x8100_1000] = bytes(4096)  # touched, and empty all the same
    vm.memory[0x8180_0FFF:0x8180_1000] = b"x"
    assert 0x1800 in numbers(vm)
    assert numbers(vm) == by_reading(vm)
    vm.start()
    vm.console.expect("echo ready", timeout=600)
    vm.pause()
    (clone,) = vm.fork()
    with clone:
        clone.memory[0x8170_0000:0x8170_0001] = b"y"
        assert numbers(clone) == sorted({*numbers(vm), 0x1700}) == by_reading(clone)
        vm.memory[0x8180_0FFF:0x8180_1000] = bytes(1)
        assert numbers(vm) == by_reading(vm)
        assert 0x1800 in numbers(clone)
        (second,) = clone.fork()
        with second:
            assert numbers(second) == numbers(clone)


def test_the_second_connection_may_come_before_anything_is_known(build, receive, monkeypatch):
    prepare = Reception._prepare

    def late(self, payload):
        with self._lock:
            assert self._changed.wait_for(lambda: -1 in self._channels, 600)
        prepare(self, payload)

    def here(self, channel):
        with self._lock:
            self._channels[-1] = channel
            self._changed.notify_all()
        take(self, channel)

    take = Reception._take_faults
    monkeypatch.setattr(Reception, "_prepare", late)
    monkeypatch.setattr(Reception, "_take_faults", here)
    vm = echoing(build)
    there = receive()
    vm.migrate(there.address, mode="postcopy")
    moved = there.result()
    assert vm.migration.error is None  # no connection had to be mended
    answers(moved)


def test_nothing_is_pushed_while_an_answer_is_being_made(build, receive, monkeypatch):
    order = []
    asked, waits = threading.Event(), threading.Event()
    run, send = Pusher.run, Channel.send
    monkeypatch.setattr("wirt.migration.postcopy._YIELD_S", 600.0)

    def answer_late(self, kind, *payload, **options):
        if threading.current_thread().name == "wirt-post-copy":
            asked.set()
            assert waits.wait(600)
            order.append("answer")
        elif self in pushes and kind is Kind.pages:
            order.append("push")
        return send(self, kind, *payload, **options)

    pushes = []

    def watch(self, push, faults):
        pushes.append(push)
        event = self._answered
        wait = event.wait

        def look(timeout):
            assert asked.wait(600)
            if not event.is_set():
                waits.set()
            return wait(timeout)

        event.wait = look
        run(self, push, faults)

    monkeypatch.setattr(Pusher, "run", watch)
    monkeypatch.setattr(Channel, "send", answer_late)
    vm = echoing(build)
    there = receive()
    vm.migrate(there.address, mode="postcopy")
    assert there.result().migration.missing_pages == 0
    assert order[0] == "answer"
    assert "push" in order


def test_a_machine_that_waits_for_its_code_can_be_closed():
    with wirt.Machine(firmware=SPIN, memory="16M") as vm:
        vm.start()
        vm.pause()
        state = _core.SavedState(bytes(_core.save_state(vm._core)))
        there = build_from(describe(vm), memory=None, state=None, dtb=b"", disks=[])
        missing = _core.PageSet(len(vm.memory) // 4096)
    missing.insert_all()
    arrivals = _core.PageArrivals(there._core, missing)
    _core.load_state(there._core, state)
    there.resume()
    assert arrivals.wanted(8, 600.0)
    there.close()
    assert there.state == "closed"
