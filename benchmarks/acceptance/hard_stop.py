"""A guest loses its disk's power while it writes: what it was told is kept must be there, and fsck must find nothing.

    python benchmarks/acceptance/hard_stop.py [--bus virtio ahci] [--rounds N] [--seed N]

The guest writes files on ext4, each followed by fsync and sync, and names each one with its SHA-256 on the console when
that is done. Its disk has a volatile write cache (``wirt.Disk(volatile_cache=True)``): nothing reaches the file until
the guest flushes. At a random moment the disk loses all, none, or a random half of what was not flushed, and the
machine is taken away. Then, on the host: e2fsck may replay the journal and must find nothing else to repair, and every
file named must be there with its digest. A FLUSH that is lost, early, or not asked for shows as a fault.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wirt
from guests import PROMPT, busybox_machine, report
from wirt.debian.shell import Shell

_DEVICES = {"virtio": "vda", "ahci": "sda"}
_SIZE_MIB = 256

# Several writers at once, so that the journal and more than one request are under way at any time. Each also writes to
# a scratch file past the page cache, so that the disk always holds something that nobody has flushed.
_WRITER = """cat >/writer <<'EOF'
n=0
while :; do
    n=$((n + 1))
    file=$1.$n
    dd if=/dev/urandom of=/mnt/$file.new bs=4k count=$((1 + n * 7 % 40)) conv=fsync 2>/dev/null || exit
    mv /mnt/$file.new /mnt/$file && sync -f /mnt/$file || exit
    echo "kept $file $(sha256sum </mnt/$file | cut -c1-64)"
    dd if=/dev/zero of=/mnt/$1.scratch bs=4k count=50 seek=$((n * 13 % 100)) conv=notrunc oflag=direct 2>/dev/null
done
EOF
"""
_KEPT = re.compile(r"kept (\S+) ([0-9a-f]{64})\r?\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bus", nargs="+", choices=list(_DEVICES), default=list(_DEVICES))
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="stops on each bus [20]")
    parser.add_argument("--cpus", type=int, default=2, metavar="N", help="harts [2]")
    parser.add_argument("--seed", type=int, default=None, help="of the moments of the stops and of what is lost")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "disk.img"
        for bus in options.bus:
            subprocess.run(["mkfs.ext4", "-q", "-F", str(image), f"{_SIZE_MIB}M"], check=True)
            passed = files = sectors = 0
            for number in range(1, options.rounds + 1):
                kept, lost = write_until_stopped(image, bus, options.cpus, moments)
                faults = check(image, kept, Path(scratch))
                report(f"{bus}: stop {number}", f"{len(kept)} files kept, {lost} unflushed sectors lost")
                for fault in faults:
                    report(f"{bus}: stop {number}: FAULT", fault)
                passed += not faults
                files += len(kept)
                sectors += lost
            figures = f"{passed} without a fault; {files} files kept, {sectors} unflushed sectors lost"
            report(f"{bus}: {options.rounds} hard stops", figures)
            good = good and passed == options.rounds
    sys.exit(0 if good else 1)


def write_until_stopped(image: Path, bus: str, cpus: int, moments: random.Random) -> tuple[dict[str, str], int]:
    """Lets a guest write for a while, then takes disk and machine away.

    Returns the files that it said are kept, with their digests, and how many sectors the disk lost.
    """
    disk = wirt.Disk(image, bus, volatile_cache=True)
    with busybox_machine(disks=[disk], cpus=cpus) as machine:
        machine.start()
        machine.console.expect(PROMPT, timeout=300)
        shell = Shell(machine.console)
        shell.check(_WRITER)
        shell.check(f"mkdir -p /mnt; modprobe ext4; mount -t ext4 /dev/{_DEVICES[bus]} /mnt", timeout=300)
        shell.check("rm -rf /mnt/*; sync", timeout=300)
        machine.console.send("for w in 1 2 3; do sh /writer $w & done 2>/dev/null\n")
        time.sleep(moments.uniform(3, 10))
        lost = disk.lose_power(moments.getrandbits(64))
        machine.close()
        written = machine.console.output
    return dict(_KEPT.findall(written)), lost


def check(image: Path, kept: dict[str, str], scratch: Path) -> list[str]:
    """What is wrong with the file system after a stop, in words; nothing, if all is well."""
    faults = []
    # The first run does what a mount would, replay the journal and drop orphans; the second must find nothing at all.
    replay = subprocess.run(["e2fsck", "-p", str(image)], capture_output=True, text=True, check=False)
    if replay.returncode not in (0, 1):
        faults.append(f"journal replay: {replay.stdout}{replay.stderr}".strip())
    fsck = subprocess.run(["e2fsck", "-fn", str(image)], capture_output=True, text=True, check=False)
    if fsck.returncode != 0:
        faults.append(f"e2fsck, status {fsck.returncode}: {fsck.stdout}")
    directory = scratch / "files"
    directory.mkdir(exist_ok=True)
    subprocess.run(["debugfs", "-R", f"rdump / {directory}", str(image)], capture_output=True, check=True)
    for name, sha in kept.items():
        file = directory / name
        if not file.is_file():
            faults.append(f"{name}: was kept and is not there")
        elif hashlib.sha256(file.read_bytes()).hexdigest() != sha:
            faults.append(f"{name}: was kept with another content")
    shutil.rmtree(directory)
    return faults


if __name__ == "__main__":
    main()
