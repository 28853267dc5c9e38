"""A guest in a guest: Debian under QEMU and KVM in Debian, with a disk, a network, and devices that are passed through.

    python benchmarks/acceptance/nested.py lab.img [--harts N] [--cpus N] [--interrupts aia|plic]
    python benchmarks/acceptance/nested.py lab.img --kernel build/vfio/Image

lab.img is made of Debian's qemu-system-riscv where it is not there yet. The outer machine has all of rva23s64; its
kernel loads KVM, and Debian's QEMU boots the same kernel and initramfs once more. The inner console is the outer
machine's virtio console, so that both shells can be spoken to.

Without ``--kernel`` the inner disk is virtio-blk, behind it a disk of the outer machine; the inner network is QEMU's,
and a server in the outer guest echoes. With the kernel that ``vfio_kernel.py`` builds, the outer guest has an IOMMU,
and gives away an e1000e, an AHCI controller with its disk, and a virtio disk, to drivers in the inner guest; a third
Debian, on the other end of the cable, echoes.

In either, nested_load.c works on disk and network in the inner guest, and prints a sum each round. While it does, the
outer machine is snapshotted and goes on in another process (the first form) or in this one (the second, for its cable),
and is forked. In each copy the inner guest has to go on from that round, with the sums, and at the end the disk, that
this script computes for itself.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gzip
import hashlib
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lab
from kvm import image, modules

import wirt
from guests import KERNEL_WARNINGS, PROMPT, busybox_machine, digest, pulled, report
from wirt.debian.cpio import CpioWriter
from wirt.debian.shell import Shell

_PATIENCE = 1200.0  # seconds for what takes some on a free host
_DISK_MIB = 32
_PORT = 5000
_WORDS, _BLOCKS = 2048, 256  # of nested_load.c
_MASK = (1 << 64) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab", type=Path, help="image with QEMU, made where it is not there")
    parser.add_argument("--kernel", type=Path, help="with VFIO and KVM built in: pass devices through")
    parser.add_argument("--harts", type=int, default=1, help="of the outer machine [1]")
    parser.add_argument("--cpus", type=int, default=1, help="of the inner one [1]")
    parser.add_argument("--interrupts", choices=("plic", "aia"), default="aia")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="of the load between two copies [20]")
    # What the other process is called with.
    parser.add_argument("--go-on", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--since", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.go_on:
        sys.exit(0 if go_on(options) else 1)
    lab.make(options.lab)
    with tempfile.TemporaryDirectory(dir=options.lab.parent) as scratch:
        run = passed_through if options.kernel else emulated
        sys.exit(0 if run(options, Path(scratch)) else 1)


# --- the two guests ---


def compiled() -> bytes:
    """nested_load.c for riscv64 Linux, linked statically."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "nested_load")
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl", "-static", "-O2", "-s"]
        subprocess.run([*compiler, "-Wall", "-o", output, Path(__file__).with_name("nested_load.c")], check=True)
        return output.read_bytes()


def inner_image(kernel: Path, scratch: Path) -> wirt.Disk:
    """A disk with what QEMU boots: a kernel, and the initramfs of the outer guest with the load in it."""
    tree = scratch / "inner"
    tree.mkdir()
    archive = CpioWriter()
    archive.file("bin/nested_load", compiled(), 0o755)
    (tree / "Image").write_bytes(image(kernel))
    (tree / "initrd").write_bytes(pulled().initrd.read_bytes() + gzip.compress(archive.finish(), mtime=0))
    made = scratch / "inner.img"
    subprocess.run(["mkfs.ext4", "-q", "-d", tree, made, "96M"], check=True, capture_output=True)
    return wirt.Disk(made, "virtio-mmio", read_only=True, serial="inner")


def outer_initrd() -> bytes:
    """The pulled one with Debian's KVM."""
    guest = pulled()
    archive = CpioWriter()
    for name, content in modules(guest.release).items():
        archive.file(f"kvm/{name}", content)
    return guest.initrd.read_bytes() + gzip.compress(archive.finish(), compresslevel=1, mtime=0)


