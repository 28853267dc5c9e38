"""State is complete: copies of a Debian guest made at random instants of its boot go the way that it goes.

    python benchmarks/acceptance/exact_state.py --instants 1000

At each instant the machine's state and memory make another machine: its state hash has to be the same, and again
after a million more instructions of both. Over interrupt controllers, harts and buses; needs ``wirt pull debian``.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import wirt
from guests import pulled
from support.copies import copy_of, first_difference
from wirt.debian import Guest

AHEAD = 1_000_000

BOARDS: dict[str, dict[str, object]] = {
    "1 hart, PLIC, virtio-mmio": {},
    "4 harts, AIA, virtio-pci": {"cpus": 4, "interrupts": "aia", "virtio": "pci"},
    "2 harts, APLIC, packed rings, IOMMU": {"cpus": 2, "interrupts": "aplic", "packed": True, "iommu": "platform"},
    "1 hart, AIA, everything": {"interrupts": "aia", "virtio": "pci", "display": "bochs", "input_devices": True},
}


def build(guest: Guest, options: dict[str, object]) -> wirt.Machine:
    bus = "virtio-pci" if options.get("virtio") == "pci" else "virtio-mmio"
    disks = [wirt.Disk.memory("8M", bus), wirt.Disk.memory("8M", "ahci")]  # type: ignore[arg-type]
    lan = wirt.Switch()
    nets = [lan.port(mac="02:00:00:00:00:01"), lan.port(mac="02:00:00:00:00:02", model="e1000e")]
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


def copy_with_nets(vm: wirt.Machine) -> wirt.Machine:
    lan = wirt.Switch()
    ports = [lan.port(mac=net.mac, model=net.model) for net in vm._nets]
    return copy_of(vm, ports)


def rounds(guest: Guest, options: dict[str, object], instants: int, total: int, seed: int) -> int:
    chance = random.Random(seed)
    stops = sorted(chance.randrange(1, total) for _ in range(instants))
    wrong = 0
    with build(guest, options) as vm:
        for number, stop in enumerate(stops):
            if stop > vm.instructions:
                vm.run_for(stop - vm.instructions)
            with copy_with_nets(vm) as copy:
                if copy.state_hash() != vm.state_hash():
                    wrong += 1
                    print(f"  at {vm.instructions}: another state: {first_difference(vm, copy)}")
                vm.run_for(AHEAD)
                copy.run_for(AHEAD)
                if copy.state_hash() != vm.state_hash():
                    wrong += 1
                    print(f"  at {vm.instructions}: another way: {first_difference(vm, copy)}")
            if number % 25 == 24:
                print(f"  {number + 1} instants, {vm.instructions} instructions, {wrong} wrong", flush=True)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instants", type=int, default=100, help="in all, over the boards (default: %(default)s)")
    parser.add_argument("--total", type=int, default=800_000_000, help="instructions of a boot (default: %(default)s)")
    parser.add_argument("--board", choices=BOARDS, help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    guest = pulled()
    boards = [arguments.board] if arguments.board else list(BOARDS)
    wrong = 0
    for board in boards:
        begin = time.monotonic()
        print(board, flush=True)
        each = arguments.instants // len(boards)
        wrong += rounds(guest, BOARDS[board], each, arguments.total, arguments.seed)
        print(f"  {each} instants in {time.monotonic() - begin:.0f} s", flush=True)
    print("all the same" if wrong == 0 else f"{wrong} differ")
    raise SystemExit(wrong != 0)


if __name__ == "__main__":
    main()
