"""Linux in Linux: Debian's kernel with KVM in a machine with the hypervisor extension, and the same kernel under it.

    python benchmarks/acceptance/kvm.py [--harts N] [--cpus N] [--interrupts aia|plic]

KVM is the module of the Debian package that ``wirt pull debian`` has fetched. kvm_monitor.c, compiled here with
ziglang, is its user space: virtual CPUs, memory, the debug console of the SBI, and with ``aia`` an IMSIC a CPU, each a
guest interrupt file of a hart. The inner kernel boots to an init that writes to the kernel log and powers off.
"""

from __future__ import annotations

import argparse
import gzip
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wirt
from guests import PROMPT, pulled, report
from wirt.debian import deb
from wirt.debian.cpio import CpioWriter
from wirt.debian.modules import unpack
from wirt.debian.shell import Shell

ISA = wirt.isa.DEFAULT + "_h"
TIMEBASE = 10_000_000
IMSIC = 0x2800_0000
INITRD = 0x8000_0000 + (130 << 20)
INNER_INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t proc proc /proc
exec >/dev/kmsg 2>&1
echo "inner: Linux $(/bin/busybox uname -r) as process 1, pid $$"
echo "inner: $(/bin/busybox grep -c ^processor /proc/cpuinfo) CPUs, $(/bin/busybox grep -m1 isa /proc/cpuinfo)"
echo "inner: $(/bin/busybox seq 2 200 | /bin/busybox factor | /bin/busybox grep -c ': [0-9]*$') primes below 200"
/bin/busybox usleep 200000
/bin/busybox grep -E 'IPI|imsic|timer' /proc/interrupts | while read line; do echo "inner: $line"; done
echo "inner: slept, and ends"
/bin/busybox usleep 500000
/bin/busybox poweroff -f
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harts", type=int, default=1, help="of the outer machine")
    parser.add_argument("--cpus", type=int, default=2, help="of the inner one")
    parser.add_argument("--interrupts", choices=("plic", "aia"), default="aia")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for the inner kernel")
    options = parser.parse_args()
    guest = pulled()
    outer = CpioWriter()
    for path in ("bin", "inner"):
        outer.directory(path)
    outer.file("bin/kvm_monitor", compiled(), 0o755)
    for name, content in modules(guest.release).items():
        outer.file(f"inner/{name}", content)
    inner = inner_initrd()
    outer.file("inner/Image", image(guest.kernel))
    outer.file("inner/initrd", inner)
    cmdline = "earlycon=sbi keep_bootcon console=ttyS0"
    imsic = options.interrupts == "aia"
    outer.file("inner/dtb", device_tree(cmdline, len(inner), options.cpus, imsic))
    machine = wirt.Machine(
        guest.kernel,
        initrd=guest.initrd.read_bytes() + gzip.compress(outer.finish(), compresslevel=1, mtime=0),
        cmdline="earlycon=sbi console=ttyS0",
        memory="1G",
        cpus=options.harts,
        isa=ISA,
        interrupts=options.interrupts,
        # All virtual CPUs may find themselves on one hart.
        guest_files=options.cpus + 1 if imsic else 0,
    )
    with machine as vm:
        start = time.monotonic()
        vm.start()
        vm.console.expect(PROMPT, timeout=1200)
        report("outer kernel at its shell", f"{time.monotonic() - start:.0f} s")
        shell = Shell(vm.console)
        # In the order in which one needs the other.
        shell.check("for m in irqbypass kvm; do [ -e /inner/$m.ko ] && insmod /inner/$m.ko || true; done", timeout=300)
        for line in shell.check("dmesg | grep -i kvm || true").splitlines():
            report("outer kernel says", line.strip())
        start = time.monotonic()
        kind = "imsic" if imsic else "none"
        vm.console.send(f"kvm_monitor /inner/Image /inner/dtb /inner/initrd {options.cpus} {kind}\n")
        vm.console.expect("running", timeout=120)
        found = vm.console.expect(re.compile(r"the guest ended.*|exit reason \d+|KVM_RUN: .*"), timeout=options.timeout)
        lines = [re.sub(r"^\[ *[0-9.]+\] ", "", line.strip()) for line in found.before.splitlines()]
        report("inner kernel", f"{len(lines)} lines in {time.monotonic() - start:.0f} s; {found.text.strip()}")
        for line in lines:
            if line.startswith(("Linux version", "inner:", "Kernel panic")):
                report("inner kernel says", line)
    sys.exit(0 if "the guest ended" in found.text and "inner: slept, and ends" in found.before else 1)