def begin(vm: wirt.Machine) -> Shell:
    """Boots the outer guest, and makes it ready for QEMU."""
    start = time.monotonic()
    vm.start()
    vm.console.expect(PROMPT, timeout=_PATIENCE)
    shell = Shell(vm.console)
    # In the order in which one needs the other; a kernel that has them built in needs neither.
    shell.check("[ -e /dev/kvm ] || insmod /kvm/irqbypass.ko; [ -e /dev/kvm ] || insmod /kvm/kvm.ko", _PATIENCE)
    shell.check("dmesg -n 1; modprobe -q ext4; mkdir /lab")
    shell.check(f"mount -t ext4 -o ro {disk(shell, 'lab')} /lab && mount -t tmpfs tmpfs /lab/tmp")
    shell.check("for d in dev proc sys; do mount --bind /$d /lab/$d; done")
    shell.check(f"mount -t ext4 -o ro {disk(shell, 'inner')} /lab/inner")
    report("outer guest at its shell", f"{time.monotonic() - start:.0f} s")
    for line in shell.check("dmesg | grep -i 'kvm.*\\(available\\|mode\\)'").splitlines():
        report("outer kernel says", re.sub(r"^\[ *[0-9.]+\] ", "", line.strip()))
    return shell


def disk(shell: Shell, serial: str) -> str:
    """Which device is the virtio disk with a serial number."""
    return shell.check(f"d=$(dirname $(grep -lx {serial} /sys/block/vd*/serial)); echo /dev/${{d##*/}}")


def begin_inner(vm: wirt.Machine, shell: Shell, options: argparse.Namespace, devices: Sequence[str]) -> Shell:
    """Boots the inner guest; its shell."""
    start = time.monotonic()
    controller = ",aia=aplic-imsic" if options.interrupts == "aia" else ""
    command = [
        f"qemu-system-riscv64 -M virt{controller} -accel kvm -cpu host -smp {options.cpus} -m 256M",
        "-nodefaults -display none -chardev serial,id=console,path=/dev/hvc0 -serial chardev:console",
        "-kernel /inner/Image -initrd /inner/initrd -append 'earlycon=sbi console=ttyS0 cma=16M'",
        *devices,
    ]
    # A line of a terminal holds 4095 characters.
    shell.check("cat >/lab/tmp/inner <<'EOF'\nexec " + " \\\n".join(command) + "\nEOF\n")
    shell.check("(chroot /lab sh /tmp/inner </dev/null >/log 2>&1; echo ended: $? >>/log) &")
    try:
        vm.hvc.expect(PROMPT, timeout=_PATIENCE)
    except wirt.ConsoleTimeout:
        report("QEMU says", shell.check("cat /log"))
        raise
    inner = Shell(vm.hvc)
    inner.check("dmesg -n 1")
    report("inner guest at its shell", f"{time.monotonic() - start:.0f} s; {inner.check('uname -rm')}")
    return inner


def interrupts(shell: Shell) -> str:
    """What has interrupted a guest, but for the kernel's own."""
    found = shell.check("cat /proc/interrupts | grep -E 'virtio|ttyS|eth|ahci|timer|vfio' || true")
    lines = [line.split() for line in found.splitlines()]
    return ", ".join(f"{line[-1]} {sum(int(word) for word in line[1:-1] if word.isdigit())}" for line in lines)


# --- the load ---


class Expected:
    """What nested_load has to say and to leave on the disk."""

    def __init__(self) -> None:
        self.round, self._x, self._sum = 0, 88172645463325252, 0
        self._disk = bytearray(_BLOCKS * _WORDS * 8)

    def advance(self) -> str:
        """The next round's line."""
        x, total, sent = self._x, self._sum, []
        for _ in range(_WORDS):
            x ^= x << 13 & _MASK
            x ^= x >> 7
            x ^= x << 17 & _MASK
            sent.append(x)
            total = (total * 31 + x) & _MASK
        self.round, self._x, self._sum = self.round + 1, x, total
        at = self.round % _BLOCKS * _WORDS * 8
        self._disk[at : at + _WORDS * 8] = struct.pack(f"<{_WORDS}Q", *sent)
        return f"round {self.round} {total:016x}"

    def disk(self) -> bytes:
        """The disk after the rounds so far, where there was one."""
        return bytes(self._disk)

    def follow(self, console: wirt.Console, rounds: int, *, first: bool = False) -> None:
        """Reads so many lines of the load; each has to be the next one.

        Args:
            console: of the inner guest.
            rounds: how many.
            first: a copy's console begins in the middle of a line, and of the rounds.
        """
        for count in range(rounds):
            found = console.expect(
                re.compile(r"round (\d+) ([0-9a-f]{16})\r*\n|load: .*\n|Kernel panic.*\n"), _PATIENCE
            )
            number = int(found.groups[0] or 0)
            line = found.text.strip()
            # How far it had come when it was copied is for the copy to say; where it stood, not less.
            ahead = 64 if first and count == 0 else 1
            if not self.round < number <= self.round + ahead:
                raise SystemExit(f"after round {self.round} the load says: {line}")
            while self.round < number:
                expected = self.advance()
            if line != expected:
                raise SystemExit(f"the load says {line}; it should be {expected}")


