"""A disk and a NIC come and go under a running Debian guest, while another disk of it is written and read back.

    python benchmarks/acceptance/hotplug.py [--cycles N] [--cpus N] [--surprises N] [--iommu platform|pci]

In every cycle a disk and a NIC are plugged in, on bus 0 and behind a root port in turns, the disk on virtio-pci and on
AHCI in turns. The guest finds them (``echo 1 > /sys/bus/pci/rescan``), writes random data to the disk, reads it back,
sends a frame through the NIC, lets go of both (``remove``), and they are taken out; the host compares what is on the
disk. At the end devices are pulled out under a guest that writes to them. All the while one more disk is filled with
random data and compared, over and over: any difference or error there is the failure that this looks for.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import time

import wirt
from guests import PROMPT, pulled, report
from wirt.debian.shell import Shell
from wirt.net import NicModel

_LOAD = """
passes=0
while [ ! -e /stop ]; do
    dd if=/dev/urandom of=/random bs=1M count=4 2>/dev/null
    dd if=/random of=/dev/vda bs=1M conv=fsync 2>/dev/null || echo write >>/lost
    echo 1 >/proc/sys/vm/drop_caches
    dd if=/dev/vda bs=1M count=4 2>/dev/null | cmp - /random || echo read >>/lost
    passes=$((passes + 1))
    echo $passes >/passes
done
"""
# Which device a PCI function has become, as soon as it has: each argument is a directory that may hold it. The quotes
# matter: a pattern that matched nothing a moment ago would otherwise match now, and be printed as all files there are.
_FIND = """
for try in $(seq 100); do
    for place in "$@"; do
        for device in $place*; do
            if [ -e "$device" ]; then echo "${device##*/}"; exit 0; fi
        done
    done
    usleep 100000
