"""What one idle hart costs the host: memory beyond the guest's RAM and what was decoded of its code.

    python benchmarks/bench_idle.py [--cpus 1] [--seconds 5]

A new process imports wirt; from there on its private pages (Linux, /proc/self/smaps) are counted, less those of the
mapping that is the guest's RAM, and less the cache of decoded blocks. Debian's kernel (``wirt pull debian``) is booted
and idles at its shell.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import wirt
from wirt.debian import pull_debian

MEMORY = 256 << 20


def private_bytes() -> tuple[int, int]:
    """Of the process: private resident bytes, without and within mappings as large as the guest's RAM."""
    rest = ram = size = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if match := re.match(r"Size: +(\d+) kB", line):
            size = int(match[1]) << 10
        elif match := re.match(r"Private_(?:Clean|Dirty): +(\d+) kB", line):
            if size >= MEMORY:
                ram += int(match[1]) << 10
            else:
                rest += int(match[1]) << 10
    return rest, ram


def measure(cpus: int, seconds: float) -> dict[str, float]:
    """Bytes by what they are."""
    guest = pull_debian()
    before, _ = private_bytes()
    with wirt.Machine(
        guest.kernel, initrd=guest.initrd, cmdline="earlycon=sbi console=ttyS0 loglevel=4", memory=MEMORY, cpus=cpus
    ) as vm:
        vm.start()
        vm.console.expect("/ # ", timeout=600)
        time.sleep(seconds)
        vm.pause()
        after, ram = private_bytes()
        blocks = sum(hart.block_cache_bytes for hart in vm.stats().harts)
    return {"all": after - before, "ram": ram, "blocks": blocks, "beyond": after - before - blocks}


def main() -> None:
    """Measures in a process of its own, so that nothing of an earlier machine is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.here:
        sys.exit(subprocess.run([sys.executable, __file__, "--here", *sys.argv[1:]], check=False).returncode)
    found = measure(options.cpus, options.seconds)
    mib = {name: f"{value / 2**20:.2f} MiB" for name, value in found.items()}
    beside = f"the guest's RAM ({mib['ram']}) and decoded code ({mib['blocks']})"
    print(f"{options.cpus} idle hart(s): {mib['beyond']} beyond {beside}")


if __name__ == "__main__":
    main()
