"""A machine moves while it runs: memory, devices, disks and connections are there as they were."""

from __future__ import annotations

import json
import socket
import threading

import pytest

import wirt
from support.echo_guest import echoing


@pytest.mark.parametrize("mode", ["precopy", "postcopy", "hybrid"])
@pytest.mark.parametrize("cpus", [1, 4])
def test_a_guest_goes_on_where_it_was(build, receive, mode, cpus):
    vm = echoing(build, cpus=cpus)
    there = receive()
    report = vm.migrate(there.address, mode=mode)
    assert vm.state == "closed"
    assert vm.migration.state == "completed"
    moved = there.result()
    assert moved.state == "running"
    moved.console.send("are you there\n")
    moved.console.expect("echo: are you there", timeout=600)
    moved.console.send("quit\n")
    assert moved.wait(60)
    assert moved.stop_reason == "poweroff"
    assert report.mode == mode
    assert report.downtime > 0
    assert report.sent_bytes > 0
    assert moved.migration.missing_pages == 0


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("cpus", [1, 4])
def test_a_deterministic_machine_has_the_same_state_and_future(build, receive, streams, cpus):
    vm = build("memtest memtest.mb=8 smp", cpus=cpus, deterministic=True)
    twin = build("memtest memtest.mb=8 smp", cpus=cpus, deterministic=True)
    for machine in (vm, twin):
        machine.run_for(3_000_000)
    assert vm.state_hash() == twin.state_hash()
    there = receive()
    vm.migrate(there.address, streams=streams)
    moved = there.result()
    assert moved.state == "paused"
    assert moved.state_hash() == twin.state_hash()
    for machine in (moved, twin):
        machine.run_for(1_000_000)
    assert moved.state_hash() == twin.state_hash()


@pytest.mark.parametrize("compress", ["always", "never"])
@pytest.mark.parametrize("cpus", [1, 4])
def test_memory_that_is_written_meanwhile_arrives(build, receive, compress, cpus):
    vm = build("memtest memtest.mb=24 smp smp.count=20000 memtest cpu=copy cpu.scale=30", cpus=cpus)
    vm.start()
    there = receive()
    report = vm.migrate(there.address, streams=2, compress=compress)
    moved = there.result()
    assert moved.wait(600)
    output = moved.console.output
    assert "all is well" in output, output
    assert report.rounds >= 2


def test_a_paused_machine_stays_paused(build, receive):
    vm = echoing(build)
    vm.pause()
    before = vm.state_hash()
    there = receive()
    vm.migrate(there.address)
    moved = there.result()
    assert moved.state == "paused"
    assert moved.state_hash() == before


def test_there_and_back_again(build, receive):
    vm = echoing(build)
    for number in range(4):
        there = receive()
        vm.migrate(there.address)
        vm = there.result()
        vm.console.send(f"round {number}\n")
        vm.console.expect(f"echo: round {number}", timeout=600)


def test_a_descriptor_is_a_way(build, receive):
    ours, theirs = socket.socketpair()
    vm = build("echo")
    vm.start()
    with ours, theirs:
        there = receive(theirs.fileno())
        vm.migrate(ours.fileno())
        moved = there.result()
    assert moved.state == "running"


def test_disks_come_along_while_they_are_written(build, receive):
    options = {"bus": "virtio-mmio"}, {"bus": "ahci"}
    vm = build(
        "bench=io bench.only=disk bench.mb=4 bench.ops=400",
        disks=[wirt.Disk.memory("16M", **option) for option in options],
    )
    there_disks = [wirt.Disk.memory("16M", **option) for option in options]
    there_disks[0].write(15 << 20, b"what was here before")
    vm.start()
    vm.console.expect("WIRT-BENCH", timeout=600)
    there = receive(disks=there_disks)
    report = vm.migrate(there.address, storage=True)
    moved = there.result()
    assert moved.wait(600), moved.console.tail
    output = moved.console.output
    assert "all is well" in output, output
    results = [json.loads(line[11:]) for line in output.splitlines() if line.startswith("WIRT-BENCH ")]
    assert all(result["ok"] for result in results)
    assert report.disk_bytes > 0
    assert there_disks[0].read(15 << 20, 4) == bytes(4)


def test_a_disk_that_would_be_left_behind_is_refused(build):
    vm = build("echo", disks=[wirt.Disk.memory("1M")])
    vm.start()
    with pytest.raises(wirt.ConfigError, match="storage=True"):
        vm.migrate("unix:/nowhere")
    assert vm.state == "running"


def test_a_stream_goes_on_when_one_end_moves(build, receive):
    lan = wirt.Switch()
    size = 24 << 20
    taker = build(f"ip=10.0.0.1 netrecv={size} net.linger=1", nets=[lan.port()])
    giver = build(f"ip=10.0.0.2 netsend={size} to=10.0.0.1 net.linger=1", nets=[lan.port()])
    taker.start()
    giver.start()
    listener = lan.endpoint()
    there = receive(nets=[lan.port()])
    giver.migrate(there.address)
    moved = there.result()
    # It is announced a moment after the source knows of it.
    while listener.recv(600)[12:14] != b"\x80\x35":
        pass
    assert moved.wait(600), moved.console.tail
    assert taker.wait(600), taker.console.tail
    results = {}
    for vm in (taker, moved):
        for line in vm.console.output.splitlines():
            if line.startswith("WIRT-NET "):
                result = json.loads(line[9:])
                results[result["name"]] = result
    assert results["receive"]["bytes"] == results["send"]["bytes"] == size
    assert results["receive"]["checksum"] == results["send"]["checksum"]


def test_nobody_resumes_or_changes_a_machine_that_is_on_its_way(build, receive):
    vm = echoing(build, memory="64M")
    there = receive()
    seen = []

    def look(progress):
        if len(seen) == 0:
            with pytest.raises(wirt.StateError):
                vm.migrate(there.address)
            with pytest.raises(wirt.StateError):
                vm.attach(wirt.Disk.memory("1M", bus="ahci"))
        seen.append(progress)

    vm.migrate(there.address, on_progress=look)
    assert seen[-1].phase == "done"
    assert there.result().state == "running"


def test_what_cannot_converge_is_given_up_and_goes_on(build, receive):
    vm = build("cpu=copy cpu.scale=4000")
    vm.start()
    there = receive()
    with pytest.raises(wirt.MigrationError, match="does not converge"):
        vm.migrate(there.address, bandwidth=20e6, downtime=0.0005, compress="never")
    assert vm.state == "running"
    assert vm.migration.state == "failed"
    with pytest.raises(wirt.MigrationError):
        there.result()
    before = vm.instructions
    vm.wait(0.2)
    assert vm.instructions > before


def test_machines_of_one_process_can_race(build, receive):
    moves = []
    for _ in range(3):
        vm = echoing(build)
        there = receive()
        thread = threading.Thread(target=vm.migrate, args=(there.address,))
        thread.start()
        moves.append((thread, there))
    for thread, there in moves:
        thread.join(600)
        moved = there.result()
        moved.console.send("here\n")
        moved.console.expect("echo: here", timeout=600)
