"""Two Debian guests on one switch: they ping each other, then send each other data that must arrive intact.

    python benchmarks/acceptance/network.py [--size MIB] [--cpus N ...]

The data is random, made by the host on the sender's disk, and compared by the host on the receiver's disk: virtio-blk,
TCP over virtio-net, and the switch all have to be right.
"""

from __future__ import annotations

import argparse
import os
import sys

import wirt
from guests import KERNEL_WARNINGS, PROMPT, busybox_machine, digest, report, stopwatch
from wirt.debian.shell import Shell

_MIB = 1 << 20
_ADDRESSES = ("10.0.0.1", "10.0.0.2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="to send each way [1024]")
    parser.add_argument("--cpus", type=int, nargs="+", default=[1, 2], metavar="N", help="harts a guest [1 2]")
    options = parser.parse_args()
    intact = [run(options.size, cpus) for cpus in options.cpus]
    sys.exit(0 if all(intact) else 1)


def run(size: int, cpus: int) -> bool:
    """One pair of guests; whether everything arrived intact and no kernel warned."""
    lan = wirt.Switch()
    disks = [wirt.Disk.memory(f"{size}M") for _ in _ADDRESSES]
    machines = [busybox_machine(cpus=cpus, disks=[disk], nets=[lan.port()]) for disk in disks]
    prefix = f"{cpus} hart(s):"
    with machines[0], machines[1]:
        shells = []
        for machine in machines:
            machine.start()
        for machine, address in zip(machines, _ADDRESSES, strict=True):
            machine.console.expect(PROMPT, timeout=300)
            shell = Shell(machine.console)
            shell.check(f"ip addr add {address}/24 dev eth0; ip link set eth0 up")
            shells.append(shell)
        for shell, other in zip(shells, reversed(_ADDRESSES), strict=True):
            statistics = shell.check(f"ping -c 20 -i 0.2 -q {other}", timeout=60).splitlines()[-1]
            report(f"{prefix} ping {other}", statistics.removeprefix("round-trip "))

        intact = True
        for sender, receiver in ((0, 1), (1, 0)):
            way = f"{prefix} {_ADDRESSES[sender]} to {_ADDRESSES[receiver]},"
            seconds = transfer(
                shells, sender, receiver, f"dd if=/dev/zero bs=1M count={size}", "dd of=/dev/null bs=1M iflag=fullblock"
            )
            report(f"{way} {size} MiB memory to memory", f"{size / seconds:.1f} MiB/s")

            for offset in range(size):
                disks[sender].write(offset * _MIB, os.urandom(_MIB))
            # What the guest knows of its disk is older than what the host has just written.
            shells[sender].check("echo 3 >/proc/sys/vm/drop_caches")
            seconds = transfer(
                shells, sender, receiver, "dd if=/dev/vda bs=1M", "dd of=/dev/vda bs=1M iflag=fullblock conv=fsync"
            )
            same = digest(disks[0], size * _MIB) == digest(disks[1], size * _MIB)
            intact = intact and same
            report(
                f"{way} {size} MiB disk to disk", f"{size / seconds:.1f} MiB/s, {'intact' if same else 'NOT INTACT'}"
            )

        for shell, address in zip(shells, _ADDRESSES, strict=True):
            counters = ("rx_errors", "tx_errors", "rx_dropped", "tx_dropped")
            errors = shell.check("cat " + " ".join(f"/sys/class/net/eth0/statistics/{name}" for name in counters))
            warnings = shell.check(KERNEL_WARNINGS)
            report(f"{prefix} {address}: errors, drops; kernel warnings", f"{errors.split()}; {warnings or 'none'}")
            intact = intact and not warnings
    return intact


def transfer(shells: list[Shell], sender: int, receiver: int, source: str, sink: str) -> float:
    """Sends a program's output into another one's input, over TCP; returns the seconds it took.

    ``nc -e`` gives the socket itself to the program, so that dd moves a megabyte per system call.
    """
    shells[receiver].check(f"(nc -l -p 5000 -e {sink}; echo $? >/tmp/status) >/dev/null 2>&1 &")
    # The port is open when the kernel lists it as listening (state 0A) there.
    shells[receiver].check("while ! grep -q ':1388 .* 0A ' /proc/net/tcp6 /proc/net/tcp; do usleep 100000; done")
    with stopwatch() as elapsed:
        shells[sender].check(f"nc {_ADDRESSES[receiver]} 5000 -e {source} 2>/dev/null", timeout=3000)
        shells[receiver].check("while [ ! -s /tmp/status ]; do usleep 20000; done", timeout=3000)
    shells[receiver].check("[ $(cat /tmp/status) = 0 ]; s=$?; rm /tmp/status; [ $s = 0 ]")
    return elapsed[0]


if __name__ == "__main__":
    main()