# What is said of devices that are passed through, all of it known: interrupts that KVM forwards have to be allowed by
# an option, resets are told of, our kernel is configured plainly, and KVM has no VFIO device on this architecture.
_PASSED_THROUGH = (
    "MSI interrupts are not secure",
    "vfio-pci .*: reset",
    "Kernel memory protection not selected",
    "Failed to create KVM VFIO device",
    "VFIO dma-buf not supported",
    "vfio_container_dma_map.* = -14",
    "peer-to-peer transactions on BARs are not supported",
)


def finish(vm: wirt.Machine, expected: Expected, disks: int = 1, known: Sequence[str] = ()) -> bool:
    """Stops the load; whether the last disks are what it wrote, and nobody has anything to complain of.

    What matches one of `known` is no complaint.
    """
    vm.hvc.send("\x03")
    text = vm.hvc.expect(PROMPT, _PATIENCE).before
    last = max((int(number) for number in re.findall(r"round (\d+) [0-9a-f]{16}", text)), default=expected.round)
    while expected.round < last:
        expected.advance()
    inner, outer = Shell(vm.hvc), Shell(vm.console)
    # QEMU's machine has a window for PCI above 4 GiB, which this kernel's driver finds too large for itself.
    inner_warnings = KERNEL_WARNINGS.replace("grep -v", "grep -v -e 'size exceeds max for 32 bits' -e")
    warnings = {
        who: "\n".join(line for line in text.splitlines() if not any(re.search(it, line) for it in known))
        for who, text in (
            ("inner", inner.check(inner_warnings)),
            ("outer", outer.check(KERNEL_WARNINGS)),
            ("QEMU", outer.check("cat /log")),
        )
    }
    rounds, size = expected.round, _BLOCKS * _WORDS * 8
    # Block 0 is the last one to be written. The interrupt may have come between a round's write and its line.
    span = slice(0 if rounds >= _BLOCKS else _WORDS * 8, min(size, (rounds + 1) * _WORDS * 8))
    wanted = [expected.disk()[span]]
    expected.advance()
    wanted.append(expected.disk()[span])
    intact = all(disk.read(0, size)[span] in wanted for disk in vm.disks[-disks:])
    report("rounds; disks of the inner guest", f"{rounds}; {'as computed' if intact else 'NOT AS COMPUTED'}")
    report("interrupts of the inner guest", interrupts(inner))
    for who, text in warnings.items():
        report(f"warnings: {who}", text.replace("\n", " | ") or "none")
    return intact and not any(warnings.values())


# --- copies ---


def by_snapshot(vm: wirt.Machine, expected: Expected, options: argparse.Namespace, scratch: Path) -> bool:
    """Snapshots the machine as it runs; a process of its own goes on with it, and this one with the original."""
    where = scratch / "snapshot"
    disks = ["reference" if disk.read_only else "include" for disk in vm.disks]
    taken = vm.snapshot(where, disks=disks)  # type: ignore[arg-type]
    report(
        "snapshot of the outer machine", f"pause {(taken.paused or 0) * 1e3:.1f} ms, at about round {expected.round}"
    )
    arguments = [
        str(options.lab),
        "--go-on",
        str(where),
        "--since",
        str(expected.round),
        "--rounds",
        str(options.rounds),
    ]
    child = subprocess.run([sys.executable, __file__, *arguments], check=False)
    wirt.snapshot.remove(where, force=True)
    expected.follow(vm.hvc, options.rounds)
    return child.returncode == 0


def go_on(options: argparse.Namespace) -> bool:
    """The other process."""
    expected = Expected()
    while expected.round < options.since:
        expected.advance()
    with wirt.Machine.restore(options.go_on, verify=True) as vm:
        vm.start()
        expected.follow(vm.hvc, options.rounds, first=True)
        report("restored in another process: rounds", f"{options.since} to {expected.round}, each as computed")
        return finish(vm, expected)


