"""Pass-through in a guest: Linux gives an e1000e to a process through VFIO and the IOMMU, and the process drives it.

    python benchmarks/acceptance/vfio.py build/vfio/Image [--frames N]

First the same kernel, whose DMA API is behind the IOMMU in strict mode, copies data between a disk on each bus. Then
vfio_driver.c, compiled here with ziglang, echoes what the host sends to the card. Last, the process takes back memory
that it had lent to the card: the descriptor that worked before now gives a fault record, and no frame.

`vfio_kernel.py` says how to build the kernel.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wirt
from guests import PROMPT, digest, pulled, report
from wirt.debian.cpio import CpioWriter
from wirt.debian.shell import Shell

_DISK_MIB = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", type=Path, help="the Image that vfio_kernel.py built")
    parser.add_argument("--frames", type=int, default=10_000, metavar="N", help="to echo [10000]")
    options = parser.parse_args()
    archive = CpioWriter()
    archive.directory("bin")
    archive.file("bin/vfio_driver", compiled(), 0o755)
    # The kernel unpacks one archive after the other.
    initrd = pulled().initrd.read_bytes() + gzip.compress(archive.finish(), mtime=0)
    good = [run(options.kernel, initrd, interrupts, cpus, options.frames) for interrupts, cpus in SETTINGS]
    sys.exit(0 if all(good) else 1)


# Messages of devices would go through their own address space, where Linux' IMSIC driver does not map the files: wires.
SETTINGS = (("plic", 1), ("plic", 4), ("aplic", 2))


def compiled() -> bytes:
    """vfio_driver.c for riscv64 Linux, linked statically."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "vfio_driver")
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl", "-static", "-O2", "-s"]
        source = Path(__file__).with_suffix("").with_name("vfio_driver.c")
        subprocess.run([*compiler, "-Wall", "-o", output, source], check=True)
        return output.read_bytes()


def run(kernel: Path, initrd: bytes, interrupts: str, cpus: int, frames: int) -> bool:
    """One machine; whether everything went as it must."""
    disks = [wirt.Disk.memory(f"{_DISK_MIB}M", bus) for bus in ("virtio-mmio", "virtio-pci", "ahci")]
    lan = wirt.Switch()
    end = lan.endpoint()
    machine = wirt.Machine(
        kernel,
        initrd=initrd,
        cmdline="earlycon=sbi console=ttyS0 quiet iommu.passthrough=0 iommu.strict=1 iommufd.allow_unsafe_interrupts=1",
        memory="512M",
        cpus=cpus,
        disks=disks,
        nets=[lan.port(model="e1000e")],
        iommu="platform",
        interrupts=interrupts,  # type: ignore[arg-type]
    )
    prefix = f"{interrupts}, {cpus} hart(s):"
    with machine as vm:
        vm.start()
        vm.console.expect(PROMPT, timeout=120)
        shell = Shell(vm.console)
        types = set(shell.check("cat /sys/kernel/iommu_groups/*/type").split())
        intact = copies_are_intact(shell, disks)
        clean = vm.iommu is not None and faults(shell) == []
        report(f"{prefix} domains; disks; faults", f"{types}; {'intact' if intact else 'NOT INTACT'}; {faults(shell)}")

        nic = next(device for device in vm.devices if device.name.startswith("e1000e"))
        function = shell.check("basename $(dirname $(grep -l 0x10d3 /sys/bus/pci/devices/*/device))")
        shell.check(
            f"cd /sys/bus/pci/devices/{function}; echo vfio-pci >driver_override; echo {function} >driver/unbind\n"
            f"echo {function} >/sys/bus/pci/drivers_probe; cd /"
        )
        name = shell.check(f"ls /sys/bus/pci/devices/{function}/vfio-dev")
        shell.check(f"(vfio_driver {name} {frames} >/log 2>&1; echo ended >>/log) &")
        shell.check("until grep -q -e ready -e ended /log; do usleep 100000; done")
        echoed = echo(end, frames)
        shell.check("until grep -q ended /log; do usleep 100000; done", timeout=60)
        log = shell.check("cat /log").splitlines()
        seen = faults(shell)
        last = []
        while len(last) < 3:
            try:
                last.append(end.recv(timeout=0.5)[14:18])
            except TimeoutError:
                break
        report(f"{prefix} {nic.name} driven by a process", f"{echoed}; {'; '.join(log)}")
        report(f"{prefix} after the memory was taken back", f"frames {last}, fault records {seen}")
        return types == {"DMA"} and intact and clean and "done" in log and last == [b"lent"] and len(seen) == 2


def copies_are_intact(shell: Shell, disks: list[wirt.Disk]) -> bool:
    """Random data goes from the first disk to the second and from there to the third."""
    for offset in range(_DISK_MIB):
        disks[0].write(offset << 20, os.urandom(1 << 20))
    # Which virtio disk is which depends on who is probed first; the one of virtio-mmio is not below a PCI function.
    mmio, pci = "vda", "vdb"
    if "pci" in shell.check("readlink /sys/block/vda"):
        mmio, pci = pci, mmio
    shell.check(f"dd if=/dev/{mmio} of=/dev/{pci} bs=1M conv=fsync && dd if=/dev/{pci} of=/dev/sda bs=64k conv=fsync")
    return len({digest(disk, _DISK_MIB << 20) for disk in disks}) == 1


def faults(shell: Shell) -> list[str]:
    """What the kernel's IOMMU driver has logged of fault records."""
    return re.findall(r"Fault .*", shell.check("dmesg | grep Fault || true"))


def echo(end: wirt.EndPoint, frames: int) -> str:
    """Sends frames in small batches, and compares what comes back."""
    start = time.monotonic()
    batch = 16
    for first in range(0, frames, batch):
        sent = []
        for number in range(first, min(first + batch, frames)):
            payload = number.to_bytes(4, "big") + os.urandom(46 + number % 1400)
            sent.append(payload)
            end.send(b"\x02\0\0\0\0\1" + b"\x02\0\0\0\0\2" + b"\x88\xb5" + payload)
        for payload in sent:
            frame = end.recv(timeout=30)
            if frame != b"\x02\0\0\0\0\2" + b"\x02\0\0\0\0\1" + b"\x88\xb5" + payload:
                raise SystemExit(f"a frame came back changed: {frame[:32].hex()}...")
    return f"{frames} frames came back as they were sent, {frames / (time.monotonic() - start):.0f} a second"


if __name__ == "__main__":
    main()