done
exit 1
"""
_HOTPLUG_MIB = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=100, metavar="N", help="plug and unplug so often [100]")
    parser.add_argument("--surprises", type=int, default=4, metavar="N", help="removals in the middle of I/O [4]")
    parser.add_argument("--cpus", type=int, default=2, metavar="N", help="harts [2]")
    parser.add_argument("--iommu", choices=("platform", "pci"), help="put all devices behind an IOMMU")
    parser.add_argument("--nic", default="virtio-pci", choices=("virtio-pci", "e1000e"), help="model [virtio-pci]")
    options = parser.parse_args()
    guest = pulled()
    machine = wirt.Machine(
        guest.kernel,
        initrd=guest.initrd,
        cmdline="earlycon=sbi console=ttyS0 quiet",
        memory="512M",
        cpus=options.cpus,
        disks=[wirt.Disk.memory("8M", bus="virtio-mmio")],
        pcie_ports=2,
        iommu=options.iommu,
    )
    with machine:
        machine.start()
        machine.console.expect(PROMPT, timeout=300)
        run = _Run(machine, options.nic)
        sys.exit(0 if run.all(options.cycles, options.surprises) else 1)


class _Run:
    def __init__(self, machine: wirt.Machine, nic: NicModel) -> None:
        self.machine = machine
        self.nic = nic
        self.shell = Shell(machine.console)
        self.lan = wirt.Switch()
        self.end = self.lan.endpoint()

    def all(self, cycles: int, surprises: int) -> bool:
        self.shell.check("for m in ahci sd_mod virtio_blk virtio_net e1000e; do modprobe $m; done; true", timeout=120)
        # The command line is the console's; the load runs beside it.
        for name, script in (("load", _LOAD), ("find", _FIND)):
            self.shell.check(f"cat >/{name} <<'END_OF_FILE'\n{script}\nEND_OF_FILE")
        # Not niced: Debian's busybox has no nice, and would start nothing.
        self.shell.check("sh /load >/dev/null 2>&1 &")
        seconds = []
        for number in range(cycles):
            start = time.monotonic()
            self.cycle(number)
            seconds.append(time.monotonic() - start)
            if number % 10 == 9:
                report(f"after {number + 1} cycles", f"{sum(seconds):.0f} s")
        report(f"{cycles} cycles of a disk and a NIC", f"all data intact, {statistics.median(seconds):.2f} s a cycle")
        let_go = [self.surprise(number) for number in range(surprises)]
        report("pulled out in the middle of writing", f"{surprises}, {let_go.count(False)} from a driver that used it")
        return self.settle()

    def cycle(self, number: int) -> None:
        on_port = number % 2 == 1
        disk = wirt.Disk.memory(f"{_HOTPLUG_MIB}M", bus="ahci" if number // 2 % 2 else "virtio-pci")
        port = self.lan.port(model=self.nic)
        self.machine.attach(disk, slot=24 if on_port else 10)
        self.machine.attach(port, slot=25 if on_port else 11)
        functions = ("0000:01:00.0", "0000:02:00.0") if on_port else ("0000:00:0a.0", "0000:00:0b.0")
        block, network = (f"/sys/bus/pci/devices/{function}" for function in functions)
        digest = self.shell.check(
            # A subshell: it may end without ending the console's.
            "(set -e; echo 1 >/sys/bus/pci/rescan\n"
            f"disk=$(sh /find '{block}/virtio*/block/' '{block}/ata*/host*/target*/*/block/')\n"
            f"nic=$(sh /find '{network}/virtio*/net/' {network}/net/)\n"
            f"dd if=/dev/urandom of=/data bs=1M count={_HOTPLUG_MIB} 2>/dev/null\n"
            "dd if=/data of=/dev/$disk bs=1M conv=fsync; echo 1 >/proc/sys/vm/drop_caches\n"
            "cmp /dev/$disk /data; ip link set $nic up; ip addr add 10.9.0.1/24 dev $nic\n"
            "(ping -c 5 -w 5 10.9.0.2 >/dev/null 2>&1 &); echo $nic >/nic; sha256sum </data | cut -c1-64)",
            timeout=300,
        ).splitlines()[-1]
        # Before the NIC goes: what is still in its ring then is lost, and on a busy host a frame may take its time.
        self.heard_from(bytes.fromhex(port.mac.replace(":", "")))
        self.shell.check(
            f"ip link set $(cat /nic) down; echo 1 >{block}/remove && echo 1 >{network}/remove", timeout=300
        )
        if not (self.machine.detach(disk) and self.machine.detach(port)):
            raise SystemExit(f"cycle {number}: removed, and yet a device could master the bus")
        if hashlib.sha256(disk.read(0, disk.size)).hexdigest() != digest.strip():
            raise SystemExit(f"cycle {number}: the disk does not hold what was written")

    def heard_from(self, mac: bytes) -> None:
        """The guest's ARP request, or any other frame of that NIC, has come out of the switch."""
        while self.end.recv(timeout=30)[6:12] != mac:
            pass

    def surprise(self, number: int) -> bool:
        """Takes an AHCI disk out while the guest writes to it; whether the driver had let go of it."""
        disk = wirt.Disk.memory("64M", bus="ahci")
        slot = 12 + number if number % 2 == 0 else 24
        self.machine.attach(disk, slot=slot)
        function = "0000:01:00.0" if slot == 24 else f"0000:00:{slot:02x}.0"
        self.shell.check(
            "echo 1 >/sys/bus/pci/rescan\n"
            f"disk=$(sh /find '/sys/bus/pci/devices/{function}/ata*/host*/target*/*/block/') &&\n"
            "(dd if=/dev/zero of=/dev/$disk bs=64k count=1024 >/dev/null 2>&1 &)",
            timeout=300,
        )
        time.sleep(0.2 * number)
        let_go = self.machine.detach(disk)
        self.shell.check(f"(echo 1 >/sys/bus/pci/devices/{function}/remove) >/dev/null 2>&1 &")
        return let_go

    def settle(self) -> bool:
        """Ends the load and says how it went."""
        self.shell.check("touch /stop; sleep 8", timeout=300)
        passes = int(self.shell.check("cat /passes 2>/dev/null || echo 0"))
        lost = self.shell.check("cat /lost 2>/dev/null; true").split()
        oops = self.shell.check("dmesg | grep -c -E 'BUG|Oops|stall|hung task' || true").strip()
        report("load on another disk", f"{passes} passes of 4 MiB, {len(lost)} with a loss; kernel oopses: {oops}")
        return not lost and passes > 0 and oops == "0"


if __name__ == "__main__":
    main()
