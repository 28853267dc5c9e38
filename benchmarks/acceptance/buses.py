"""Debian's kernel on every interrupt controller, with a disk on each bus and a NIC of each kind, all behind the IOMMU.

    python benchmarks/acceptance/buses.py [--interrupts plic aplic aia] [--cpus 1 4] [--size MIB] [--kernel Image]
                                          [--show DIRECTORY]

Random data, made by the host on the AHCI disk, goes round: through the e1000e to the virtio NIC and onto the
virtio-mmio disk, from there through the virtio NIC to the e1000e and onto the virtio-pci disk, and straight back to the
AHCI disk, which the host has emptied meanwhile. So each disk is read and written once and each NIC carries everything
each way; the host compares the digests. The NICs are in network namespaces of their own, joined by a switch of the
host. Then the IOMMU's fault queue must be empty, and the guest's log and its drivers' statistics without complaint,
but for frames that came while the e1000e's ring was full: TCP sends those again, as on a real board.

ethtool and lspci come from Debian's packages; --show keeps what they print. --kernel takes the one of vfio_kernel.py,
whose DMA API is behind the IOMMU: with Debian's own, groups are of type identity.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path

import wirt
from guests import KERNEL_WARNINGS, PROMPT, archive, digest, pulled, report, stopwatch
from wirt.debian import deb, silent
from wirt.debian.cpio import CpioWriter
from wirt.debian.shell import Shell
from wirt.paths import cache_dir
from wirt.stats import DeviceInfo

_MIB = 1 << 20
_BUSES = ("ahci", "virtio-mmio", "virtio-pci")
_NICS = ("e1000e", "virtio_net")
_LIBRARY = re.compile(r"usr/lib/riscv64-linux-gnu/((?:lib|ld-linux)[^/]*\.so\.\d+)[^/]*")
_OFFLOADS = {"rx-checksumming", "tx-checksumming", "scatter-gather", "tcp-segmentation-offload"}
# The e1000e driver says so twice on every machine that has no controller for message-signalled interrupts.
_NO_MESSAGES = re.compile(r"e1000e.*: Failed to initialize MSI.* interrupts")
# Of the configuration of vfio_kernel.py.
_CONFIGURED = "Kernel memory protection not selected by kernel config"
_PORT = 5000
# Registers of the RISC-V IOMMU (specification 1.0, 6): ddtp, cqh, cqt, fqt.
_DDTP, _CQH, _CQT, _FQT = 16, 32, 36, 52


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    controllers = ("plic", "aplic", "aia")
    parser.add_argument("--interrupts", nargs="+", choices=controllers, default=list(controllers))
    parser.add_argument("--cpus", type=int, nargs="+", default=[1, 4], metavar="N", help="harts [1 4]")
    parser.add_argument("--size", type=int, default=2048, metavar="MIB", help="of each disk [2048]")
    parser.add_argument("--kernel", type=Path, help="another kernel than Debian's, with its drivers built in")
    parser.add_argument("--show", type=Path, metavar="DIRECTORY", help="keep the guests' logs and listings there")
    options = parser.parse_args()
    # The kernel unpacks one archive after the other.
    initrd = pulled().initrd.read_bytes() + tools()
    good = True
    for cpus in options.cpus:
        for interrupts in options.interrupts:
            good = _Run(options, initrd, interrupts, cpus).all() and good
    sys.exit(0 if good else 1)


def tools() -> bytes:
    """An initramfs with ethtool, lspci, and the libraries that they need; made once and kept in the cache."""
    kept = cache_dir() / "acceptance" / "tools.cpio.gz"
    if kept.is_file():
        return kept.read_bytes()
    source = archive()
    packages: list[str] = []
    wanted = ["ethtool", "pciutils"]
    while wanted:
        package = wanted.pop()
        if package not in packages:
            packages.append(package)
            wanted += source.depends(package)
    writer = CpioWriter()
    with tempfile.TemporaryDirectory() as scratch:
        for file in source.download(packages, Path(scratch), silent):
            for path, content in deb.members(file, lambda path: not path.startswith("usr/share/doc")):
                library = _LIBRARY.fullmatch(path)
                if library:
                    # Packages name a library by its version and link its SONAME to it.
                    writer.file(f"lib/{library[1]}", content, 0o755)
                elif path in ("usr/sbin/ethtool", "usr/bin/lspci", "usr/sbin/lspci"):
                    writer.file(f"usr/bin/{path.rpartition('/')[2]}", content, 0o755)
                elif path == "usr/share/misc/pci.ids":
                    writer.file(path, content)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(gzip.compress(writer.finish(), mtime=0))
    return kept.read_bytes()


class _Run:
    """One machine."""

    def __init__(self, options: argparse.Namespace, initrd: bytes, interrupts: str, cpus: int) -> None:
        self.size: int = options.size
        self.kernel: Path | None = options.kernel
        self.show: Path | None = options.show
        self.name = f"{interrupts}-{cpus}"
        self.prefix = f"{interrupts}, {cpus} hart(s):"
        self.messages = interrupts == "aia"
        self.disks = {bus: wirt.Disk.memory(f"{self.size}M", bus) for bus in _BUSES}  # type: ignore[arg-type]
        lan = wirt.Switch()
        self.machine = wirt.Machine(
            self.kernel or pulled().kernel,
            initrd=initrd,
            # Debian sets a fourth of a small memory aside for CMA, of which a NIC's receive buffers get nothing.
            cmdline="earlycon=sbi console=ttyS0 iommu.passthrough=0 iommu.strict=1 cma=16M",
            memory="1G",
            cpus=cpus,
            disks=list(self.disks.values()),
            nets=[lan.port(model="e1000e"), lan.port(model="virtio-mmio" if cpus == 1 else "virtio-pci")],
            iommu="platform",
            interrupts=interrupts,  # type: ignore[arg-type]
        )

    def all(self) -> bool:
        """Whether all went as it must."""
        with self.machine:
            self.machine.start()
            self.machine.console.expect(PROMPT, timeout=900)
            self.shell = Shell(self.machine.console)
            self.shell.check("export PATH=$PATH:/usr/bin")
            # A guest that is starved of the host must not find its memory full of disk when a frame comes.
            self.shell.check("echo 65536 >/proc/sys/vm/min_free_kbytes")
            found = self.check_iommu()
            self.find_devices()
            self.separate_nics()
            good = self.round_trip()
            good = self.all_was_moved() and good
            good = self.check_drivers() and good
            return found and self.check_faults() and good

    def check_iommu(self) -> bool:
        strict = "invalidation policy: strict mode" in self.shell.check("dmesg")
        types = self.shell.check("cat /sys/kernel/iommu_groups/*/type | sort | uniq -c").split()
        (iommu,) = [device for device in self.machine.devices if device.name == "iommu0"]
        assert iommu.base is not None
        self.iommu: int = iommu.base
        levels = self.machine.bus.read(self.iommu + _DDTP, 8) & 0xF
        report(f"{self.prefix} IOMMU", f"strict: {strict}; groups: {' '.join(types)}; ddtp.iommu_mode {levels}")
        return strict and types[1::2] == ["DMA" if self.kernel else "identity"] and levels == 4

    def find_devices(self) -> None:
        """Which names the disks and NICs have: that depends on who was probed first."""
        links = self.shell.check("cd /sys/block; for d in vda vdb sda; do echo $d $(readlink $d); done; cd /")
        self.names: dict[str, str] = {}
        for name, link in map(str.split, links.splitlines()):
            self.names["ahci" if name == "sda" else "virtio-pci" if "/pci" in link else "virtio-mmio"] = name
        listing = self.shell.check(
            "for n in /sys/class/net/eth*; do echo ${n##*/} $(basename $(readlink $n/device/driver)); done"
        )
        self.nics: dict[str, str] = {driver: name for name, driver in map(str.split, listing.splitlines())}
        assert set(self.names) == set(_BUSES), links
        assert set(self.nics) == set(_NICS), listing

    def separate_nics(self) -> None:
        """Gives each NIC a network namespace, held open by a process; so traffic between them leaves the machine."""
        for number, driver in enumerate(_NICS, start=1):
            self.shell.check(
                f"unshare -n sleep 1000000 >/dev/null 2>&1 & echo $! >/space{number}\n"
                f"until [ $(readlink /proc/$(cat /space{number})/ns/net) != $(readlink /proc/self/ns/net) ]; do "
                f"usleep 10000; done\nip link set {self.nics[driver]} netns $(cat /space{number})\n"
                f"{self.within(number)} sh -c 'ip link set {self.nics[driver]} up; "
                f"ip addr add 10.0.0.{number}/24 dev {self.nics[driver]}'"
            )

    def within(self, number: int) -> str:
        return f"nsenter -t $(cat /space{number}) -n"

    def round_trip(self) -> bool:
        sha = hashlib.sha256()
        for offset in range(self.size):
            data = os.urandom(_MIB)
            sha.update(data)
            self.disks["ahci"].write(offset * _MIB, data)
        good = True
        for what, source, target in (
            ("e1000e to virtio-net", "ahci", "virtio-mmio"),
            ("virtio-net to e1000e", "virtio-mmio", "virtio-pci"),
            ("", "virtio-pci", "ahci"),
        ):
            if target == "ahci":
                for offset in range(self.size):
                    self.disks["ahci"].write(offset * _MIB, bytes(_MIB))
            # What the guest knows of its disks may be older than what the host has just written.
            self.shell.check("echo 3 >/proc/sys/vm/drop_caches")
            with stopwatch() as elapsed:
                if what:
                    sender = _NICS.index(what.partition(" ")[0].replace("-", "_")) + 1
                    self.send(sender, source, target)
                else:
                    self.shell.check(
                        f"dd if=/dev/{self.names[source]} of=/dev/{self.names[target]} bs=1M conv=fsync", timeout=7200
                    )
            intact = digest(self.disks[target], self.size * _MIB) == sha.hexdigest()
            good = good and intact
            way = f"{source} to {target}" + (f", {what}" if what else "")
            rate = f"{self.size / elapsed[0]:.1f} MiB/s"
            report(f"{self.prefix} {way}", f"{self.size} MiB, {rate}, {'intact' if intact else 'NOT INTACT'}")
        return good

    def send(self, sender: int, source: str, target: str) -> None:
        """One disk to another, over TCP from one NIC to the other."""
        receiver = 3 - sender
        sink = f"dd of=/dev/{self.names[target]} bs=1M iflag=fullblock conv=fsync"
        self.shell.check(
            f"rm -f /status; ({self.within(receiver)} nc -l -p {_PORT} -e {sink}; echo $? >/status) >/dev/null 2>&1 &"
        )
        self.shell.check(
            f"until {self.within(receiver)} grep -q ':{_PORT:04X} .* 0A ' /proc/net/tcp6 /proc/net/tcp; do "
            "usleep 100000; done"
        )
        self.shell.check(
            f"{self.within(sender)} nc 10.0.0.{receiver} {_PORT} -e dd if=/dev/{self.names[source]} bs=1M 2>/dev/null",
            timeout=7200,
        )
        self.shell.check("while [ ! -s /status ]; do usleep 20000; done; grep -q ^0 /status", timeout=3600)

    def all_was_moved(self) -> bool:
        """Every disk and NIC has carried the data twice, by the monitor's own counters."""
        moved: dict[str, int] = {}
        devices: list[DeviceInfo] = self.machine.devices
        for device in devices:
            if re.match(r"e1000e|ahci|virtio-(blk|net)", device.name):
                moved[device.name] = device.bytes_moved // _MIB
        report(f"{self.prefix} MiB moved", ", ".join(f"{name} {count}" for name, count in moved.items()))
        carriers = [count for count in moved.values() if count >= 2 * self.size]
        return len(carriers) == len(_BUSES) + len(_NICS)

    def check_drivers(self) -> bool:
        listings = {"dmesg": "dmesg", "interrupts": "cat /proc/interrupts", "lspci": "lspci -vv"}
        for number, driver in enumerate(_NICS, start=1):
            for option in ("i", "k", "S"):
                listings[f"{driver}-{option}"] = f"{self.within(number)} ethtool -{option} {self.nics[driver]}"
        shown = {name: self.shell.check(command, timeout=300) for name, command in listings.items()}
        if self.show is not None:
            self.show.mkdir(parents=True, exist_ok=True)
            for name, text in shown.items():
                (self.show / f"{self.name}-{name}.txt").write_text(text + "\n")
        functions = re.findall(r"(?m)^(\S+) ([^:]+):(?:.*\n)*?(?=^\S|\Z)", shown["lspci"])
        drivers = re.findall(r"Kernel driver in use: (\S+)", shown["lspci"])
        report(f"{self.prefix} lspci", f"{len(functions)} functions, drivers {', '.join(drivers)}")
        good = {"ahci", "e1000e", "virtio-pci"} <= set(drivers)
        for driver in _NICS:
            counted = dict(re.findall(r"(?m)^\s+(\S+): (\d+)$", shown[f"{driver}-S"]))
            missed = counted.pop("rx_missed_errors", "0")
            bad = [f"{name} {n}" for name, n in counted.items() if n != "0" and re.search("err|drop|fail|hang", name)]
            on = set(re.findall(r"(?m)^\s*(\S+): on", shown[f"{driver}-k"]))
            errors = f"{', '.join(bad) or 'none'}; frames while the ring was full: {missed}"
            report(f"{self.prefix} ethtool, {driver}", f"{len(on)} offloads on; errors counted: {errors}")
            good = good and bool(counted) and not bad and on >= _OFFLOADS
        # The second is of the configuration of vfio_kernel.py.
        lines = self.shell.check(
            f"({KERNEL_WARNINGS}) | grep -v 'Kernel memory protection not selected' || true"
        ).splitlines()
        warnings = [line for line in lines if self.messages or not _NO_MESSAGES.search(line)]
        said = f"{'; '.join(warnings) or 'none'}" + (f"; {len(lines) - len(warnings)} of the e1000e's" if lines else "")
        report(f"{self.prefix} kernel warnings", said)
        return good and not warnings

    def check_faults(self) -> bool:
        bus = self.machine.bus
        records = bus.read(self.iommu + _FQT, 4)
        left = bus.read(self.iommu + _CQT, 4) - bus.read(self.iommu + _CQH, 4)
        report(f"{self.prefix} IOMMU", f"fault records {records}, commands left {left}")
        return records == 0 and left == 0


if __name__ == "__main__":
    main()
