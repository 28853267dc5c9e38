"""State is complete: whatever a Debian guest is copied to at random instants of its boot goes the way that it goes.

    python benchmarks/acceptance/exact_state.py --instants 1000 [--ways restore fork migration]

At each instant the machine is forked, restored from a snapshot, and migrated, after which the migrated one is the
machine: the state hash of each has to be the one that the machine had, and again after a million more instructions of
all of them. Over interrupt controllers, harts and buses; needs ``wirt pull debian``.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import wirt
from guests import pulled
from support.copies import first_difference
from wirt.debian import Guest

AHEAD = 1_000_000
WAYS = ("fork", "restore", "migration")

BOARDS: dict[str, dict[str, object]] = {
    "1 hart, PLIC, virtio-mmio": {},
    "4 harts, AIA, virtio-pci": {"cpus": 4, "interrupts": "aia", "virtio": "pci"},
    "2 harts, APLIC, packed rings, IOMMU": {"cpus": 2, "interrupts": "aplic", "packed": True, "iommu": "platform"},
    "1 hart, AIA, everything": {"interrupts": "aia", "virtio": "pci", "display": "bochs", "input_devices": True},
}


def build(guest: Guest, options: dict[str, object]) -> wirt.Machine:
    bus = "virtio-pci" if options.get("virtio") == "pci" else "virtio-mmio"
    disks = [wirt.Disk.memory("8M", bus), wirt.Disk.memory("8M", "ahci")]  # type: ignore[arg-type]
    nets = [
        wirt.Switch().port(mac="02:00:00:00:00:01"),
        wirt.Switch().port(mac="02:00:00:00:00:02", model="e1000e"),
    ]
    return wirt.Machine(
        guest.kernel,
        initrd=guest.initrd,
        cmdline="earlycon=sbi console=ttyS0",
        memory="256M",
        disks=disks,
        nets=nets,
        deterministic=True,
        seed=1,
        **options,  # type: ignore[arg-type]
    )


def ports(vm: wirt.Machine) -> list[wirt.Port]:
    # Each on its own: a migrated machine announces its NICs, which on one switch would be input for the other one.
    return [wirt.Switch().port(mac=net.mac, model=net.model) for net in vm._nets]


def forked(vm: wirt.Machine) -> wirt.Machine:
    new = {port.mac: port for port in ports(vm)}
    (clone,) = vm.fork(nets=lambda _, old: new[old.mac], identity=False)
    return clone


def restored(vm: wirt.Machine, place: Path) -> wirt.Machine:
    vm.snapshot(place, disks="include")
    return wirt.Machine.restore(place, nets=ports(vm))


def migrated(vm: wirt.Machine) -> wirt.Machine:
    """Where it is afterwards; `vm` is closed.

    A host that stands still for a while breaks a migration, and the machine goes on where it was: once more, then.
    """
    for tries_left in reversed(range(5)):
        here, there = socket.socketpair()
        arrived: list[wirt.Machine] = []
        with here, there:
            thread = threading.Thread(target=receive, args=(vm, there.fileno(), arrived))
            thread.start()
            try:
                vm.migrate(here.fileno(), storage=True, downtime=60, compress="never")
            except wirt.MigrationError as error:
                if tries_left == 0 or vm.state == "closed":
                    raise
                print(f"  once more: {error}", flush=True)
                continue
            finally:
                thread.join()
        break
    return arrived[0]


def receive(vm: wirt.Machine, fd: int, arrived: list[wirt.Machine]) -> None:
    disks = [wirt.Disk.memory(disk.size, disk.bus) for disk in vm.disks]
    with contextlib.suppress(wirt.MigrationError):  # the other side says so
        arrived.append(wirt.Machine.receive(fd, disks=disks, nets=ports(vm), timeout=900))


@contextlib.contextmanager
def copies(vm: wirt.Machine, ways: list[str], place: Path) -> Iterator[dict[str, wirt.Machine]]:
    made: dict[str, wirt.Machine] = {}
    try:
        for way in ways:
            made[way] = forked(vm) if way == "fork" else restored(vm, place)
        yield made
    finally:
        for copy in made.values():
            copy.close()


def differences(vm: wirt.Machine, made: dict[str, wirt.Machine], expected: str, what: str) -> int:
    machines = {"machine": vm, **made}
    hashes = {way: machine.state_hash() for way, machine in machines.items()}
    for way in machines:
        if hashes[way] != expected:
            other = next((machines[good] for good in machines if hashes[good] == expected), vm)
            print(f"  {way} at {vm.instructions}: another {what}: {first_difference(other, machines[way])}")
    return sum(found != expected for found in hashes.values())


def rounds(guest: Guest, options: dict[str, object], arguments: argparse.Namespace, place: Path, each: int) -> int:
    chance = random.Random(arguments.seed)
    stops = sorted(chance.randrange(1, arguments.total) for _ in range(each))
    kept = [way for way in arguments.ways if way != "migration"]
    wrong = 0
    vm = build(guest, options)
    try:
        for number, stop in enumerate(stops):
            if stop > vm.instructions:
                vm.run_for(stop - vm.instructions)
            before = vm.state_hash()
            with copies(vm, kept, place) as made:
                if "migration" in arguments.ways:
                    vm = migrated(vm)
                wrong += differences(vm, made, before, "state")
                for machine in (vm, *made.values()):
                    machine.run_for(AHEAD)
                wrong += differences(vm, made, vm.state_hash(), "way")
            if number % 25 == 24:
                print(f"  {number + 1} instants, {vm.instructions} instructions, {wrong} wrong", flush=True)
    finally:
        vm.close()
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instants", type=int, default=100, help="in all, over the boards (default: %(default)s)")
    parser.add_argument("--total", type=int, default=800_000_000, help="instructions of a boot (default: %(default)s)")
    parser.add_argument("--board", choices=BOARDS, help="only this one")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="to copy [all]")
    parser.add_argument("--scratch", type=Path, help="where snapshots are written; a temporary directory by default")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    guest = pulled()
    boards = [arguments.board] if arguments.board else list(BOARDS)
    wrong = 0
    for board in boards:
        begin = time.monotonic()
        print(board, flush=True)
        each = arguments.instants // len(boards)
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
            wrong += rounds(guest, BOARDS[board], arguments, Path(scratch) / "snapshot", each)
        print(f"  {each} instants in {time.monotonic() - begin:.0f} s", flush=True)
    print("all the same" if wrong == 0 else f"{wrong} differ")
    raise SystemExit(wrong != 0)


if __name__ == "__main__":
    main()