def by_fork(vm: wirt.Machine, expected: Expected, options: argparse.Namespace) -> bool:
    """Two copies of the machine as it runs, which go on beside it."""
    since, good = expected.round, True
    copies = vm.fork(2)
    states = [copy.deepcopy(expected) for _ in copies]
    try:
        for machine, state in zip(copies, states, strict=True):
            state.follow(machine.hvc, options.rounds, first=True)
        expected.follow(vm.hvc, options.rounds)
        report("forked: rounds", f"{since} to {', '.join(str(state.round) for state in states)}, each as computed")
        for machine, state in zip(copies, states, strict=True):
            good = finish(machine, state) and good
    finally:
        for machine in copies:
            machine.close()
    return good


# --- the two forms ---


def random_disk(bus: str, **options: Any) -> wirt.Disk:
    """Of random data."""
    made = wirt.Disk.memory(f"{_DISK_MIB}M", bus, **options)  # type: ignore[arg-type]
    for number in range(_DISK_MIB):
        made.write(number << 20, os.urandom(1 << 20))
    return made


def outer_machine(
    options: argparse.Namespace, scratch: Path, kernel: Path, cmdline: str, disks: Sequence[wirt.Disk], **parts: Any
) -> wirt.Machine:
    """A machine on which KVM runs, with QEMU on its first disk and the inner guest's images on its second."""
    return wirt.Machine(
        kernel,
        cmdline=f"earlycon=sbi console=ttyS0 {cmdline}".rstrip(),
        memory="1G",
        cpus=options.harts,
        isa="rva23s64",
        interrupts=options.interrupts,
        # All virtual CPUs may find themselves on one hart.
        guest_files=options.cpus + 1 if options.interrupts == "aia" else 0,
        disks=[
            wirt.Disk(options.lab, "virtio-mmio", read_only=True, serial="lab"),
            inner_image(kernel, scratch),
            *disks,
        ],
        **parts,
    )


def emulated(options: argparse.Namespace, scratch: Path) -> bool:
    """The inner disk and network are QEMU's."""
    guest = pulled()
    inner_disk = random_disk("virtio-mmio", serial="nested")
    machine = outer_machine(options, scratch, guest.kernel, "", [inner_disk], initrd=outer_initrd())
    with machine as vm:
        shell = begin(vm)
        shell.check(f"(nc -ll -p {_PORT} -e cat >/dev/null 2>&1 &)")
        devices = [
            f"-drive file={disk(shell, 'nested')},format=raw,if=none,id=disk,cache=none",
            "-device virtio-blk-pci,drive=disk -netdev user,id=net -device virtio-net-pci,netdev=net",
        ]
        inner = begin_inner(vm, shell, options, devices)
        intact = reads_and_writes(inner, "/dev/vda", inner_disk)
        report("virtio disk of the inner guest", "read and written, intact" if intact else "NOT INTACT")
        inner.check("ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0")
        report("inner guest pings", inner.check("ping -c 10 -i 0.2 -q 10.0.2.2", _PATIENCE).splitlines()[-1])
        vm.hvc.send(f"nested_load 10.0.2.2 {_PORT} /dev/vda\n")
        expected = Expected()
        start = time.monotonic()
        expected.follow(vm.hvc, options.rounds)
        report("load: rounds a second", f"{options.rounds / (time.monotonic() - start):.1f}")
        good = by_snapshot(vm, expected, options, scratch)
        good = by_fork(vm, expected, options) and good
        good = finish(vm, expected) and good
    return good and intact


def reads_and_writes(inner: Shell, device: str, disk: wirt.Disk) -> bool:
    """The inner guest reads all of a disk that the host filled, and fills its second half for the host to read."""
    wanted = digest(disk, _DISK_MIB << 20)
    found = inner.check(f"sha256sum {device}", _PATIENCE).split()[0]
    half = _DISK_MIB // 2
    fill = f"dd if=/dev/urandom of=/tmp/x bs=1M count={half} 2>/dev/null"
    copy_out = f"dd if=/tmp/x of={device} bs=1M seek={half} conv=fsync 2>/dev/null"
    written = inner.check(f"{fill} && {copy_out} && sha256sum </tmp/x && rm /tmp/x", _PATIENCE).split()[0]
    sha = hashlib.sha256()
    for number in range(half, _DISK_MIB):
        sha.update(disk.read(number << 20, 1 << 20))
    return found == wanted and written == sha.hexdigest()


