"""Rounds of migrations that something breaks: never two machines, never none, no disk damaged.

    python benchmarks/acceptance/migration_chaos.py [--rounds 200] [--seed 1]

Each round moves a guest with a disk through a proxy that breaks one frame (cut, stall, corrupt, repeat, drop, an absurd
length), or to a process that is killed, at a random instant. The machine that goes on is asked to answer on its
console, and goes into the next round. A round in which the process was killed that had it begins anew.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import wirt
from support.fault_proxy import Fault, FaultProxy
from wirt.guest_image import guest_image
from wirt.migration import destination, source

_CONTENT = bytes(range(256)) * 4096


def new_machine() -> wirt.Machine:
    disk = wirt.Disk.memory("1M")
    disk.write(0, _CONTENT)
    vm = wirt.Machine(guest_image(), cmdline="echo", memory="64M", disks=[disk])
    vm.start()
    vm.console.expect("echo ready", timeout=120)
    return vm


def check(vm: wirt.Machine, number: int) -> None:
    vm.console.send(f"round {number}\n")
    vm.console.expect(f"echo: round {number}", timeout=120)
    assert vm.disks[0].read(0, len(_CONTENT)) == _CONTENT, "the disk is damaged"


def fault_round(vm: wirt.Machine, folder: Path, chance: random.Random) -> tuple[wirt.Machine, str]:
    """A fault between two machines of this process; the one that goes on."""
    fault = Fault(
        0,
        chance.choice(["cut", "stall", "corrupt", "repeat", "drop", "huge"]),
        chance.choice(["before", "half", "after"]),
        to_destination=chance.random() < 0.75,
        skip=chance.randrange(16),
        bit=chance.randrange(1 << 22),
    )
    mode = chance.choice(["precopy", "precopy", "postcopy", "hybrid"])
    there, path = folder / "there", folder / "proxy"
    received: list[wirt.Machine] = []

    def receive() -> None:
        with contextlib.suppress(wirt.MigrationError):
            received.append(wirt.Machine.receive(f"unix:{there}", disks=[wirt.Disk.memory("1M")], timeout=60))

    thread = threading.Thread(target=receive)
    thread.start()
    while not there.exists():
        thread.join(0.01)
    proxy = FaultProxy(str(path), str(there), fault)
    try:
        vm.migrate(f"unix:{path}", mode=mode, storage=True, streams=1)
    except wirt.MigrationInDoubt:
        raise AssertionError("in doubt, although the way is free again") from None
    except wirt.MigrationError:
        pass
    if vm.state == "running" and not received:
        # A receiver that never heard of a source still waits for one.
        with contextlib.suppress(wirt.MigrationError):
            vm.migrate(f"unix:{there}", storage=True)
    thread.join(120)
    proxy.close()
    running = [machine for machine in (vm, *received) if machine.state == "running"]
    assert len(running) == 1, (fault, mode, vm.state, vm.migration, received)
    for machine in received:
        if machine is not running[0]:
            machine.close()
    return running[0], f"{mode} {fault.how}: {'here' if running[0] is vm else 'there'}"


def kill_round(vm: wirt.Machine, folder: Path, chance: random.Random) -> tuple[wirt.Machine, str]:
    """The destination's process is killed while the machine is on its way."""
    there = folder / "there"
    program = (
        "import sys, wirt; vm = wirt.Machine.receive('unix:' + sys.argv[1], disks=[wirt.Disk.memory('1M')]); vm.wait()"
    )
    peer = subprocess.Popen([sys.executable, "-c", program, str(there)])
    while not there.exists():
        if peer.poll() is not None:
            raise AssertionError("the receiver has ended")
        threading.Event().wait(0.01)
    threshold = chance.random() * 1.2
    timer = threading.Timer(threshold * 0.5, lambda: peer.send_signal(signal.SIGKILL))
    timer.start()
    try:
        vm.migrate(f"unix:{there}", storage=True, bandwidth=8e6)
    except wirt.MigrationError:
        assert vm.state == "running", vm.state
        outcome = "here"
    else:
        # It had the machine; the kill then took both.
        outcome = "gone with the process that had it"
        vm = new_machine()
    timer.cancel()
    peer.kill()
    peer.wait()
    there.unlink(missing_ok=True)
    return vm, f"kill: {outcome}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # A side that does nothing counts as gone sooner than for users.
    source._STALL_S, destination._STALL_S = 3.0, 6.0
    chance = random.Random(options.seed)
    outcomes: collections.Counter[str] = collections.Counter()
    vm = new_machine()
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            one = kill_round if chance.random() < 0.2 else fault_round
            vm, outcome = one(vm, Path(folder), chance)
        check(vm, number)
        outcomes[outcome] += 1
        print(f"{number + 1}: {outcome}", flush=True)
    vm.close()
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:4} {outcome}")
    print(f"{options.rounds} rounds, process {os.getpid()}: one machine went on in each")


main()
