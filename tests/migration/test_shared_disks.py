"""Files that both hosts see: one machine has them, and then the other, whatever breaks."""

from __future__ import annotations

import re

import pytest

import wirt
from support.fault_proxy import Fault, FaultProxy
from wirt.migration import source as source_module
from wirt.migration.destination import Reception
from wirt.migration.transport import Kind

NUMBER = re.compile(r"journal (\d+)\r?\n")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "shared.img"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    for module in ("source", "destination"):
        monkeypatch.setattr(f"wirt.migration.{module}._STALL_S", 600.0)
    monkeypatch.setattr(source_module, "_PATIENCE_S", 600.0)


@pytest.fixture
def proxy(tmp_path):
    proxies = []

    def start(target, fault):
        proxies.append(FaultProxy(f"{tmp_path}/proxy{len(proxies)}", target[5:], fault))
        return f"unix:{proxies[-1].path}"

    yield start
    for each in proxies:
        each.close()


def journal(build, image):
    vm = build("journal journal.sectors=64 journal.mb=1", disks=[wirt.Disk(image)])
    vm.start()
    writes_on(vm)
    return vm


def writes_on(vm):
    """The guest reads what it wrote a lap ago, and writes: more than one lap of it."""
    first = int(vm.console.expect(NUMBER, timeout=600).groups[0])
    vm.console.expect(f"journal {first + 80}\n", timeout=600)


def numbers(*machines):
    return [int(number) for vm in machines for number in NUMBER.findall(vm.console.output.replace("\r", ""))]


def refuses_others(image):
    for options in ({}, {"read_only": True}):
        with pytest.raises(wirt.StorageError, match="another machine"):
            wirt.Disk(image, **options)


@pytest.mark.parametrize("mode", ["precopy", "postcopy"])
def test_it_goes_from_host_to_host(build, receive, image, mode):
    vm = journal(build, image)
    passed = [vm]
    for _ in range(3):
        there = receive(disks=[wirt.Disk(image, incoming=True)])
        vm.migrate(there.address, mode=mode)
        vm = there.result()
        passed.append(vm)
        refuses_others(image)
        writes_on(vm)
    said = numbers(*passed)
    assert said == list(range(1, said[-1] + 1))
    vm.close()
    # It is an ordinary disk again.
    with wirt.Machine(firmware=b"\x6f\0\0\0", disks=[vm.disks[0]]):
        refuses_others(image)


def test_another_file_is_refused_before_anything_happens(build, receive, image, tmp_path):
    other = tmp_path / "other.img"
    other.write_bytes(bytes(1 << 20))
    vm = journal(build, image)
    for open_disk, storage, why in (
        (lambda: wirt.Disk(other, incoming=True), False, "nobody has it open"),
        (lambda: wirt.Disk(other), False, "incoming=True"),
        (lambda: wirt.Disk(image, incoming=True), True, "is incoming"),
    ):
        disk = open_disk()
        there = receive(disks=[disk])
        with pytest.raises(wirt.MigrationError, match=why):
            vm.migrate(there.address, storage=storage)
        disk.close()
        assert vm.state == "running"
        refuses_others(image)
    writes_on(vm)


@pytest.mark.parametrize("when", ["before", "half"])
def test_a_hand_over_that_fails_leaves_it_here(build, receive, proxy, image, when):
    vm = journal(build, image)
    there = receive(disks=[wirt.Disk(image, incoming=True)])
    with pytest.raises(wirt.MigrationError):
        vm.migrate(proxy(there.address, Fault(Kind.commit, "cut", when)))
    assert vm.state == "running"
    refuses_others(image)
    writes_on(vm)
    again = receive(disks=[wirt.Disk(image, incoming=True)])
    vm.migrate(again.address)
    moved = again.result()
    writes_on(moved)
    said = numbers(vm, moved)
    assert said == list(range(1, said[-1] + 1))


def test_a_destination_that_cannot_run_it_gives_it_back(build, receive, image, monkeypatch):
    load = Reception._load

    def fail(self, payload):
        load(self, payload.replace(b'"running":true', b'"running":false'))
        assert self._taken
        raise wirt.MigrationError("this host cannot after all")

    monkeypatch.setattr(Reception, "_load", fail)
    vm = journal(build, image)
    there = receive(disks=[wirt.Disk(image, incoming=True)])
    with pytest.raises(wirt.MigrationError, match="cannot after all"):
        vm.migrate(there.address)
    with pytest.raises(wirt.MigrationError):
        there.result()
    assert vm.state == "running"
    refuses_others(image)
    writes_on(vm)


def test_somebody_who_took_it_is_an_error_at_the_destination(build, receive, image, monkeypatch):
    """The destination hears `commit`, and cannot have the file."""
    wait = Reception._await_batches
    thieves = []

    def steal(self, sent, state):
        wait(self, sent, state)
        if state == "loading":
            thieves.append(wirt.Disk(image, incoming=True))
            thieves[0]._take()

    monkeypatch.setattr(Reception, "_await_batches", steal)
    monkeypatch.setattr("wirt.migration.disks._RELEASE_S", 0.2)
    vm = journal(build, image)
    there = receive(disks=[wirt.Disk(image, incoming=True)])
    with pytest.raises(wirt.MigrationInDoubt, match="somebody has its disk"):
        vm.migrate(there.address)
    # It runs nowhere until that is mended.
    assert vm.state == "paused"
    assert vm.migration.state == "in doubt"
    with pytest.raises(wirt.StateError):
        vm.resume()
    with pytest.raises(wirt.MigrationInDoubt):
        vm.migration.resolve(here=True)
    thieves[0].close()
    assert vm.migration.resolve() == "failed"
    assert vm.state == "running"
    writes_on(vm)


def test_a_wrong_answer_to_a_doubt_does_not_make_two(build, receive, proxy, image, monkeypatch):
    vm = journal(build, image)
    there = receive(disks=[wirt.Disk(image, incoming=True)])
    monkeypatch.setattr(source_module, "_PATIENCE_S", 0.5)
    monkeypatch.setattr("wirt.migration.disks._RELEASE_S", 0.2)
    with pytest.raises(wirt.MigrationInDoubt):
        vm.migrate(proxy(there.address, Fault(Kind.acknowledged, "cut", to_destination=False, for_ever=True)))
    moved = there.result()
    with pytest.raises(wirt.MigrationInDoubt):
        vm.migration.resolve(here=True)
    assert vm.migration.state == "in doubt"
    assert vm.migration.resolve(here=False) == "completed"
    writes_on(moved)
    said = numbers(vm, moved)
    assert said == list(range(1, said[-1] + 1))
