"""Whatever breaks: exactly one machine goes on."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import wirt
from support.echo_guest import answers, echoing
from support.fault_proxy import Fault, FaultProxy
from wirt.migration import source as source_module
from wirt.migration.destination import Reception
from wirt.migration.postcopy import Puller, Pusher
from wirt.migration.transport import Channel, Kind

PEER = Path(__file__).with_name("peer.py")


@pytest.fixture
def proxy(tmp_path):
    proxies = []

    def start(target, fault):
        proxies.append(FaultProxy(f"{tmp_path}/proxy{len(proxies)}", target[5:], fault))
        return proxies[-1]

    yield start
    for each in proxies:
        each.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """However busy the host is, no side takes the other for gone."""
    for module in ("source", "destination"):
        monkeypatch.setattr(f"wirt.migration.{module}._STALL_S", 600.0)
    monkeypatch.setattr(source_module, "_PATIENCE_S", 600.0)


def migrate(vm, proxy, **options):
    """Migrates through the proxy; once that withholds something, the source has waited long enough."""

    over = threading.Event()

    def hurry():
        proxy.struck.wait()
        while not over.wait(0.05):
            for channel in list(vm.migration._channels):
                channel.set_stall(0.2)

    if proxy.fault.how in ("stall", "drop"):
        threading.Thread(target=hurry, daemon=True).start()
    try:
        return vm.migrate(f"unix:{proxy.path}", **options)
    finally:
        over.set()


def exactly_one_runs(vm, there):
    """Which one."""
    there.join(600)
    moved = there.machine
    runs = [machine for machine in (vm, moved) if machine is not None and machine.state == "running"]
    assert len(runs) == 1, (vm.state, vm.migration.state, there.error, moved)
    answers(runs[0])
    return runs[0]


BEFORE = [
    Fault(Kind.hello, "cut", "after"),
    Fault(Kind.machine, "cut", "half"),
    Fault(Kind.machine, "corrupt", bit=200),
    Fault(Kind.ready, "cut", to_destination=False),
    Fault(Kind.ready, "stall", to_destination=False),
    Fault(Kind.pages, "cut", "half"),
    Fault(Kind.pages, "corrupt", bit=99999),
    Fault(Kind.pages, "corrupt", bit=1),
    Fault(Kind.pages, "repeat"),
    Fault(Kind.pages, "drop"),
    Fault(Kind.pages, "huge"),
    Fault(Kind.state, "cut", "half"),
    Fault(Kind.state, "drop"),
    Fault(Kind.state, "repeat"),
    Fault(Kind.commit, "cut"),
    Fault(Kind.commit, "cut", "half"),
    Fault(Kind.commit, "corrupt", bit=500),
    Fault(Kind.commit, "stall"),
    Fault(Kind.commit, "stall", "half"),
]


@pytest.mark.parametrize("fault", BEFORE, ids=lambda f: f"{f.how}-{f.when}-{Kind(f.kind).name}")
def test_what_breaks_before_the_destination_has_all_leaves_it_here(build, receive, proxy, fault):
    vm = echoing(build)
    there = receive()
    way = proxy(there.address, fault)
    with pytest.raises(wirt.MigrationError):
        migrate(vm, way)
    assert vm.migration.state == "failed"
    assert exactly_one_runs(vm, there) is vm
    assert isinstance(there.error, wirt.MigrationError)
    # And it can go when the way is free.
    again = receive()
    vm.migrate(again.address)
    answers(again.result())


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.commit, "cut", "after"),
        Fault(Kind.acknowledged, "cut", to_destination=False),
        Fault(Kind.acknowledged, "cut", "half", to_destination=False),
        Fault(Kind.acknowledged, "corrupt", to_destination=False, bit=100),
        Fault(Kind.acknowledged, "stall", to_destination=False),
        Fault(Kind.acknowledged, "drop", to_destination=False),
        Fault(Kind.confirmed, "cut"),
    ],
    ids=lambda f: f"{f.how}-{f.when}-{Kind(f.kind).name}",
)
def test_what_breaks_afterwards_does_not_bring_it_back(build, receive, proxy, fault):
    vm = echoing(build)
    there = receive()
    way = proxy(there.address, fault)
    report = migrate(vm, way)
    assert vm.migration.state == "completed"
    assert exactly_one_runs(vm, there) is there.machine
    assert report.downtime > 0


def test_a_source_that_never_said_what_it_wants_takes_nobodys_place(build, receive, proxy):
    vm = echoing(build)
    there = receive()
    way = proxy(there.address, Fault(Kind.hello, "cut"))
    with pytest.raises(wirt.MigrationError):
        migrate(vm, way)
    assert vm.state == "running"
    vm.migrate(there.address)
    assert exactly_one_runs(vm, there) is there.machine


def test_a_doubt_that_lasts_is_the_users_to_end(build, receive, proxy, monkeypatch):
    vm = echoing(build)
    there = receive()
    way = proxy(there.address, Fault(Kind.acknowledged, "cut", to_destination=False, for_ever=True))
    monkeypatch.setattr(source_module, "_PATIENCE_S", 0.5)
    with pytest.raises(wirt.MigrationInDoubt):
        migrate(vm, way)
    assert vm.state == "paused"
    assert vm.migration.state == "in doubt"
    for forbidden in (vm.resume, vm.step, lambda: vm.migrate(there.address)):
        with pytest.raises(wirt.StateError):
            forbidden()
    assert vm.migration.resolve() == "in doubt"
    assert vm.migration.resolve(here=False) == "completed"
    assert vm.state == "closed"
    answers(there.result())
    with pytest.raises(wirt.StateError):
        vm.migration.resolve(here=True)


def test_the_user_may_say_that_it_is_not_there(build, receive, proxy, monkeypatch):
    vm = echoing(build)
    there = receive()
    way = proxy(there.address, Fault(Kind.commit, "stall", for_ever=True))
    monkeypatch.setattr(source_module, "_PATIENCE_S", 0.5)
    with pytest.raises(wirt.MigrationInDoubt):
        migrate(vm, way)
    assert vm.migration.resolve(here=True) == "failed"
    assert exactly_one_runs(vm, there) is vm


@pytest.mark.parametrize("mode", ["postcopy", "hybrid"])
@pytest.mark.parametrize("how", ["cut", "corrupt", "drop"])
def test_post_copy_goes_on_after_its_connection_broke(build, receive, proxy, mode, how):
    vm = build("memtest memtest.mb=24 echo", memory="96M")
    vm.start()
    while vm.instructions < 20_000_000:
        vm.wait(0.01)
    there = receive()
    # Of hybrid, the first pass has some batches of its own.
    fault = Fault(Kind.pages, how, skip=2 if mode == "postcopy" else 60, bit=777)
    way = proxy(there.address, fault)
    migrate(vm, way, mode=mode)
    moved = there.result()
    answers(moved)
    assert "0 wrong" in vm.console.output + moved.console.output
    assert moved.migration.missing_pages == 0
    assert vm.state == "closed"


def test_a_full_disk_at_the_destination(build, receive, tmp_path):
    vm = echoing(build, disks=[wirt.Disk.memory("1M")])
    vm.disks[0].write(0, b"content")
    vm.disks[0].write(1 << 19, b"more")
    # A disk on a file that may not grow: what is written to it fails as on a full file system.
    path = tmp_path / "disk"
    path.write_bytes(b"")
    os.truncate(path, 1 << 20)
    there = receive(disks=[wirt.Disk(path)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(wirt.MigrationError, match=r"refused: .*File too large"):
            vm.migrate(there.address, storage=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert exactly_one_runs(vm, there) is vm
    assert vm.disks[0].read(0, 7) == b"content"


@pytest.mark.parametrize("seed", range(6))
def test_random_instants(build, receive, proxy, seed):
    random_ = random.Random(seed)
    fault = Fault(
        0,
        random_.choice(["cut", "stall", "corrupt", "repeat", "drop", "huge"]),
        random_.choice(["before", "half", "after"]),
        to_destination=random_.random() < 0.75,
        skip=random_.randrange(14),
        bit=random_.randrange(1 << 20),
    )
    vm = echoing(build)
    there = receive()
    way = proxy(there.address, fault)
    try:
        migrate(vm, way)
    except wirt.MigrationInDoubt:
        raise
    except wirt.MigrationError:
        pass
    exactly_one_runs(vm, there)


@pytest.mark.parametrize("seed", range(3))
def test_the_destination_is_killed(build, tmp_path, seed):
    path = f"{tmp_path}/receiver"
    peer = subprocess.Popen([sys.executable, PEER, "receive", path], stdout=subprocess.PIPE, text=True)
    try:
        assert peer.stdout.readline() == "listening\n"
        vm = echoing(build)
        instants = random.Random(seed)
        begun = []

        def kill(progress):
            if not begun and progress.remaining_pages < instants.random() * 4000:
                begun.append(progress)
                peer.send_signal(signal.SIGKILL)

        try:
            vm.migrate(f"unix:{path}", bandwidth=20e6, on_progress=kill)
        except wirt.MigrationError:
            assert vm.migration.state == "failed"
            assert vm.state == "running"
            answers(vm)
        else:
            assert vm.state == "closed"
    finally:
        peer.kill()
        peer.wait()


@pytest.mark.parametrize("seed", range(3))
def test_the_source_is_killed(receive, seed):
    there = receive(timeout=20)  # it may be killed before it came
    peer = subprocess.Popen([sys.executable, PEER, "migrate", there.address[5:]], stdout=subprocess.PIPE, text=True)
    try:
        assert peer.stdout.readline() == "migrating\n"
        time.sleep(random.Random(seed).random() * 0.3)
    finally:
        peer.kill()
        peer.wait()
    there.join(600)
    # It has the whole of it, or nothing.
    if there.machine is None:
        assert isinstance(there.error, wirt.MigrationError)
    else:
        answers(there.machine)


def test_what_has_arrived_counts_when_the_source_asks(build, receive, proxy, monkeypatch):
    """The destination has `commit`, and has not read it yet, when the connection breaks and the source asks."""
    asked = threading.Event()
    take, answer = Reception._receive, Reception._answer

    def ask(self, channel, migration_id):
        asked.set()
        answer(self, channel, migration_id)

    def wait_for_the_question(self, channel):
        receive_frame = channel.receive

        def receive():
            frame = receive_frame()
            if frame[0] is Kind.end:
                assert asked.wait(600)
            return frame

        monkeypatch.setattr(channel, "receive", receive)
        return take(self, channel)

    monkeypatch.setattr(Reception, "_answer", ask)
    monkeypatch.setattr(Reception, "_receive", wait_for_the_question)
    vm = echoing(build)
    there = receive()
    migrate(vm, proxy(there.address, Fault(Kind.commit, "cut", "after")), downtime=600)
    assert exactly_one_runs(vm, there) is there.machine


def test_the_last_page_comes_as_the_answer_to_a_fault(build, receive, monkeypatch):
    """The source has pushed all, and the destination still waits for a page that was asked for."""
    answered, pushed_all = threading.Event(), threading.Event()
    late = []
    push, bring, send = Pusher.run, Puller._bring, Channel.send

    def answers_faults():
        return threading.current_thread().name == "wirt-post-copy"

    class Gate:
        """The pusher's lock: nothing is taken to be pushed before a fault was answered."""

        def __init__(self, lock):
            self._lock = lock

        def __enter__(self):
            assert answers_faults() or answered.wait(600)
            self._lock.acquire()

        def __exit__(self, *_):
            self._lock.release()

    def push_behind_the_gate(self, *channels):
        self._lock = Gate(self._lock)
        push(self, *channels)

    def note(self, kind, *payload, **options):
        size = send(self, kind, *payload, **options)
        if answers_faults():
            answered.set()
        if kind is Kind.sent:
            pushed_all.set()
        return size

    def bring_late(self, channel, end=None):
        if end is None:
            assert pushed_all.wait(600)
            late.append(self.arrivals.missing)
        return bring(self, channel, end)

    monkeypatch.setattr(Pusher, "run", push_behind_the_gate)
    monkeypatch.setattr(Channel, "send", note)
    monkeypatch.setattr(Puller, "_bring", bring_late)
    vm = echoing(build)
    there = receive()
    vm.migrate(there.address, mode="postcopy")
    moved = there.result()
    assert late[0] > 0
    assert moved.migration.missing_pages == 0
    answers(moved)
