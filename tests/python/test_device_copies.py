"""Devices written in Python in machines that are copied."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import wirt
from support.firmware import words
from wirt import _core

BASE = 0x5000_0000
# lui t0, BASE; lw a0, 0(t0); j -4: reads the device for ever.
READER = words(0x2B7 | BASE, 0x0002_A503, 0xFFDF_F06F)
LINE = 40


class Counter(wirt.Device):
    """Counts reads, and raises its interrupt at every third."""

    name = "counter"

    def __init__(self) -> None:
        self.count = 0
        self.events: list[str] = []

    def attached(self, machine: wirt.Machine) -> None:
        self.events.append(f"attached, {machine.state}")
        self.line = machine.interrupt_line(LINE)

    def read(self, offset: int, size: int) -> int:
        self.count += 1
        self.line.set(self.count % 3 == 0)
        return self.count

    def save(self) -> bytes:
        return self.count.to_bytes(8, "little")

    def load(self, state: bytes) -> None:
        self.events.append(f"load {len(state)}")
        self.count = int.from_bytes(state, "little")


class Other(Counter):
    name = "other"


class OnlyRead(wirt.Device):
    def read(self, offset: int, size: int) -> int:
        return 7


class OnlySave(OnlyRead):
    def save(self) -> bytes:
        return b""


class Picky(Counter):
    def load(self, state: bytes) -> None:
        raise ValueError("a count from another world")


@pytest.fixture
def vm() -> Iterator[wirt.Machine]:
    with wirt.Machine(firmware=READER, memory="16M", deterministic=True) as machine:
        machine.map_device(BASE, 0x1000, Counter())
        machine.run_for(8)
        yield machine


def goes_on_alike(one: wirt.Machine, other: wirt.Machine) -> None:
    assert other.state_hash() == one.state_hash()
    for machine in (one, other):
        machine.run_for(10)
    assert other.harts[0].x["a0"] == one.harts[0].x["a0"] > 4
    assert other.state_hash() == one.state_hash()


def pending(machine: wirt.Machine) -> bool:
    """Whether the PLIC has the device's interrupt."""
    return bool(machine.bus.read(0x0C00_1000 + LINE // 32 * 4, 4) & 1 << LINE % 32)


def test_state_hash_is_of_what_it_saves(vm: wirt.Machine) -> None:
    before = vm.state_hash()
    assert vm.state_hash() == before
    vm._mapped[0].device.count += 1  # type: ignore[attr-defined]
    assert vm.state_hash() != before


def test_fork(vm: wirt.Machine) -> None:
    made: list[Counter] = []

    def devices(number: int, old: wirt.Device) -> wirt.Device:
        assert old is vm._mapped[0].device
        assert number == len(made)
        made.append(Counter())
        return made[-1]

    vm.run_for(1)
    assert pending(vm)
    first, second = vm.fork(2, devices=devices, identity=False)
    with first, second:
        assert [device.events for device in made] == [["attached, created", "load 8"]] * 2
        assert pending(first)
        goes_on_alike(vm, first)
        # Each has its own.
        second.run_for(2)
        assert made[0].count != made[1].count
        # And back to the fork.
        second.reset()
        assert made[1].events[-1] == "load 8"
        second.run_for(10)
        assert second.state_hash() == first.state_hash()


def test_snapshot(vm: wirt.Machine, tmp_path: Path) -> None:
    info = vm.snapshot(tmp_path / "s").info
    assert info["machine"]["devices"] == [{"name": "counter", "base": BASE, "size": 0x1000}]
    with wirt.Machine.restore(tmp_path / "s", devices=[Counter()]) as copy:
        goes_on_alike(vm, copy)
    wirt.Snapshot.open(tmp_path / "s").verify()


def test_migration(vm: wirt.Machine) -> None:
    here, there = socket.socketpair()
    arrived: list[wirt.Machine] = []
    (twin,) = vm.fork(devices=lambda _, __: Counter(), identity=False)
    with here, there, twin:

        def receive() -> None:
            arrived.append(wirt.Machine.receive(there.fileno(), devices=[Counter()], timeout=300))

        thread = threading.Thread(target=receive)
        thread.start()
        vm.migrate(here.fileno())
        thread.join()
        with arrived[0] as moved:
            goes_on_alike(twin, moved)


def test_pool(vm: wirt.Machine) -> None:
    with wirt.Pool(vm, size=1, devices=lambda _, __: Counter()) as pool, pool.take(60) as clone:
        clone.pause()
        assert clone.harts[0].x["a0"] >= 4


def test_what_is_missing_is_said(vm: wirt.Machine, tmp_path: Path) -> None:
    vm.snapshot(tmp_path / "s")
    with pytest.raises(
        wirt.SnapshotError, match=r"1 device\(s\) in Python: 'counter' at 0x50000000; 0 are given.*devices="
    ):
        wirt.Machine.restore(tmp_path / "s")
    with pytest.raises(wirt.SnapshotError, match=r"1 device\(s\) in Python"):
        wirt.Machine.restore(tmp_path / "s", devices=[Counter(), Counter()])
    with pytest.raises(wirt.SnapshotError, match="called 'other', and should be 'counter'"):
        wirt.Machine.restore(tmp_path / "s", devices=[Other()])
    with pytest.raises(wirt.ConfigError, match="is no device"):
        wirt.Machine.restore(tmp_path / "s", devices=[object()])  # type: ignore[list-item]
    with pytest.raises(wirt.ConfigError, match="give devices="):
        vm.fork()
    with pytest.raises(wirt.ConfigError, match="this machine's own"):
        vm.fork(devices=lambda _, old: old)
    with pytest.raises(wirt.SnapshotError, match="called 'other'"):
        vm.fork(devices=lambda _, __: Other())


def test_who_refuses_its_state(vm: wirt.Machine, tmp_path: Path) -> None:
    vm.snapshot(tmp_path / "s")
    with pytest.raises(wirt.SnapshotError, match=r"device counter: load.* ValueError: a count from another world"):
        wirt.Machine.restore(tmp_path / "s", devices=[Picky()])
    with pytest.raises(wirt.SnapshotError, match="another world"):
        vm.fork(devices=lambda _, __: Picky())
    here, there = socket.socketpair()
    errors: list[BaseException] = []
    with here, there:

        def receive() -> None:
            try:
                wirt.Machine.receive(there.fileno(), devices=[Picky()], timeout=300)
            except wirt.MigrationError as error:
                errors.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        with pytest.raises(wirt.MigrationError, match="another world"):
            vm.migrate(here.fileno())
        thread.join()
    assert len(errors) == 1
    vm.run_for(1)  # it goes on here


@pytest.mark.parametrize("kind", [OnlyRead, OnlySave])
def test_who_cannot_be_saved_keeps_its_machine_here(kind: type[wirt.Device], tmp_path: Path) -> None:
    here, there = socket.socketpair()
    with wirt.Machine(firmware=READER, memory="16M") as machine, here, there:
        machine.map_device(BASE, 0x1000, kind())
        machine.step(3)
        assert machine.state_hash() == machine.state_hash()
        for copy in (
            lambda: machine.snapshot(tmp_path / "s"),
            lambda: machine.fork(devices=lambda _, __: Counter()),
            lambda: machine.migrate(here.fileno()),
        ):
            with pytest.raises(wirt.StateError, match=kind.__name__):
                copy()
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("wrong", ["text", None, bytearray(8), bytes((64 << 20) + 1)])
def test_what_is_no_state(wrong: object, tmp_path: Path) -> None:
    class Wrong(Counter):
        def save(self) -> bytes:
            return wrong  # type: ignore[return-value]

    with wirt.Machine(firmware=READER, memory="16M") as machine:
        machine.map_device(BASE, 0x1000, Wrong())
        machine.step(3)
        with pytest.raises((TypeError, ValueError), match="save"):
            machine.snapshot(tmp_path / "s")
        machine.step(3)


def test_a_device_that_asks_its_machine_for_more_is_refused(tmp_path: Path) -> None:
    class Recursive(Counter):
        def attached(self, machine: wirt.Machine) -> None:
            super().attached(machine)
            self.machine = machine

        def save(self) -> bytes:
            return self.machine.state_hash().encode()

    with wirt.Machine(firmware=READER, memory="16M") as machine:
        machine.map_device(BASE, 0x1000, Recursive())
        machine.step(3)
        with pytest.raises(wirt.StateError, match="cannot wait"):
            machine.snapshot(tmp_path / "s")


def test_descriptions_with_odd_devices_are_refused(vm: wirt.Machine) -> None:
    from wirt.description import describe, parse

    good = describe(vm)
    assert parse(good) == good
    for devices in ({}, [{}], [{"name": "x", "base": -1, "size": 1}], [{"name": 1, "base": 1, "size": 1}], [good] * 65):
        with pytest.raises(wirt.SnapshotError):
            parse({**good, "devices": devices})


def test_state_of_another_size_of_machine_is_no_concern_of_it(vm: wirt.Machine) -> None:
    """Two of one name are told apart by their order."""
    with wirt.Machine(firmware=READER, memory="16M") as machine:
        devices = [Counter(), Counter()]
        for number, device in enumerate(devices):
            machine.map_device(BASE + number * 0x1000, 0x1000, device)
        machine.step(3)
        devices[1].count = 77
        fresh = iter([Counter(), Counter()])
        (clone,) = machine.fork(devices=lambda _, __: next(fresh))
        with clone:
            assert [mapped.device.count for mapped in clone._mapped] == [1, 77]  # type: ignore[attr-defined]
    assert _core.MachineState.closed is machine._core.state