def compiled() -> bytes:
    """kvm_monitor.c for riscv64 Linux, linked statically."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "kvm_monitor")
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl", "-static", "-O2", "-s"]
        source = Path(__file__).with_name("kvm_monitor.c")
        subprocess.run([*compiler, "-Wall", "-o", output, source], check=True)
        return output.read_bytes()


def modules(release: str) -> dict[str, bytes]:
    """KVM and what it needs, from the package in the cache."""
    package = next(wirt.paths.cache_dir().glob(f"debian/*/packages/linux-modules-{release}_*.deb"))
    wanted = re.compile(r".*/(kvm|irqbypass)\.ko(\.xz)?$")
    found = {}
    for path, packed in deb.members(package, lambda name: wanted.match(name) is not None):
        module = unpack(path.removeprefix("./"), packed)
        found[f"{module.name}.ko"] = module.content
    return found


def image(kernel: Path) -> bytes:
    """The flat image, also out of a compressed EFI one (zboot)."""
    data = kernel.read_bytes()
    if data[4:8] == b"zimg":
        offset, size = struct.unpack_from("<II", data, 8)
        return gzip.decompress(data[offset : offset + size])
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def inner_initrd() -> bytes:
    """The busybox of the outer one, and an init of its own."""
    package = next(wirt.paths.cache_dir().glob("debian/*/packages/busybox-static_*.deb"))
    busybox = next(content for _, content in deb.members(package, lambda name: name.endswith("bin/busybox")))
    archive = CpioWriter()
    for path in ("bin", "dev", "proc"):
        archive.directory(path)
    archive.character_device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox, 0o755)
    archive.file("init", INNER_INIT, 0o755)
    return gzip.compress(archive.finish(), compresslevel=6, mtime=0)


def device_tree(cmdline: str, initrd_size: int, cpus: int, imsic: bool) -> bytes:
    """A flattened device tree (Devicetree Specification 0.4, chapter 5) of CPUs, memory, and perhaps an IMSIC each."""
    strings, body = bytearray(), bytearray()

    def offset(name: str) -> int:
        key = name.encode() + b"\0"
        at = strings.find(b"\0" + key) + 1 if not strings.startswith(key) else 0
        if at == 0 and not strings.startswith(key):
            at = len(strings)
            strings.extend(key)
        return at

    def begin(name: str) -> None:
        body.extend(struct.pack(">I", 1) + name.encode() + b"\0")
        body.extend(bytes(-len(body) % 4))

    def end() -> None:
        body.extend(struct.pack(">I", 2))

    def put(name: str, value: bytes | str | list[int] = b"") -> None:
        if isinstance(value, str):
            value = value.encode() + b"\0"
        elif isinstance(value, list):
            value = b"".join(struct.pack(">I", cell) for cell in value)
        body.extend(struct.pack(">III", 3, len(value), offset(name)) + value)
        body.extend(bytes(-len(body) % 4))

    extensions = ["i", "m", "a", "f", "d", "c", "zicntr", "zicsr", "zifencei", "zihpm", "zba", "zbb", "zbs"]
    extensions += [*(["ssaia"] if imsic else []), "sstc"]
    begin("")
    put("#address-cells", [2])
    put("#size-cells", [2])
    put("compatible", "linux,dummy-virt")
    begin("chosen")
    put("bootargs", cmdline)
    put("linux,initrd-start", [0, INITRD])
    put("linux,initrd-end", [0, INITRD + initrd_size])
    end()
    begin("memory@80000000")
    put("device_type", "memory")
    put("reg", [0, 0x8000_0000, 0, 192 << 20])
    end()
    begin("cpus")
    put("#address-cells", [1])
    put("#size-cells", [0])
    put("timebase-frequency", [TIMEBASE])
    for cpu in range(cpus):
        begin(f"cpu@{cpu}")
        put("device_type", "cpu")
        put("compatible", "riscv")
        put("status", "okay")
        put("reg", [cpu])
        put("riscv,isa-base", "rv64i")
        put("riscv,isa-extensions", b"".join(name.encode() + b"\0" for name in extensions))
        put("riscv,isa", "rv64imafdc_" + "_".join(extensions[6:]))
        put("mmu-type", "riscv,sv57")
        begin("interrupt-controller")
        put("#interrupt-cells", [1])
        put("interrupt-controller")
        put("compatible", "riscv,cpu-intc")
        put("phandle", [1 + cpu])
        end()
        end()
    end()
    if imsic:
        begin("soc")
        put("compatible", "simple-bus")
        put("ranges")
        put("#address-cells", [2])
        put("#size-cells", [2])
        begin("imsics@28000000")
        put("compatible", "riscv,imsics")
        put("reg", [0, IMSIC, 0, cpus << 12])
        put("interrupts-extended", [cell for cpu in range(cpus) for cell in (1 + cpu, 9)])
        put("interrupt-controller")
        put("#interrupt-cells", [0])
        put("msi-controller")
        put("#msi-cells", [0])
        put("riscv,num-ids", [255])
        put("phandle", [100])
        end()
        end()
    end()
    body.extend(struct.pack(">I", 9))
    head = 40 + 16
    total = head + len(body) + len(strings)
    header = struct.pack(">10I", 0xD00DFEED, total, head, head + len(body), 40, 17, 16, 0, len(strings), len(body))
    return header + bytes(16) + bytes(body) + bytes(strings)


if __name__ == "__main__":
    main()
