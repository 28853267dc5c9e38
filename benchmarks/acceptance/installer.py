"""Debian's network installer reaches its first screen, the choice of a language, on the serial port.

python benchmarks/acceptance/installer.py [--cpus N] [--rounds N]
"""

from __future__ import annotations

import argparse
import time

import wirt
from guests import pulled, report, stopwatch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="harts [1]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="boots [3]")
    options = parser.parse_args()
    guest = pulled("debian-installer")
    lan = wirt.Switch()
    for _ in range(options.rounds):
        disks = [wirt.Disk.memory("2G"), wirt.Disk.memory("64M", bus="ahci")]
        with wirt.Machine(
            guest.kernel, initrd=guest.initrd, cmdline=guest.cmdline, memory="1G", cpus=options.cpus, disks=disks,
            nets=[lan.port()],
        ) as machine, stopwatch() as elapsed:  # fmt: skip
            spent = time.process_time()
            machine.start()
            machine.console.expect("Select a language", timeout=900)
            spent = time.process_time() - spent
            billions = machine.instructions / 1e9
        report(
            "debian-installer to its first screen",
            f"{elapsed[0]:.1f} s, CPU {spent:.1f} s, {billions:.2f} G instructions",
        )


if __name__ == "__main__":
    main()