def passed_through(options: argparse.Namespace, scratch: Path) -> bool:
    """The inner disks and its network are the outer machine's PCI functions, behind its IOMMU."""
    disks = {"/dev/sda": random_disk("ahci"), "/dev/vda": random_disk("virtio-pci")}
    lan = wirt.Switch()
    machine = outer_machine(
        options,
        scratch,
        options.kernel,
        "iommu.passthrough=0 iommu.strict=1 iommufd.allow_unsafe_interrupts=1",
        list(disks.values()),
        initrd=pulled().initrd,
        iommu="platform",
        nets=[lan.port(model="e1000e")],
    )
    with busybox_machine(nets=[lan.port()]) as peer, contextlib.ExitStack() as machines:
        vm = machines.enter_context(machine)
        peer.start()
        shell = begin(vm)
        peer.console.expect(PROMPT, timeout=_PATIENCE)
        Shell(peer.console).check("ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up")
        Shell(peer.console).check(f"(nc -ll -p {_PORT} -e cat >/dev/null 2>&1 &)")
        report("types of IOMMU groups", shell.check("cat /sys/kernel/iommu_groups/*/type | sort | uniq -c").strip())
        functions = [give_away(shell, alias) for alias in ("v00008086d000010D3", "bc01sc06i01", "v00001AF4d00001042")]
        inner = begin_inner(vm, shell, options, [f"-device vfio-pci,host={function}" for function in functions])
        intact = True
        for device, disk_ in disks.items():
            same = reads_and_writes(inner, device, disk_)
            intact = intact and same
            report(f"{device} of the inner guest", "read and written, intact" if same else "NOT INTACT")
        inner.check("ip link set eth0 up; ip addr add 10.0.0.1/24 dev eth0")
        inner.check("until ping -c 1 -W 1 10.0.0.2 >/dev/null; do :; done", _PATIENCE)
        report("inner guest pings", inner.check("ping -c 10 -i 0.2 -q 10.0.0.2", _PATIENCE).splitlines()[-1])
        vm.hvc.send(f"nested_load 10.0.0.2 {_PORT} {' '.join(disks)}\n")
        expected = Expected()
        start = time.monotonic()
        expected.follow(vm.hvc, options.rounds)
        report("load: rounds a second", f"{options.rounds / (time.monotonic() - start):.1f}")
        for kind in ("snapshot", "fork"):
            # What is on the cable when the machine stops is lost, and TCP sends it again.
            vm.pause()
            since = expected.round
            if kind == "snapshot":
                where = scratch / "snapshot"
                kinds = ["reference" if disk.read_only else "include" for disk in vm.disks]
                vm.snapshot(where, disks=kinds)  # type: ignore[arg-type]
                vm.close()
                copied = wirt.Machine.restore(where, nets=[lan.port(model="e1000e")], verify=True)
            else:
                (copied,) = vm.fork(nets=lambda _, old: lan.port(model="e1000e", mac=old.mac))
                vm.close()
            vm = machines.enter_context(copied)
            vm.resume()
            expected.follow(vm.hvc, options.rounds, first=True)
            report(f"{kind}: rounds", f"{since} to {expected.round}, each as computed")
        report("interrupts of the outer guest", interrupts(Shell(vm.console)))
        return finish(vm, expected, len(disks), _PASSED_THROUGH) and intact


def give_away(shell: Shell, alias: str) -> str:
    """Takes a PCI function from its driver, by a part of its module alias, and gives it to vfio-pci; where it is."""
    function = shell.check(
        f"for f in /sys/bus/pci/devices/*; do grep -q {alias} $f/modalias && basename $f || true; done"
    )
    shell.check(
        f"cd /sys/bus/pci/devices/{function}; echo vfio-pci >driver_override; echo {function} >driver/unbind\n"
        f"echo {function} >/sys/bus/pci/drivers_probe; cd /"
    )
    driver = shell.check(f"basename $(readlink /sys/bus/pci/devices/{function}/driver)")
    report(f"driver of {function}, {alias}", driver)
    return function


if __name__ == "__main__":
    main()
